"""Fixtures: E2B's edge at a port, and E2B's own SDK, which is pointed there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from e2b import Sandbox

from support.e2b_world import E2bPlane, serve_e2b

T = TypeVar("T")


@pytest.fixture
async def e2b(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[E2bPlane]:
    async with serve_e2b(tmp_path) as plane:
        for name, value in {"API_URL": plane.url, "SANDBOX_URL": plane.url, "API_KEY": plane.api_key}.items():
            monkeypatch.setenv(f"E2B_{name}", value)
        yield plane


@pytest.fixture
async def sandbox(e2b: E2bPlane) -> Sandbox:
    """A sandbox that runs, as the SDK for threads has it."""
    return await asyncio.to_thread(Sandbox.create)


@pytest.fixture
def wait() -> Callable[..., Any]:
    """Calls something of the blocking SDK's."""
    return asyncio.to_thread
