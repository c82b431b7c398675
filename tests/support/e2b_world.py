"""E2B's edge over a real control plane and a machine without microVMs, whose guests' commands run on this machine."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

from emberbox.control.assembly import Control, ControlSettings, Ground, make_control
from emberbox.control.endpoints.tokens import TokenKeys
from emberbox.control.microvms.recovery import Recovery
from emberbox.control.microvms.runners import Runners
from emberbox.control.requests.paging import PageTokens
from emberbox.control.sandboxes.assembly import make_templates
from emberbox.control.sandboxes.sandbox_logs import SandboxLogs
from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.control.sandboxes.uploads import UploadLimits, Uploads
from emberbox.edges.asgi import serve
from emberbox.edges.e2b.app import E2bEdge, Offer
from emberbox.edges.sandboxes import api_keys
from emberbox.edges.sandboxes.interpreter import Program
from emberbox.host.space import DiskSpace
from emberbox.machine.base import Command, GuestCommand, SuspendFigures
from emberbox.model.iam.access import Credential
from emberbox.model.records import Image
from support.control_plane import ControlPlane
from support.e2b_builds import FakeBuilds, FakeS3
from support.local_guest import LocalCommand
from support.plain_machine import Disk, FakeCheckpoints, FakeLeftovers, FakeMachine
from support.wire import KEY, REGION


class LocalMachine(FakeMachine):
    """The fake machine, with commands that run here.

    Args:
        disk: what is there already.
        home: has a directory for each guest.
    """

    def __init__(self, disk: Disk, home: Path) -> None:
        super().__init__(disk)
        self._home = home
        self.commands: dict[str, list[LocalCommand]] = {}

    def home(self, microvm_id: str) -> Path:
        """Return a guest's directory."""
        directory = self._home / microvm_id
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    async def open_command(self, microvm_id: str, command: Command) -> GuestCommand:
        """See `base.Machine`."""
        self._find("open_command", microvm_id)
        opened = await LocalCommand(command, self.home(microvm_id)).start()
        self.commands.setdefault(microvm_id, []).append(opened)
        return cast("GuestCommand", opened)

    async def suspend(self, microvm_id: str) -> SuspendFigures:
        """See `base.Machine`."""
        figures = await super().suspend(microvm_id)
        for command in self.commands.get(microvm_id, []):
            command.cut_off()
        return figures

    async def close(self) -> None:
        """End every command."""
        for commands in self.commands.values():
            for command in commands:
                await command.end()


class E2bPlane(ControlPlane):
    """The control plane over such a machine, and E2B's edge in front of it."""

    url: str
    local: LocalMachine
    builds: FakeBuilds
    s3: FakeS3
    edge: E2bEdge
    standard_template = "standard"

    def _make_control(self, pages: PageTokens) -> Control:
        runners, disk = Runners(), Disk()
        self.disk = disk
        self.local = LocalMachine(disk, self.directory / "guests")
        self.builds = FakeBuilds(disk)
        self.s3 = FakeS3(self.directory / "s3")
        space = DiskSpace(self.directory, 0)
        nothing: Any = None
        ground = Ground(
            stores=self._stores, access=self.access, page_tokens=pages,
            token_keys=TokenKeys(self.directory / "secrets/tokens.json"), log_writer=self._log_writer,
            machine=self.local, checkpoints=FakeCheckpoints(self.local), snapshots=nothing, pool=nothing,
            engines=nothing, builds=self.builds, room=space, measure_host=nothing, runners=runners,
            revoke=lambda _: None, drain=_no_requests,
        )  # fmt: skip
        settings = ControlSettings(
            home=self.directory, region=self.region, managed_since=nothing, concurrent_builds=1,
            event_retention_s=3600.0, architectures=self.architectures, standard_template=self.standard_template,
        )  # fmt: skip
        return make_control(settings, ground)

    def add_template(self, name: str) -> Image:
        """Store an image that can be launched."""
        image = self.add_image(name)
        self.disk.images[image.id, "1.0"] = {}
        return image

    @property
    def api_key(self) -> str:
        """E2B's form of the first key."""
        return api_key_of(self.credential)


async def _no_requests(_microvm_id: str) -> None:
    """There is no gateway."""


def api_key_of(credential: Credential) -> str:
    """Return E2B's form of a key."""
    return api_keys.write_api_key(api_keys.E2B, credential.access_key_id, credential.secret_access_key)


@contextlib.asynccontextmanager
async def serve_e2b(directory: Path, program: Program | None = None, tls_domain: str = "") -> AsyncIterator[E2bPlane]:
    """Serve E2B's API, with one template, for as long as the block lasts.

    Args:
        directory: has the state.
        program: the interpreter of code.
        tls_domain: what names of sandboxes end with at a gateway.
    """
    plane = E2bPlane(directory, KEY, REGION)
    plane._log_writer.start()
    plane.control.launcher.recover(Recovery(FakeLeftovers(plane.disk), []))
    control = plane.control
    uploads = Uploads(lambda _caller: plane.s3, directory / "scratch", UploadLimits(1 << 20, 1 << 20))
    templates = make_templates(control.sandboxes, control.images, control.versions, plane.logs, uploads)
    plane.edge = E2bEdge(
        Offer(
            sandboxes=control.sandboxes, templates=templates,
            logs=SandboxLogs(control.sandboxes.images, plane.logs),
            tokens=SandboxTokens(directory / "secrets/sandboxes.key"),
            guard=plane.access, region=REGION, domain="localhost", program=program,
            tls_domain=tls_domain,
        )
    )  # fmt: skip
    plane.add_template("standard")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        plane.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with serve(plane.edge, listener, 75), plane.s3.serve():
                yield plane
        finally:
            await templates.builds.close()
            await plane.edge.close()
            await control.sandboxes.service.close()
            await plane.close()
            await plane.local.close()
