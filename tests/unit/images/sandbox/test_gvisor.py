"""What runsc is told of a sandbox, and when one is ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from emberbox.images.sandbox.base import Limits, SandboxPlan, Share
from emberbox.images.sandbox.gvisor import _passed, describe
from emberbox.images.sandbox.usage import Usage

LIMITS = Limits(memory_bytes=1 << 30, disk_bytes=5 << 30, processes=10, timeout_s=1)
SHARES = (Share(Path("/h/context"), "/context"), Share(Path("/h/out"), "/out", is_writable=True))
PLAN = SandboxPlan(Path("/h/w"), Path("/h/root"), ("run",), (("A", "1"),), SHARES, "/store", None, LIMITS)


def test_only_single_files_and_the_store_can_be_written() -> None:
    """The store is a file system of limited size in one file; whatever else is of the host is read only."""
    told = describe(PLAN)
    assert told["root"] == {"path": "/h/root", "readonly": True}
    bound = {mount["destination"]: mount["options"] for mount in told["mounts"] if mount["type"] == "bind"}
    assert bound == {"/context": ["bind", "ro"], "/out": ["bind", "rw"], "/store": ["bind", "rw"]}
    hints = {name.rpartition(".")[2]: value for name, value in told["annotations"].items()}
    assert hints == {"source": "/h/w/store", "type": "tmpfs", "share": "container", "options": f"rw,size={5 << 30}"}


def test_what_is_in_memory_has_a_size() -> None:
    for mount in describe(PLAN)["mounts"]:
        assert mount["type"] != "tmpfs" or any(option.startswith("size=") for option in mount["options"])


@pytest.mark.parametrize(
    ("usage", "passed"),
    [
        (Usage(1 << 30, 10), None),
        (Usage((1 << 30) + 1, 1), "1024 MiB of memory (EMBERBOX_BUILD_MEMORY_BYTES)"),
        (Usage(0, 11), "10 processes at once"),
    ],
)
def test_a_limit_that_is_passed_is_named(usage: Usage, passed: str | None) -> None:
    assert _passed(usage, LIMITS) == passed
