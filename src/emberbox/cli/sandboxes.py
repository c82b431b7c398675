"""One microVM as the SDK has it, for the commands that go into it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from emberbox.cli.context import Server
from emberbox.model.errors import HostError

if TYPE_CHECKING:
    from emberbox_sdk import Sandbox


@contextlib.contextmanager
def opened(server: Server, microvm: str) -> Iterator[Sandbox]:
    """Give a microVM; nothing is asked before it is used, so that a token's right is all that is needed.

    Raises:
        HostError: it lets no shells in; the text says what to do.
    """
    from emberbox_sdk import Sandbox

    with explained(server, microvm), Sandbox.connect(microvm, check=False, config=server.config()) as sandbox:
        yield sandbox


@contextlib.contextmanager
def explained(server: Server, microvm: str) -> Iterator[None]:
    """Say what to do where a microVM lets no shells in.

    Raises:
        HostError: it does not.
    """
    from emberbox_sdk.errors import ApiError
    from emberbox_sdk.launches import ingress

    try:
        yield
    except ApiError as error:
        if "SHELL_INGRESS" not in error.message:
            raise
        raise HostError(
            f"{microvm} was run without SHELL_INGRESS, which cannot be changed any more; run another one with "
            f"--ingress-network-connectors {' '.join(ingress(server.region))}"
        ) from error
