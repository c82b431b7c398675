"""What template builds need, without S3 and without builds: objects in a directory, and builds that only say so."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import threading
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from emberbox.images.base import BuildLog, BuildPlan
from emberbox.model.errors import BuildError
from emberbox.model.logs import log_stream_name
from emberbox.model.sizes import SnapshotSizes
from support.plain_machine import Disk


class FakeS3:
    """The calls of boto3's client that are made, and an address that takes what is put.

    Args:
        directory: has the objects.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._url = ""
        self.puts = 0

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Take what is put for as long as the block lasts."""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                outer.path(self.path.lstrip("/")).write_bytes(data)
                outer.puts += 1
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            self._url = f"http://127.0.0.1:{server.server_port}"
            try:
                yield
            finally:
                await asyncio.to_thread(server.shutdown)

    def path(self, name: str) -> Path:
        """Return the file of an object, `bucket/key`."""
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def create_bucket(self, **_: Any) -> None:
        """See boto3."""

    def head_object(self, **place: str) -> dict[str, int]:
        """See boto3."""
        path = self.path(f"{place['Bucket']}/{place['Key']}")
        if not path.exists():
            raise ClientError({"Error": {"Code": "404"}}, "HeadObject")
        return {"ContentLength": path.stat().st_size}

    def generate_presigned_url(self, _operation: str, **more: Any) -> str:
        """See boto3."""
        assert more["ExpiresIn"] > 0
        return f"{self._url}/{more['Params']['Bucket']}/{more['Params']['Key']}"

    def upload_file(self, name: str, bucket: str, key: str) -> None:
        """See boto3."""
        self.path(f"{bucket}/{key}").write_bytes(Path(name).read_bytes())

    def download_file(self, bucket: str, key: str, name: str) -> None:
        """See boto3."""
        Path(name).write_bytes(self.path(f"{bucket}/{key}").read_bytes())

    def open_zip(self, uri: str) -> zipfile.ZipFile:
        """Open an artifact."""
        return zipfile.ZipFile(self.path(uri.removeprefix("s3://")))


class FakeBuilds:
    """Builds that say some lines; see `images.base.Builds`.

    Args:
        disk: gets the snapshots.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.plans: list[BuildPlan] = []
        self.lines: list[str] = ["Building the Dockerfile"]
        self.error: BuildError | None = None
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def run(self, plan: BuildPlan, build_log: BuildLog) -> SnapshotSizes:
        """See there."""
        self.plans.append(plan)
        stream = build_log.stream(log_stream_name("0.0", plan.build_id))
        for line in self.lines:
            stream.write(line)
        await self.may_end.wait()
        if self.error is not None:
            stream.write(f"FAILED: {self.error}")
            raise self.error
        stream.write("SUCCESSFUL")
        self._disk.images[plan.image_id, plan.version] = {}
        return SnapshotSizes(1, 1, 1)
