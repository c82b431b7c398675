"""Where each microVM of this machine is: its directory, and its guest while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emberbox.guest.lines import OutputLines
from emberbox.guest.metadata import MetadataService
from emberbox.guest.output import DropOutput, OutputListener
from emberbox.machine import rules
from emberbox.machine.base import Keeper, Plan
from emberbox.machine.guest import Guest
from emberbox.machine.snapshot import ImageSnapshot, load_image_snapshot
from emberbox.model.hooks import Hook


@dataclass(eq=False)
class Held:
    """One microVM that this machine has.

    Attributes:
        directory: its files.
        guest: while it runs.
        hooks: those that its image has enabled, by name.
        output: makes lines of what its application writes; None drops that. A suspend does not end a line.
        metadata: answers the guest's metadata address.
        wait_for_room: see `Keeper`.
    """

    directory: Path
    guest: Guest | None = None
    hooks: Mapping[str, Hook] = field(default_factory=dict)
    output: OutputLines | None = None
    metadata: MetadataService | None = None
    wait_for_room: Callable[[], Awaitable[bool]] | None = None

    def begin(self, plan: Plan, keeper: Keeper) -> None:
        """Take note of who keeps it and how it is called; what it has of an earlier start goes on."""
        self.hooks = {hook.name: hook for hook in plan.hooks}
        if self.output is None and keeper.log is not None:
            self.output = OutputLines(keeper.log)
        if self.metadata is None:
            self.metadata = MetadataService(keeper.credentials)
        self.wait_for_room = keeper.wait_for_room

    @property
    def listener(self) -> OutputListener:
        """What gets the application's output."""
        return self.output or DropOutput()

    def hold(self, guest: Guest) -> None:
        """Take in a guest that runs."""
        self.guest = guest
        self.serve()

    def serve(self) -> None:
        """Answer the guest's metadata address, over the agent's present connection."""
        if self.guest is not None and self.metadata is not None:
            self.guest.serve_metadata(self.metadata.serve)


class Places:
    """Finds them.

    Attributes:
        microvms: what holds the directories of all of them.

    Args:
        home: the state directory; microVMs live under `microvms`, snapshots under `images`.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self.microvms = home / "microvms"
        self._held: dict[str, Held] = {}

    def directory(self, microvm_id: str) -> Path:
        """Return where a microVM's files are."""
        return self.microvms / microvm_id

    def scratch(self, name: str) -> Path:
        """Return where a build works, and a checkpoint is until it is kept."""
        return self._home / "builds" / name

    def images(self, image_id: str) -> Path:
        """Return where the snapshots of an image's versions are."""
        return self._home / "images" / image_id

    def image(self, image_id: str, version: str) -> Path:
        """Return where the snapshot of an image version is."""
        return self.images(image_id) / version

    def hold(self, microvm_id: str) -> Held:
        """Return a microVM, known from now on."""
        return self._held.setdefault(microvm_id, Held(self.directory(microvm_id)))

    def forget(self, microvm_id: str) -> None:
        """Know it no more."""
        self._held.pop(microvm_id, None)

    def find_guest(self, microvm_id: str) -> Guest | None:
        """Return the guest of a microVM that runs."""
        held = self._held.get(microvm_id)
        return None if held is None else held.guest

    def check(self, call: str, microvm_id: str) -> Held:
        """Return a microVM about which something may be asked now.

        Raises:
            VmmError: that may not be (`rules.py`).
        """
        rules.check(call, microvm_id, runs=self.find_guest(microvm_id) is not None)
        return self.hold(microvm_id)

    def guest(self, call: str, microvm_id: str) -> Guest:
        """Return the guest of a microVM that must run for what is asked.

        Raises:
            VmmError: it does not run.
        """
        guest = self.check(call, microvm_id).guest
        assert guest is not None, "the rules have seen it"
        return guest

    def load_snapshot(self, image_id: str, version: str) -> ImageSnapshot:
        """Return the snapshot of an image version.

        Raises:
            HostError: it is missing or damaged.
        """
        return load_image_snapshot(self.image(image_id, version))

    def base(self, plan: Plan) -> ImageSnapshot:
        """Return what a microVM starts from: a fork, or one that was rolled back, has a base of its own.

        Raises:
            HostError: it is missing or damaged.
        """
        base = self.directory(plan.microvm_id) / "base"
        if plan.own_base or base.exists():  # its image's in its place would be another microVM
            return load_image_snapshot(base)
        return self.load_snapshot(plan.image_id, plan.version)
