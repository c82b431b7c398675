"""Fixtures for all unit tests: a control plane in process, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.api_world import World
from support.control_plane import ControlPlane
from support.wire import KEY, REGION


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    plane = await ControlPlane(tmp_path, KEY, REGION).open()
    yield plane
    await plane.close()


@pytest.fixture
async def world(plane: ControlPlane) -> World:
    return World(plane)
