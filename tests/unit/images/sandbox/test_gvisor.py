"""What runsc is told of a sandbox, and when one is ended."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from emberbox.host.cgroups import Group, Passed
from emberbox.host.runsc.bundle import render
from emberbox.images.sandbox.base import Limits, SandboxPlan, Share
from emberbox.images.sandbox.groups import BuildGroups
from emberbox.images.sandbox.gvisor import GvisorSandbox, _file_bytes, _Watch, compare, describe
from emberbox.images.sandbox.usage import Usage
from emberbox.model.errors import BuildError

Run = Callable[[str, list[str]], Awaitable[None]]

LIMITS = Limits(memory_bytes=1 << 30, disk_bytes=5 << 30, processes=10, timeout_s=1)
SHARES = (Share(Path("/h/context"), "/context"), Share(Path("/h/out"), "/out", is_writable=True))
PLAN = SandboxPlan(Path("/h/w"), Path("/h/root"), ("run",), (("A", "1"),), SHARES, "/store", None, LIMITS)


def test_only_single_files_and_the_store_can_be_written() -> None:
    """The store is a file system of limited size in one file; whatever else is of the host is read only."""
    told = render(describe(PLAN))
    assert told["root"] == {"path": "/h/root", "readonly": True}
    bound = {mount["destination"]: mount["options"][-1] for mount in told["mounts"] if mount["type"] == "bind"}
    assert bound == {"/context": "ro", "/out": "rw", "/store": "rw"}
    hints = {name.rpartition(".")[2]: value for name, value in told["annotations"].items()}
    assert hints == {"source": "/h/w/store", "type": "tmpfs", "share": "container", "options": f"rw,size={5 << 30}"}


def test_what_is_in_memory_has_a_size() -> None:
    in_memory = [mount for mount in render(describe(PLAN))["mounts"] if mount["type"] == "tmpfs"]
    assert sorted(mount["destination"] for mount in in_memory) == ["/dev", "/run", "/tmp"]
    assert all(any(option.startswith("size=") for option in mount["options"]) for mount in in_memory)


@pytest.mark.parametrize(
    ("usage", "passed"),
    [
        (Usage(1 << 30, 10), Passed(memory=False, processes=False)),
        (Usage((1 << 30) + 1, 1), Passed(memory=True, processes=False)),
        (Usage(0, 11), Passed(memory=False, processes=True)),
    ],
)
def test_usage_is_compared_where_no_group_holds_it(usage: Usage, passed: Passed) -> None:
    assert compare(usage, LIMITS) == passed


class Held(Group):
    """A control group that has held a sandbox to limits."""

    def __init__(self, passed: Passed) -> None:
        super().__init__(())
        self._passed = passed

    def read_passed(self) -> Passed:
        return self._passed


@pytest.mark.parametrize(
    ("passed", "said"),
    [
        (Passed(memory=True, processes=False), r"1024 MiB of memory \(EMBERBOX_BUILD_MEMORY_BYTES\)"),
        (Passed(memory=False, processes=True), "10 processes at once"),
    ],
)
async def test_a_limit_that_a_sandbox_has_died_of_is_named(passed: Passed, said: str) -> None:
    """Also when nobody has looked between."""
    group: Group = Held(passed)
    watch = _Watch(LIMITS, group, [])
    await watch.stop()
    with pytest.raises(BuildError, match=said):
        watch.check()


async def test_one_that_has_passed_none_is_no_error() -> None:
    watch = _Watch(LIMITS, Held(Passed(memory=False, processes=False)), [])
    await watch.stop()
    watch.check()


async def test_what_it_may_write_together_is_bounded(tmp_path: Path) -> None:
    """The size of each file is bounded by the kernel, but not by less than what gVisor itself needs."""
    limits = replace(LIMITS, disk_bytes=8192)
    (tmp_path / "one").write_bytes(b"x" * 4096)
    (tmp_path / "two").write_bytes(b"x" * 8192)
    outputs = [tmp_path / "one", tmp_path / "two"]
    assert "of disk (EMBERBOX_BUILD_DISK_BYTES)" in str(_Watch(limits, None, outputs)._passed_by_output())
    assert _Watch(limits, None, outputs[:1])._passed_by_output() is None
    assert _file_bytes(replace(LIMITS, processes=1000, disk_bytes=1)) > (2000 * 8 << 20) + LIMITS.memory_bytes
    assert _file_bytes(replace(LIMITS, disk_bytes=1 << 50)) > 1 << 50


DYING_RUNSC = """\
#!/bin/sh
for argument; do
    case "$argument" in --panic-log=*) echo "panic: out of something" > "${argument#--panic-log=}" ;; esac
done
echo " a line"
exit 2
"""
UNSHARING_NOTHING = """\
#!/bin/sh
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
TOOLS = {"mount": "#!/bin/sh\n", "unshare": UNSHARING_NOTHING}
"""In place of what only root may do."""


NOT_BEGINNING = """\
#!/bin/sh
for argument; do
    case "$argument" in
    --log=*) echo "the gofer's words" > "${argument#--log=}" ;;
    esac
done
echo "waiting for sandbox to start: EOF"
exit 128
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a script in runsc's place; adds the lines that it prints to a list."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (directory := tmp_path / "sandbox").mkdir()
    plan = replace(PLAN, directory=directory, shares=(), limits=replace(LIMITS, timeout_s=60))

    async def find() -> Path:
        return tmp_path / "runsc"

    async def run(script: str, lines: list[str]) -> None:
        for name, text in {**TOOLS, "runsc": script}.items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        await GvisorSandbox(find, BuildGroups(tmp_path, open_places=tuple)).run(plan, lines.append)

    return run


async def test_what_a_sandbox_died_of_is_in_the_error_of_its_build(run: Run) -> None:
    """It is written to a log of its own; what was printed before is of no use then."""
    lines: list[str] = []
    with pytest.raises(BuildError, match="panic: out of something") as raised:
        await run(DYING_RUNSC, lines)
    assert "a line" not in str(raised.value)
    assert lines == [" a line"]


async def test_why_a_sandbox_did_not_begin_is_in_the_error_of_its_build(run: Run) -> None:
    """Its file server has no other place for its words than the log."""
    with pytest.raises(BuildError, match="to start: EOF the gofer's words"):
        await run(NOT_BEGINNING, [])
