"""`emberbox snapshot`, `fork` and `restore`: a microVM at an instant, as an image version, as microVMs, or again."""

from __future__ import annotations

from typing import Annotated

import typer

from emberbox.cli.context import get_server
from emberbox.settings import load

_Identifier = Annotated[str, typer.Argument(metavar="MICROVM", help="The microVM's id.")]


def snapshot(
    microvm: _Identifier,
    inactive: Annotated[
        bool, typer.Option("--inactive", help="For `restore` alone: launches do not take this version.")
    ] = False,
) -> None:
    """Make a new image version from a microVM as it is now; it runs on."""
    client = get_server(load().home).client("emberbox")
    answer = client.snapshot_microvm(microvmIdentifier=microvm, status="INACTIVE" if inactive else "ACTIVE")
    name = answer["imageArn"].rpartition(":")[2]
    print(
        f"{name} version {answer['imageVersion']} ({answer['status']})", _stopped(answer["sourceStoppedInMilliseconds"])
    )


def fork(
    microvm: _Identifier,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="How many.")] = 1,
) -> None:
    """Start microVMs that go on from where this one is now."""
    answer = get_server(load().home).client("emberbox").fork_microvm(microvmIdentifier=microvm, count=count)
    for item in answer["items"]:
        print(item["microvmId"], item["endpoint"])
    typer.echo(_stopped(answer["sourceStoppedInMilliseconds"]), err=True)


def restore(
    microvm: _Identifier,
    to: Annotated[str, typer.Option("--to", metavar="VERSION", help="The image version that `snapshot` printed.")],
) -> None:
    """Roll a microVM back to a snapshot of its own; what came after is lost."""
    get_server(load().home).client("emberbox").restore_microvm(microvmIdentifier=microvm, imageVersion=to)
    print(f"{microvm} runs from {to}")


def _stopped(milliseconds: int) -> str:
    return f"the source stood still for {milliseconds} ms" if milliseconds else "the source was not stopped"
