"""Fixtures: Daytona's edge at a port, and a client that sends what Daytona's SDK sends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from emberbox.edges.sandboxes.interpreter import Program
from support.daytona_world import daytona_key_of, serve_daytona
from support.e2b_world import E2bPlane

Create = Callable[..., Awaitable[str]]


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[E2bPlane]:
    nothing = Program("", "", f"{tmp_path}/code-%d")  # what runs code is seen where Daytona's SDK is
    async with serve_daytona(tmp_path, nothing) as plane:
        yield plane


@pytest.fixture
async def client(plane: E2bPlane) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {daytona_key_of(plane.credential)}"}
    base = plane.url.removesuffix("/api")
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture
def create(client: httpx.AsyncClient) -> Create:
    """Creates a sandbox, and returns its id."""

    async def create(**body: Any) -> str:
        answer = await client.post("/api/sandbox", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    return create
