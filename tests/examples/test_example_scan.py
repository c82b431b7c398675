"""examples/scan: what each sample does is in its report, and has come to nothing outside of its microVM."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from emberbox_sdk import Client, Sandbox
from support.examples import CALL, EXAMPLES, run_example

pytestmark = [
    pytest.mark.vm,
    pytest.mark.both_engines,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root gives microVMs networks of their own"),
]


@pytest.fixture(scope="module")
def reports(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], no_egress: str
) -> dict[str, dict[str, Any]]:
    """The report on each sample, and on one more that tries to reach a host that is there."""
    directory = tmp_path_factory.mktemp("scan")
    caller = directory / "caller.py"
    caller.write_text(f"#!/usr/bin/python3\n{CALL}\n")
    caller.chmod(0o755)
    samples = [str(path) for path in sorted((EXAMPLES / "scan/samples").iterdir())]
    report = directory / "report.json"
    run_example("scan", environment, "--egress", no_egress, "--report", str(report), *samples, str(caller))
    return {found["file"]: found for found in json.loads(Path(report).read_text())}


def test_what_is_suspicious_is_told_from_what_is_not(reports: dict[str, dict[str, Any]]) -> None:
    assert {name: found["suspicious"] for name, found in reports.items() if name not in ("caller.py", "swarm.sh")} == {
        "innocent.sh": [],
        "persist.sh": ["writes /etc/cron.d/updater", "writes /usr/local/bin/updater", "removes itself"],
        "thief.sh": ["reads /etc/shadow", "connects to 203.0.113.7:443"],
    }
    assert reports["innocent.sh"]["files"]["written"] == ["/tmp/lines"]
    assert reports["innocent.sh"]["ended"] == 0


def test_what_does_not_end_is_stopped_and_reported_on(reports: dict[str, dict[str, Any]]) -> None:
    found = reports["swarm.sh"]
    assert str(found["ended"]).startswith("stopped after")
    assert found["child_processes"] >= 30
    assert found["suspicious"] == [f"starts {found['child_processes']} processes"]


def test_nothing_gets_out(reports: dict[str, dict[str, Any]]) -> None:
    (tried,) = reports["thief.sh"]["connections"]
    assert (tried["address"], tried["port"]) == ("203.0.113.7", 443)
    assert tried["result"].startswith("E")
    assert reports["thief.sh"]["ended"] != 0
    assert reports["caller.py"]["ended"] != 0


def test_the_call_would_have_got_through_without_the_connector(reports: dict[str, dict[str, Any]], sdk: Client) -> None:
    with Sandbox.create("example-scan", client=sdk) as sandbox:
        assert sandbox.run(["python3", "-c", CALL]).exit_code == 0


def test_each_file_had_a_microvm_of_its_own_that_has_ended(reports: dict[str, dict[str, Any]], sdk: Client) -> None:
    used = {found["microvm"] for found in reports.values()}
    assert len(used) == len(reports) == 5
    assert {info.id for info in Sandbox.list(client=sdk)}.isdisjoint(used)


def test_a_sample_finds_nothing_that_an_earlier_one_left(sdk: Client, reports: dict[str, dict[str, Any]]) -> None:
    with Sandbox.create("example-scan", client=sdk) as sandbox:
        assert not sandbox.files.exists("/usr/local/bin/updater")
        assert not sandbox.files.exists("/srv/sample")
