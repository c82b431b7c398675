"""One embedded S3 for each file of tests."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from support.s3 import World, serve_s3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with serve_s3(tmp_path_factory.mktemp("s3") / "home") as world:
        yield world


@pytest.fixture(scope="session")
def new_name() -> Callable[[], str]:
    """Returns names of buckets that no other test has."""
    numbers = itertools.count()
    return lambda: f"bucket-{next(numbers)}"


@pytest.fixture
def bucket(world: World, new_name: Callable[[], str]) -> str:
    name = new_name()
    world.client().create_bucket(Bucket=name)
    return name
