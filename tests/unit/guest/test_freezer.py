"""How the agent makes an application stand still where there is no freezer: its own C code, on processes here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.compiling import compile_c

DRIVER = Path(__file__).with_name("agent_freezer_driver.c")
ENCLOSED = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(tmp_path_factory.mktemp("agent") / "freezer", [DRIVER, Path("freezer.c")])


def test_it_touches_nobody_outside_of_a_namespace_of_its_own(program: Path) -> None:
    assert subprocess.run([program], timeout=60).returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a process namespace")
def test_all_stand_still_and_those_that_ran_go_on(program: Path) -> None:
    """A rehearsal lets nobody go on, and what the application had stopped itself stays so."""
    done = subprocess.run([*ENCLOSED, program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "before ok runs runs stopped",
        "frozen ok stopped stopped stopped",
        "rehearsed ok stopped stopped stopped",
        "thawed ok runs runs stopped",
        "again ok stopped stopped stopped",
    ]
