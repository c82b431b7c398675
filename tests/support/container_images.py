"""Container images made by hand, as archives and in a small registry on loopback."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OCI = "application/vnd.oci.image"
MANIFEST, INDEX, CONFIG = f"{OCI}.manifest.v1+json", f"{OCI}.index.v1+json", f"{OCI}.config.v1+json"
LAYER, LAYER_GZIP = f"{OCI}.layer.v1.tar", f"{OCI}.layer.v1.tar+gzip"
USER, PASSWORD, TOKEN = "somebody", "a:pass word", "the-token"


def digest_of(content: bytes) -> str:
    """Return the digest of a blob."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def entry(name: str, content: bytes = b"", **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    """Return an entry of a layer; `more` are attributes of `TarInfo`."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o755
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def make_tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return an archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file to an archive."""
    archive.addfile(entry(name, content)[0], io.BytesIO(content))


@dataclass
class MadeImage:
    """An image, each part of which a test may spoil.

    Args:
        layers: tar archives, the lowest first.
        settings: the `config` of its config.
        platform: `os/architecture`.
        is_packed: its layers are compressed by gzip.
        layer_type: their media type, where it is not what they are.
        diff_ids: those of the config, where they are not the layers'.
    """

    layers: Sequence[bytes]
    settings: dict[str, Any] = field(default_factory=lambda: {"Cmd": ["/bin/true"]})
    platform: str = "linux/amd64"
    is_packed: bool = True
    layer_type: str | None = None
    diff_ids: Sequence[str] | None = None

    @cached_property
    def config(self) -> bytes:
        """The text of its config."""
        stated = dict(zip(("os", "architecture"), self.platform.split("/"), strict=False)) if self.platform else {}
        diff_ids = self.diff_ids if self.diff_ids is not None else [digest_of(layer) for layer in self.layers]
        root = {"type": "layers", "diff_ids": list(diff_ids)}
        return json.dumps({**stated, "config": self.settings, "rootfs": root}).encode()

    @cached_property
    def blobs(self) -> list[bytes]:
        """Its layers as they are in a registry."""
        return [gzip.compress(layer, 1, mtime=0) if self.is_packed else layer for layer in self.layers]

    @cached_property
    def manifest(self) -> bytes:
        """The text of its manifest."""
        layer_type = self.layer_type or (LAYER_GZIP if self.is_packed else LAYER)
        layers = [describe(layer_type, blob) for blob in self.blobs]
        config = describe(CONFIG, self.config)
        return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}).encode()

    def all_blobs(self) -> dict[str, bytes]:
        """Return its manifest, config and layers by their digests."""
        return {digest_of(blob): blob for blob in (self.manifest, self.config, *self.blobs)}


def describe(media_type: str, content: bytes, **more: Any) -> dict[str, Any]:
    """Return the descriptor of a blob."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


def make_index(*images: MadeImage) -> bytes:
    """Return an index of images with their platforms, and of an attestation, as BuildKit makes it."""
    manifests = [
        describe(MANIFEST, image.manifest, platform=dict(zip(("os", "architecture"), image.platform.split("/"))))  # noqa: B905
        for image in images
    ]
    manifests.append(describe(MANIFEST, b"{}", platform={"os": "unknown", "architecture": "unknown"}))
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()


def oci_archive(
    *images: MadeImage, spoil: Callable[[dict[str, bytes]], object] = lambda _blobs: None, index: bytes | None = None
) -> bytes:
    """Return a tar of an OCI layout; `spoil` may change its blobs, by their digests."""
    blobs: dict[str, bytes] = {}
    for image in images:
        blobs |= image.all_blobs()
    spoil(blobs)
    named = {"schemaVersion": 2, "manifests": [describe(MANIFEST, image.manifest) for image in images]}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        add(archive, "./index.json", json.dumps(named).encode() if index is None else index)
        for digest, blob in blobs.items():
            add(archive, f"blobs/{digest.replace(':', '/')}", blob)
    return buffer.getvalue()


def docker_archive(*images: MadeImage) -> bytes:
    """Return what an older `docker save` writes: a layer that is there twice is a link the second time."""
    buffer, told, written = io.BytesIO(), [], dict[str, str]()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for image in images:
            names = []
            for number, layer in enumerate(image.layers):
                names.append(f"{number:064}/layer.tar")
                first = written.setdefault(digest_of(layer), names[-1])
                if first == names[-1]:
                    add(archive, names[-1], layer)
                else:
                    archive.addfile(entry(names[-1], type=tarfile.SYMTYPE, linkname=f"../{first}")[0])
            name = f"{hashlib.sha256(image.config).hexdigest()}.json"
            add(archive, name, image.config)
            told.append({"Config": name, "RepoTags": ["app:latest"], "Layers": names})
        add(archive, "manifest.json", json.dumps(told).encode())
    return buffer.getvalue()


class SmallRegistry(ThreadingHTTPServer):
    """A registry without TLS, on a free port of loopback.

    Attributes:
        documents: manifests and indexes by tag or digest, each with its media type.
        blobs: by digest.
        wants: `""`, `"basic"` or `"bearer"`: how it asks for a login.
        failures: how many requests it still answers with 503.
        blobs_elsewhere: another server's address, where it sends those to who ask for blobs.
        asked: paths and values of Authorization, in order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answerer)
        self.documents: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.wants = ""
        self.failures = 0
        self.blobs_elsewhere = ""
        self.asked: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        """Its host and port."""
        return f"127.0.0.1:{self.server_port}"

    def push(self, tag: str, *images: MadeImage) -> None:
        """Take in an image, or an index of several."""
        for image in images:
            self.documents[digest_of(image.manifest)] = MANIFEST, image.manifest
            self.blobs |= image.all_blobs()
        self.documents[tag] = (
            (MANIFEST, images[0].manifest) if len(images) == 1 else (INDEX, make_index(*images))
        )  # fmt: skip
        content = self.documents[tag][1]
        self.documents[digest_of(content)] = self.documents[tag]


class _Answerer(BaseHTTPRequestHandler):
    server: SmallRegistry

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        self.server.asked.append((self.path, given))
        if self.server.failures:
            self.server.failures -= 1
            self._answer(503, "", b"")
        elif self.path.startswith("/token?"):
            self._give_token(given)
        elif (asked := self._challenge(given)) is not None:
            self._answer(401, "", b"", ("WWW-Authenticate", asked))
        else:
            self._give(*self.path.rsplit("/", 2)[1:])

    def _challenge(self, given: str | None) -> str | None:
        address = self.server.address
        if self.server.wants == "bearer" and given != f"Bearer {TOKEN}":
            return f'Bearer realm="http://{address}/token",service="{address}",scope="repository:x:pull"'
        return 'Basic realm="here"' if self.server.wants == "basic" and given != basic() else None

    def _give_token(self, given: str | None) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        is_right = given == basic() and query["scope"] == ["repository:x:pull"]
        self._answer(200 if is_right else 401, "", json.dumps({"token": TOKEN}).encode())

    def _give(self, kind: str, name: str) -> None:
        if kind == "blobs" and self.server.blobs_elsewhere:
            self._answer(307, "", b"", ("Location", f"http://{self.server.blobs_elsewhere}{self.path}"))
        elif kind == "blobs" and name in self.server.blobs:
            self._answer(200, "application/octet-stream", self.server.blobs[name])
        elif kind == "manifests" and name in self.server.documents:
            self._answer(200, *self.server.documents[name])
        else:
            self._answer(404, "", b"{}")

    def _answer(self, status: int, media_type: str, content: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", media_type), ("Content-Length", str(len(content))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def basic() -> str:
    """Return the Authorization of USER."""
    return "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def logins(registry: str) -> str:
    """Return a file with the login of USER at a registry, as `docker login` writes it."""
    return json.dumps({"auths": {registry: {"auth": basic().removeprefix("Basic ")}}})


@contextlib.contextmanager
def small_registry() -> Iterator[SmallRegistry]:
    """Run a registry for as long as the block lasts."""
    with SmallRegistry() as registry:
        thread = threading.Thread(target=registry.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield registry
        finally:
            registry.shutdown()
            thread.join()
