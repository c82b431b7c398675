"""How E2B's SDKs are led to a server of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from e2b import Sandbox, Template

from emberbox.cli.context import get_server
from emberbox.edges.sandboxes import api_keys
from support.server import Server
from support.third_party import Desk


def e2b_variables(server: Server) -> dict[str, str]:
    """Return the SDKs' own variables, with the key of the server's operator."""
    found, url = get_server(server.home), server.endpoints["e2b_url"]
    key = api_keys.write_api_key(api_keys.E2B, found.access_key_id, found.secret_access_key)
    return {"E2B_API_URL": url, "E2B_SANDBOX_URL": url, "E2B_API_KEY": key}


@contextmanager
def e2b_environment(server: Server) -> Iterator[None]:
    """Have them in the environment for as long as the block lasts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in e2b_variables(server).items():
            patch.setenv(name, value)
        yield


def build_code_interpreter() -> str:
    """Build the template that the code interpreter asks for by itself, unless it is there; return its name."""
    name = "code-interpreter-v1"
    if not Template.exists(name):
        Template.build(Template().from_template(name), name, memory_mb=512)
    return name


def e2b_desk(server: Server, directory: Path) -> Desk:
    """Return a user's shell with what `emberbox env` and `emberbox e2b-keys create --tls` print, and no more."""
    desk = Desk(server, directory, directory)
    printed = [line.split(" ", 1)[1] for line in desk.emberbox("e2b-keys", "create", "--tls").splitlines()]
    desk.environment |= dict(line.split("=", 1) for line in printed if "=" in line)
    return desk


@contextmanager
def named_sandbox(desk: Desk, template: str, *ports: int) -> Iterator[Sandbox]:
    """Have a sandbox whose names resolve at a desk: a hosts file has no wildcards.

    Args:
        desk: see there.
        template: what it is created from.
        ports: those whose names resolve.
    """
    domain = desk.server.endpoints["e2b_domain"].partition(":")[0]
    with e2b_environment(desk.server), Sandbox.create(template, timeout=600) as sandbox:
        labels = ["api", *(f"{port}-{sandbox.sandbox_id}" for port in ports)]
        desk.add_hosts("".join(f"127.0.0.1 {label}.{domain}\n" for label in labels))
        yield sandbox
