"""What `ip` and `nft` do for networks, and whether they can do it here."""

from __future__ import annotations

import errno
import os
import tempfile

from emberbox import process
from emberbox.host.network.rules import render_namespace_rules, table_name
from emberbox.host.network.slots import NETNS_DIRECTORY, Slot
from emberbox.model.errors import HostError


async def ip_batch(namespace: str | None, *lines: str) -> None:
    """Run lines of `ip` together, in a namespace or on the host.

    Raises:
        HostError: one of them cannot be done.
    """
    with tempfile.NamedTemporaryFile("w", prefix="emberbox-ip-") as batch:
        batch.write("\n".join(lines) + "\n")
        batch.flush()
        where = [] if namespace is None else ["-netns", namespace]
        await process.run(["ip", *where, "-batch", batch.name])


async def apply_rules(rules: str, namespace: str | None = None, *options: str) -> None:
    """Let nftables take rules, all or none, in a namespace or on the host.

    Raises:
        HostError: it takes none of them.
    """
    with tempfile.NamedTemporaryFile("w", prefix="emberbox-nft-") as batch:
        batch.write(rules)
        batch.flush()
        where = [] if namespace is None else ["nsenter", f"--net={NETNS_DIRECTORY / namespace}", "--"]
        await process.run([*where, "nft", *options, "--file", batch.name])


async def remove_namespace(slot: Slot) -> None:
    """Remove a slot.

    Its devices go with it; the veth's end on the host is removed by name, as the kernel takes its time.
    """
    await process.run(["ip", "link", "delete", slot.interface], check=False)
    await process.run(["ip", "netns", "delete", slot.namespace], check=False)


async def has_table(instance: int) -> bool:
    """Say whether an instance has a table on the host."""
    return (await process.run(["nft", "list", "table", "inet", table_name(instance)], check=False)).returncode == 0


async def find_obstacle() -> str | None:
    """Return None where tap networks can be made, otherwise what is missing; the kernel is asked for every rule."""
    if os.geteuid() != 0:
        return "only root can make networks for microVMs"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/net/tun cannot be opened: {errno.errorcode.get(error.errno or 0, error)}"
    try:
        await apply_rules(render_namespace_rules(None), None, "--check")
    except HostError as error:
        return f"nftables does not take the rules of a microVM's network: {error}"
    return None
