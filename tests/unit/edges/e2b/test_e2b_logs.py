"""The client that E2B's SDK has for its API, against the edge: logs of sandboxes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from e2b import ConnectionConfig, Sandbox
from e2b.api.client.api.sandboxes import get_sandboxes_sandbox_id_logs, get_v_2_sandboxes_sandbox_id_logs
from e2b.api.client.models import LogLevel, LogsDirection
from e2b.api.client_sync import get_api_client

from emberbox.model.logs import log_stream_name
from emberbox.model.records import LogGroup
from support.e2b_world import E2bPlane

Wait = Callable[..., Any]


@pytest.fixture
def now_ms(sandbox: Sandbox, e2b: E2bPlane) -> int:
    """When a sandbox has written the last of five lines, of which another one has written none."""
    now, group = time.time_ns() // 1_000_000, LogGroup(e2b.credential.account_id, "/aws/lambda-microvms/standard")
    lines = [(now + number - 4, f"line {number}") for number in range(5)]
    e2b.logs.append(group, log_stream_name("1.0", sandbox.sandbox_id), lines)
    e2b.logs.append(group, log_stream_name("1.0", "microvm-other"), [(now, "another's")])
    return now


async def test_logs_are_read_forwards_and_backwards(sandbox: Sandbox, now_ms: int, wait: Wait) -> None:
    def read(**asked: Any) -> list[str]:
        found = get_v_2_sandboxes_sandbox_id_logs.sync(
            sandbox.sandbox_id, client=get_api_client(ConnectionConfig()), **asked
        )
        return [line.message for line in found.logs]  # type: ignore[union-attr]

    assert await wait(read) == [f"line {number}" for number in range(5)]
    assert await wait(lambda: read(cursor=now_ms - 1, limit=1)) == ["line 3"]
    backward = {"direction": LogsDirection.BACKWARD, "cursor": now_ms, "limit": 2}
    assert await wait(lambda: read(**backward)) == ["line 3", "line 2"]
    assert await wait(lambda: read(search="4")) == ["line 4"]
    assert await wait(lambda: read(level=LogLevel.ERROR)) == []


async def test_earlier_clients_read_them_too(sandbox: Sandbox, now_ms: int, wait: Wait) -> None:
    found = await wait(
        lambda: get_sandboxes_sandbox_id_logs.sync(
            sandbox.sandbox_id, client=get_api_client(ConnectionConfig()), start=now_ms
        )
    )
    assert [line.line for line in found.logs] == [line.message for line in found.log_entries] == ["line 4"]
