"""`emberbox snapshot`, `fork` and `restore`: a microVM at an instant, as an image version, as microVMs, or again."""

from __future__ import annotations

from typing import Annotated

import typer

from emberbox.cli.context import get_server
from emberbox.cli.progress import waiting
from emberbox.cli.sandboxes import opened
from emberbox.settings import load

_Identifier = Annotated[str, typer.Argument(metavar="MICROVM", help="The microVM's id.")]


def snapshot(
    microvm: _Identifier,
    inactive: Annotated[
        bool, typer.Option("--inactive", help="For `restore` alone: launches do not take this version.")
    ] = False,
) -> None:
    """Make a new image version from a microVM as it is now; it runs on."""
    with opened(get_server(load().home), microvm) as sandbox, waiting("making the snapshot"):
        made = sandbox.checkpoint(launchable=not inactive)
    name, status = made.image_arn.rpartition(":")[2], "ACTIVE" if made.launchable else "INACTIVE"
    print(f"{name} version {made.version} ({status})", _stopped(made.stopped_ms))


def fork(
    microvm: _Identifier,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="How many.")] = 1,
) -> None:
    """Start microVMs that go on from where this one is now."""
    with opened(get_server(load().home), microvm) as sandbox, waiting("forking"):
        forks = sandbox.fork(count, wait=False)
    for made in forks:
        print(made.id, made.endpoint)
    typer.echo(_stopped(forks[0].source_stopped_ms), err=True)


def restore(
    microvm: _Identifier,
    to: Annotated[str, typer.Option("--to", metavar="VERSION", help="The image version that `snapshot` printed.")],
) -> None:
    """Roll a microVM back to a snapshot of its own; what came after is lost."""
    with opened(get_server(load().home), microvm) as sandbox, waiting("rolling back"):
        sandbox.rollback(to, wait=False)
    print(f"{microvm} runs from {to}")


def _stopped(milliseconds: int) -> str:
    return f"the source stood still for {milliseconds} ms" if milliseconds else "the source was not stopped"
