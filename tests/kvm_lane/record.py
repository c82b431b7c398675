"""A pytest plugin for the run inside the emulated machine: tells what became of each test as soon as it is known.

The machine may die at any time, and then only what has reached the share is left. So each report is one line of JSON
there. Tests that cannot run in the machine are skipped with the reason (unfit.toml); those of which the result is known
from an earlier start of the machine are left out. Before the age at which the emulator tends to fail, the run stops
between two tests, so that fixtures are torn down as they should be.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from support.unfit import skip_unfit

SHARE = Path(os.environ.get("KVM_LANE_SHARE", "/lane/share"))
UNFIT = Path(__file__).parent / "unfit.toml"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is done, and skip what cannot run here."""
    done = set(json.loads((SHARE / "done.json").read_text()))
    left_out = [item for item in items if item.nodeid in done]
    items[:] = [item for item in items if item.nodeid not in done]
    config.hook.pytest_deselected(items=left_out)
    skip_unfit(items, UNFIT, "not in the emulated machine")
    _write({"collected": [item.nodeid for item in items]})


def pytest_runtest_logstart(nodeid: str, location: Any) -> None:
    """Tell that a test has begun."""
    _write({"began": nodeid})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell how one phase of a test has ended."""
    reason = ""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
    _write(
        {
            "test": report.nodeid,
            "when": report.when,
            "outcome": report.outcome,
            "duration_s": report.duration,
            "text": report.longreprtext if report.failed else reason,
        }
    )


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stop while the machine can be expected to live."""
    if nextitem is not None and (SHARE / "renew").exists():
        item.session.shouldstop = "the machine is started anew"


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Tell that a file cannot be read."""
    if report.failed:
        _write(
            {
                "test": report.nodeid,
                "when": "collect",
                "outcome": "failed",
                "duration_s": 0,
                "text": report.longreprtext,
            }
        )


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Tell that the run has ended, and whether that was before all tests were run."""
    _write({"ended": int(exitstatus), "stopped": bool(session.shouldstop)})


def _write(line: dict[str, Any]) -> None:
    with (SHARE / "reports.jsonl").open("a") as reports:
        reports.write(json.dumps(line) + "\n")
        reports.flush()
        os.fsync(reports.fileno())
