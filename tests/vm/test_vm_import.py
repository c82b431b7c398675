"""Images of containers that are there already: from a registry and from archives to microVMs that answer."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emberbox import process
from emberbox.images.builders import ContainerBuild, ContainerBuilder, HostBuilder
from emberbox.images.containers import Containers
from emberbox.images.importer import ImageImporter, of_host
from emberbox.images.managed import ManagedImages
from emberbox.model.errors import BuildError
from emberbox.time_limits import limit_s
from support import shell
from support.aws import Clients
from support.build_bench import PLAN, BuildBench, build_bench
from support.container_images import MadeImage, SmallRegistry, entry, logins, make_tar, oci_archive, small_registry
from support.guests import Gateway, Microvm
from support.images import PROBE, Image, ImageMaker
from support.server import DOMAIN, Server, make_home

pytestmark = pytest.mark.vm

IMPORT_TIMEOUT_S = limit_s(400)
SETTINGS = {
    "Entrypoint": ["perl"], "Cmd": ["/app/probe.pl"], "WorkingDir": "/app", "User": "www-data:daemon",
    "Env": ["PATH=/usr/bin:/bin", "GREETING=from the config", "CHANGED=no"], "ExposedPorts": {"8080/tcp": {}},
    "StopSignal": "SIGQUIT",
}  # fmt: skip


@dataclass
class Importer:
    """A server that knows a registry on loopback, and its command line."""

    server: Server
    clients: Clients
    registry: SmallRegistry

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.server.command(*arguments), env=self.server.environment, text=True, capture_output=True,
            timeout=IMPORT_TIMEOUT_S,
        )  # fmt: skip

    def take(self, name: str, source: str, *more: str) -> Image:
        """Import an image that must succeed."""
        done = self.run("images", "import", name, source, "--memory", "512", *more)
        assert done.returncode == 0, done.stdout + done.stderr
        return Image(name, done.stdout.split()[-1])


@pytest.fixture(scope="module")
def importer() -> Iterator[Importer]:
    home = make_home()
    with small_registry() as registry:
        file = home.parent / "config.json"
        file.write_text(logins(registry.address))
        server = Server(home, domain=DOMAIN, registries=f"http://{registry.address}", registry_auth=str(file))
        try:
            server.start()
            yield Importer(server, Clients.of(server), registry)
        finally:
            server.remove()


def probe_layers(home: Path) -> list[bytes]:
    """Return the layers of an image with the probe application, and something that a layer takes away."""
    first = make_tar(
        entry("app", type=tarfile.DIRTYPE), entry("app/probe.pl", PROBE.read_bytes()), entry("app/gone", b"x"),
        entry("data", type=tarfile.DIRTYPE, mode=0o777),
        entry("app/twin", type=tarfile.LNKTYPE, linkname="app/probe.pl"),
    )  # fmt: skip
    return [(home / "base/debian12.tar").read_bytes(), first, make_tar(entry("app/.wh.gone"))]


def test_an_image_of_a_registry_becomes_a_microvm(importer: Importer) -> None:
    server, registry = importer.server, importer.registry
    registry.push("1", MadeImage(probe_layers(server.home), SETTINGS))
    registry.wants = "bearer"
    image = importer.take("imported", f"{registry.address}/x:1", "--env", "CHANGED=yes")
    log = ImageMaker(importer.clients, server.endpoints["region"]).log(image, "SUCCESSFUL")
    assert "NOTE: STOPSIGNAL has no effect on a microVM" in log
    gateway = Gateway(server, importer.clients)
    connectors = shell.ingress(server.endpoints["region"], "SHELL_INGRESS", "HTTP_INGRESS")
    microvm = Microvm.launch(gateway, image, ingressNetworkConnectors=connectors)
    try:
        microvm.wait_state("RUNNING")
        assert microvm.shell("pwd; id -un; id -gn; echo $GREETING; echo $CHANGED; ls").split("\n")[:-1] == [
            "/app", "www-data", "daemon", "from the config", "yes", "probe.pl", "twin",
        ]  # fmt: skip
        done = importer.run("exec", microvm.id, "--", "stat", "-c", "%h", "/app/twin")
        assert (done.returncode, done.stdout) == (0, "2\n")
    finally:
        microvm.terminate()
        microvm.wait_ended()
        gateway.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="buildah works otherwise for other users, and is not tested here")
def test_what_buildah_pushes_is_taken_and_makes_a_second_version(importer: Importer, tmp_path: Path) -> None:
    store = ["--root", str(tmp_path / "s"), "--runroot", str(tmp_path / "r"), "--storage-driver", "vfs"]

    def buildah(*arguments: str) -> str:
        return subprocess.run(
            ["buildah", *store, *arguments], check=True, text=True, capture_output=True
        ).stdout.strip()  # fmt: skip

    shutil.copy(PROBE, tmp_path)
    container = buildah("from", "scratch")
    buildah("add", container, str(importer.server.home / "base/debian12.tar"), "/")
    buildah("copy", container, str(tmp_path / PROBE.name), "/probe.pl")
    buildah("config", "--cmd", '["perl", "/probe.pl"]', "--port", "8080", container)
    image = buildah("commit", container)
    buildah("push", image, f"docker-archive:{tmp_path}/docker.tar:app:1")
    buildah("push", image, f"oci:{tmp_path}/layout:1")
    first = importer.take("pushed", str(tmp_path / "docker.tar"))
    assert importer.take("pushed", str(tmp_path / "layout")) == first
    versions = importer.clients.microvms.list_microvm_image_versions(imageIdentifier=first.arn)["items"]
    assert [(one["imageVersion"], one["state"]) for one in versions] == [("2.0", "SUCCESSFUL"), ("1.0", "SUCCESSFUL")]
    bucket = importer.clients.s3.list_buckets()["Buckets"][0]["Name"]
    assert "Contents" not in importer.clients.s3.list_objects_v2(Bucket=bucket)


def test_what_cannot_be_had_is_said(importer: Importer) -> None:
    done = importer.run("images", "import", "missing", f"{importer.registry.address}/x:none")
    assert done.returncode == 1
    assert "it has no such image; check name and tag" in done.stdout
    assert "missing 1.0 failed: CONTAINER_BUILD_FAILED" in done.stderr


HOSTILE: dict[str, Any] = {"Cmd": ["/app"], "User": "nobody-here"}
"""Everything is unpacked before it is refused."""


async def load(builder: ContainerBuilder, home: Path, image: MadeImage) -> list[str]:
    """Have a builder unpack an image of an archive; return the log."""
    directory, lines = Path(tempfile.mkdtemp(dir=home)), list[str]()

    async def take(line: str) -> None:
        lines.append(line)

    (directory / "artifact").write_bytes(oci_archive(image))
    limits = (1 << 30, 1 << 30, 600.0)
    await ImageImporter().gather(PLAN, directory / "artifact", directory / "context", limits, take)
    work = ContainerBuild(
        PLAN, directory, directory / "context", directory / "root.erofs", 600, lines.append, take
    )  # fmt: skip
    try:
        await builder.load(work)
        (directory / "root.erofs").replace(home / "last.erofs")
    finally:
        await asyncio.to_thread(shutil.rmtree, directory)
    return lines


def through_links(outside: Path) -> MadeImage:
    """Return an image whose links lead to a directory of the host's, and whose files go through them."""
    up = "../" * 20
    return MadeImage(
        [
            make_tar(
                entry("abs", type=tarfile.SYMTYPE, linkname=str(outside)), entry("abs/one", b"x"),
                entry("rel", type=tarfile.SYMTYPE, linkname=f"{up}{outside}"), entry("rel/two", b"x"),
                entry("hard", type=tarfile.LNKTYPE, linkname="abs/canary"),
            ),
            make_tar(entry("abs/three", b"x"), entry("rel/.wh.canary")),
        ],
        HOSTILE,
    )  # fmt: skip


@pytest.fixture
async def bench() -> AsyncIterator[BuildBench]:
    async with build_bench() as bench:
        yield bench


@pytest.mark.parametrize("where", ["host", "sandbox"])
@pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes of builds need networks of their own, which root makes")
async def test_links_of_layers_lead_nowhere_on_the_host(where: str, tmp_path: Path, bench: BuildBench) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/canary").write_text("safe")
    builder: ContainerBuilder = bench.builder
    if where == "host":
        builder = HostBuilder(
            Containers(bench.home / "c"), ManagedImages(Containers(bench.home / "c"), tmp_path), of_host
        )
    with pytest.raises(BuildError):
        await load(builder, bench.home, through_links(tmp_path / "outside"))
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["canary"]
    assert (tmp_path / "outside/canary").read_text() == "safe"


@pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes of builds need networks of their own, which root makes")
async def test_an_image_is_unpacked_in_a_sandbox(bench: BuildBench) -> None:
    """Links, whiteouts and owners are as in the image; buildah on the host makes the same."""
    users = b"root:x:0:0::/root:/bin/sh\nme:x:7:8::/home/me:/bin/sh\n"
    image = MadeImage(
        [
            make_tar(
                entry("etc/passwd", users), entry("app", b"#!/bin/sh\n", uid=7), entry("old/a"), entry("old/b"),
                entry("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
                entry("twin", type=tarfile.LNKTYPE, linkname="app"), entry("gone"),
            ),
            make_tar(entry(".wh.gone"), entry("old/.wh..wh..opq"), entry("old/c", b"new")),
            bytes(1024),
        ],
        {"Cmd": ["/app"], "User": "me"},
    )  # fmt: skip
    seen = []
    containers = Containers(bench.home / "c")
    for builder in (bench.builder, HostBuilder(containers, ManagedImages(containers, bench.home), of_host)):
        await load(builder, bench.home, image)
        out = bench.home / "out"
        await process.run(["fsck.erofs", f"--extract={out}", bench.home / "last.erofs"])
        seen.append(
            sorted((str(path.relative_to(out)), path.lstat().st_mode, path.lstat().st_uid, path.lstat().st_nlink)
                   for path in out.rglob("*") if not path.is_relative_to(out / "usr"))
        )  # fmt: skip
        await asyncio.to_thread(shutil.rmtree, out)
    names = [name for name, *_ in seen[0]]
    assert {"app", "twin", "old/c", "etc/passwd"} <= set(names)
    assert not {"gone", "old/a", "old/b"} & set(names)
    assert seen[0] == seen[1]
