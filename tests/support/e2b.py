"""How E2B's SDKs are led to a server of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from emberbox.cli.context import get_server
from emberbox.edges.e2b.api_keys import write_api_key
from support.server import Server


def e2b_variables(server: Server) -> dict[str, str]:
    """Return the SDKs' own variables, with the key of the server's operator."""
    found, url = get_server(server.home), server.endpoints["e2b_url"]
    key = write_api_key(found.access_key_id, found.secret_access_key)
    return {"E2B_API_URL": url, "E2B_SANDBOX_URL": url, "E2B_API_KEY": key}


@contextmanager
def e2b_environment(server: Server) -> Iterator[None]:
    """Have them in the environment for as long as the block lasts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in e2b_variables(server).items():
            patch.setenv(name, value)
        yield
