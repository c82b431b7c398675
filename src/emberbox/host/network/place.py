"""A server's place among those that share a machine: an instance, with its slots and its rules on the host."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from emberbox import process
from emberbox.host.network.commands import apply_rules
from emberbox.host.network.rules import render_host_rules, table_name
from emberbox.host.network.slots import INSTANCES
from emberbox.model.errors import HostError


class PlaceNote:
    """The note in a home of the place that its server holds, for the next one to go on with it.

    It also names the home itself: in a copy of a home the note means another server's place, and does not count.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "runtime" / "network-instance"
        status = home.stat()
        self._owner = f"{status.st_dev}:{status.st_ino}"

    def read(self) -> int | None:
        """Return the place that is noted."""
        try:
            instance, owner = self._path.read_text().split()
            return int(instance) if owner == self._owner else None
        except (OSError, ValueError):
            return None

    def write(self, instance: int) -> None:
        """Note a place."""
        self._path.write_text(f"{instance} {self._owner}\n")

    def forget(self) -> None:
        """Drop the note."""
        self._path.unlink(missing_ok=True)


async def take_place(network: ipaddress.IPv4Network, users: tuple[int, ...]) -> int:
    """Take a free place and set its rules on the host.

    Making the table is what reserves the place: nftables refuses a second one of the same name.

    Raises:
        HostError: the kernel or the privileges do not allow it, or all are taken.
    """
    for instance in range(INSTANCES):
        try:
            await process.run(["nft", "create", "table", "inet", table_name(instance)])
        except process.CommandError as error:
            if error.returncode == 1 and "File exists" in str(error):
                continue
            raise HostError(f"networks for microVMs cannot be made: {error}") from error
        await apply_rules(render_host_rules(instance, network, users))
        return instance
    raise HostError(f"{INSTANCES} Emberbox servers hold networks on this machine already")


async def renew_place(instance: int, network: ipaddress.IPv4Network, users: tuple[int, ...]) -> None:
    """Go on with an earlier server's place: its rules are replaced at once, so nothing passes in between.

    Raises:
        HostError: the rules cannot be set.
    """
    rules = render_host_rules(instance, network, users)
    await apply_rules(f"delete table inet {table_name(instance)}\n{rules}")


async def leave_place(instance: int) -> None:
    """Remove the rules on the host; another server may take the place then."""
    await process.run(["nft", "delete", "table", "inet", table_name(instance)], check=False)
