"""Two engines in one server: images choose by a tag, and everything of a microVM's life goes its own engine's way."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from support.aws import Clients
from support.guests import Gateway, Microvm, again
from support.images import Image, ImageMaker, probe_files
from support.server import Server, make_home
from support.waiting import wait_for

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has gVisor as an engine"),
]

TAG = "emberbox:engine"
REFUSED = rf"'{TAG}'.*EMBERBOX_RUNSC is /nonexistent/runsc.*Leave the tag"


@dataclass
class Both:
    """One image and one microVM of each engine; `microvms` are other objects after a restart."""

    server: Server
    images: dict[str, Image]
    microvms: dict[str, Microvm]

    def gateway(self) -> Gateway:
        """Connect to the server as it is now."""
        return Gateway(self.server, Clients.of(self.server))


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server of QEMU's. It prepares no microVMs: the processes are looked at."""
    with Server(make_home(), engine="qemu", warm_pool="0").running() as server:
        yield server


@pytest.fixture(scope="module")
def both(own: Server) -> Both:
    """Both images are built side by side, and a microVM of each runs."""
    gateway = Gateway(own, Clients.of(own))
    maker = ImageMaker(gateway.clients, own.endpoints["region"])
    assert [one["name"] for one in gateway.clients.emberbox.describe_server()["engines"]] == ["qemu"]
    assert "runsc" not in own.log_path.read_text()  # who does not ask for it starts nothing of it
    images = {
        "gvisor": maker.start("in-gvisor", probe_files(), tags={TAG: "gvisor"}),
        "qemu": maker.start("in-qemu", probe_files()),
    }
    microvms = {name: Microvm.launch(gateway, maker.wait_created(image)) for name, image in images.items()}
    for microvm in microvms.values():
        microvm.wait_state("RUNNING")
    return Both(own, images, microvms)


def engine_of(directory: Path, file: str) -> str:
    """Return which engine has saved what is in a directory."""
    name = json.loads((directory / file).read_text().partition("\n")[0])["engine"]["vmm"]
    return str(name).lower()


def test_both_are_told_with_their_boundaries(both: Both) -> None:
    described = both.gateway().clients.emberbox.describe_server()
    qemu, gvisor = described["engines"]
    assert (qemu["name"], qemu["isDefault"], qemu["boundary"]) == ("qemu", True, described["boundary"])
    assert (gvisor["name"], gvisor["isDefault"], gvisor["boundary"]) == ("gvisor", False, "user-space kernel")
    assert "ask for the engine gvisor run with gVisor" in both.server.log_path.read_text()
    status = subprocess.run(
        both.server.command("status"), env=both.server.environment, capture_output=True, text=True, check=True
    )
    assert "guests on gvisor" in status.stdout
    assert "the boundary is a user-space kernel" in status.stdout


def test_each_is_suspended_and_resumed_on_its_own_engine(both: Both) -> None:
    for name, microvm in both.microvms.items():
        counted = microvm.get()["count"]
        is_gvisor = "gvisor" in microvm.shell("cat /proc/version; dmesg 2>/dev/null | head -20").lower()
        assert is_gvisor == (name == "gvisor")
        microvm.shell("echo kept > /data/file")
        microvm.suspend()
        assert engine_of(both.server.microvm_directory(microvm.id), "suspended.json") == name
        microvm.resume()
        assert microvm.shell("cat /data/file") == "kept\n"
        assert microvm.get()["count"] > counted


def test_each_is_forked_running_and_suspended(both: Both) -> None:
    gateway = both.gateway()
    for name, microvm in both.microvms.items():
        for is_suspended in (False, True):
            microvm.shell("echo forked > /dev/shm/memory")
            if is_suspended:
                microvm.suspend()
            (item,) = gateway.clients.emberbox.fork_microvm(microvmIdentifier=microvm.id, count=1)["items"]
            fork = Microvm(item["microvmId"], item["endpoint"], gateway)
            fork.wait_state("RUNNING")
            assert engine_of(both.server.microvm_directory(fork.id) / "base", "snapshot.json") == name
            assert fork.shell("cat /dev/shm/memory") == "forked\n"
            fork.terminate()
            fork.wait_ended()
            if is_suspended:
                microvm.resume()


def test_the_next_server_takes_both_over_and_still_has_both_engines(both: Both) -> None:
    running = both.microvms
    suspended = {name: Microvm.launch(both.gateway(), image) for name, image in both.images.items()}
    for microvm in suspended.values():
        microvm.wait_state("RUNNING")
        microvm.suspend()
    pids = {name: microvm.vmm_pid for name, microvm in running.items()}
    counted = {name: microvm.get()["count"] for name, microvm in running.items()}
    both.server.kill()
    both.server.start()
    gateway = both.gateway()
    both.microvms = {name: again(microvm, gateway) for name, microvm in running.items()}
    for name, microvm in both.microvms.items():
        microvm.wait_state("RUNNING")
        assert microvm.vmm_pid == pids[name]
        assert microvm.get()["count"] == counted[name] + 1
        kept = again(suspended[name], gateway)
        assert kept.state() == "SUSPENDED"
        kept.resume()
        kept.get()
        kept.terminate()
        kept.wait_ended()
    assert [one["name"] for one in gateway.clients.emberbox.describe_server()["engines"]] == ["qemu", "gvisor"]
    launched = Microvm.launch(gateway, both.images["gvisor"])
    launched.wait_state("RUNNING")
    launched.terminate()


def test_everything_of_both_goes_when_they_end(both: Both) -> None:
    for microvm in both.microvms.values():
        microvm.terminate()
        assert microvm.wait_ended() == "Success."
    both.server.stop()  # it looks whether anything is left
    both.server.start()


def test_where_gvisor_is_missing_the_tag_is_refused_and_the_server_serves_on() -> None:
    server = Server(make_home(), engine="qemu", runsc="/nonexistent/runsc")
    try:
        server.start()
        clients = Clients.of(server)
        maker = ImageMaker(clients, server.endpoints["region"])
        asked = maker.request("refused", b"no zip")
        for _ in range(2):
            with pytest.raises(
                ClientError, match=rf"'{TAG}'.*EMBERBOX_RUNSC is /nonexistent/runsc.*Leave the tag"
            ) as refused:
                clients.microvms.create_microvm_image(**asked, tags={TAG: "gvisor"})
            assert refused.value.response["Error"]["Code"] == "ValidationException"
        image = maker.start("untagged", b"no zip")
        maker.wait(image)
        with pytest.raises(ClientError, match=REFUSED):
            clients.microvms.tag_resource(Resource=image.arn, Tags={TAG: "gvisor"})
        with suppress(ClientError):
            clients.microvms.delete_microvm_image(imageIdentifier=image.arn)
        assert wait_for("it still answers", lambda: clients.emberbox.describe_server()["engines"], 10)
    finally:
        server.remove()
