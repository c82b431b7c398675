"""Rules: a test that states one must have had an answer from every operation that it names."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from support.server import Server
from support.waiting import wait_for

_ANSWERED = re.compile(r" ([A-Z][A-Za-z]+) [2-5]\d\d in [\d.]+ ms")


@pytest.fixture(autouse=True)
def rule_is_shown(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hold the operations of a test's `rule` marker against those that the server answered meanwhile."""
    marker = request.node.get_closest_marker("rule")
    if marker is None:
        yield
        return
    server: Server = request.getfixturevalue("server")
    start = server.log_path.stat().st_size
    yield
    wanted = set(marker.args)

    def answered() -> bool:
        with server.log_path.open("rb") as log:
            log.seek(start)
            return wanted <= set(_ANSWERED.findall(log.read().decode(errors="replace")))

    wait_for(f"the log names an answer of each of {', '.join(sorted(wanted))}", answered, 5)
