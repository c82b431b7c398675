"""Whether clients on this machine get to the endpoints of the server that runs, with what `emberbox env` prints."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from emberbox.cli.bundle import write_bundle
from emberbox.cli.context import Server
from emberbox.cli.env import variables
from emberbox.host.clients import NAMES_PACKAGE, mend_names
from emberbox.settings import Settings

if TYPE_CHECKING:
    from emberbox.doctor import Check

Mend = Annotated[
    bool,
    typer.Option("--mend", help=f"As root on Debian: install {NAMES_PACKAGE} where names of endpoints do not resolve."),
]


async def mend_clients(settings: Settings, say: Callable[[str], None]) -> None:
    """Mend what may be mended of how clients find endpoints: the user has asked for it.

    Args:
        settings: of the server.
        say: called with what was done.

    Raises:
        HostError: it is not for us to mend; the text says what to do.
    """
    from emberbox.doctor import check_name, is_below_localhost

    if is_below_localhost(settings.domain) and not (await check_name(settings)).ok:
        await mend_names()
        say(f"installed {NAMES_PACKAGE}: names below localhost resolve in every program now")


async def find_name_problems(settings: Settings) -> list[str]:
    """Return, in a line with its remedy, that names of endpoints do not resolve; nothing where they do."""
    from emberbox.doctor import check_name

    return _describe([await check_name(settings)])


async def find_trust_problems(settings: Settings, server: Server) -> list[str]:
    """Return what keeps clients from trusting a server that runs, a line with its remedy for each problem.

    Args:
        settings: of the server.
        server: whose authority clients are told of.

    Raises:
        HostError: the file of authorities cannot be written.
    """
    from emberbox.doctor import check_trust

    write_bundle(server.home, server.ca_bundle, os.environ)
    checks = await check_trust(settings, {**os.environ, **variables(server)})
    return _describe([replace(check, remedy=_trust_remedy(settings)) for check in checks])


def _describe(checks: Sequence[Check]) -> list[str]:
    return [f"{check.detail}; {check.remedy}" for check in checks if not check.ok]


def _trust_remedy(settings: Settings) -> str:
    if settings.tls_certificate:
        return "let EMBERBOX_TLS_AUTHORITY name what signed EMBERBOX_TLS_CERTIFICATE"
    return "restart the server; should that not help, remove runtime/gateway/tls in its home while it is down"
