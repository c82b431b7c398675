"""Fixtures: one gateway for all tests of a module, set back before each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from gateway_world import World, start_world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with start_world(tmp_path_factory.mktemp("gw")) as made:
        yield made


@pytest.fixture
def world(shared_world: World) -> World:
    shared_world.reset()
    return shared_world


@pytest_asyncio.fixture(loop_scope="module")
async def fresh_world(tmp_path: Path) -> AsyncIterator[World]:
    """A gateway that knows nothing yet of its guests."""
    async with start_world(tmp_path) as made:
        yield made
