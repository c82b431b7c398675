"""What the lane on KVM makes of the reports from the emulated machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emberbox.vmm.qemu.arguments import BINARY
from kvm_lane import emulator
from kvm_lane.lane import REDUCED
from kvm_lane.results import Results

ROOT = Path(__file__).resolve().parents[2]


def tell(results: Results, test: str, **outcomes: str) -> str | None:
    """Report a test's phases, each with its outcome."""
    results.take(json.dumps({"began": test}))
    line = None
    for when, outcome in outcomes.items():
        text = f"E  {test} {when}" if outcome == "failed" else ""
        told: dict[str, Any] = {"test": test, "when": when, "outcome": outcome, "duration_s": 1, "text": text}
        line = results.take(json.dumps(told))
    return line


@pytest.mark.parametrize(
    ("setup", "call", "teardown", "outcome"),
    [
        ("passed", "passed", "passed", "passed"),
        ("passed", "failed", "passed", "failed"),
        ("passed", "skipped", "passed", "skipped"),
        ("passed", "passed", "failed", "error"),
    ],
)
def test_a_test_has_the_outcome_that_pytest_gives_it(setup: str, call: str, teardown: str, outcome: str) -> None:
    results = Results()
    assert tell(results, "a", setup=setup, call=call, teardown=teardown) == f"a {outcome.upper()} in 3 s"
    assert results.outcomes == {"a": outcome}
    assert results.code() == (outcome in ("failed", "error"))


def test_a_fixture_that_fails_is_an_error_and_one_that_skips_is_none() -> None:
    results = Results()
    tell(results, "a", setup="failed", teardown="passed")
    tell(results, "b", setup="skipped", teardown="passed")
    assert results.outcomes == {"a": "error", "b": "skipped"}
    assert "1 skipped, 1 error in" in results.summary()
    assert "ERROR a - a setup" in results.summary()


def test_a_run_goes_on_where_another_ended_on_the_same_code_only(tmp_path: Path) -> None:
    first, second, kept = Results(), Results(), tmp_path / "results.json"
    assert not second.load(kept, "code")
    tell(first, "a", setup="passed", call="passed", teardown="passed")
    tell(first, "b", setup="passed", call="failed", teardown="passed")
    tell(first, "c", setup="passed", call="failed", teardown="passed")
    assert first.repeat_bad() == ["b", "c"]
    tell(first, "b", setup="passed", call="failed", teardown="passed")
    first.save(kept, "code")
    assert not second.load(kept, "other code")
    assert second.load(kept, "code")
    assert second.outcomes == {"a": "passed", "b": "failed"}
    assert second.repeat_bad() == []  # it has had its second try
    tell(second, "c", setup="passed", call="passed", teardown="passed")
    assert "REPEATED c" in second.summary()
    assert "1 failed, 2 passed in" in second.summary()


def test_the_test_that_the_machine_died_in_is_repeated_and_then_given_up() -> None:
    results = Results()
    tell(results, "a", setup="passed", call="passed", teardown="passed")
    assert results.note_death(3) is None
    for _ in range(3):
        assert "b" not in results.outcomes
        results.take(json.dumps({"began": "b"}))
        assert results.note_death(3) == "b"
    assert results.outcomes == {"a": "passed", "b": "error"}
    assert results.code() == 1
    assert "ended each of the 3 times" in results.summary()


def test_a_repeated_tests_earlier_reports_do_not_count() -> None:
    results = Results()
    tell(results, "a", setup="failed")
    results.note_death(3)
    tell(results, "a", setup="passed", call="passed", teardown="passed")
    assert results.outcomes == {"a": "passed"}


def test_what_did_not_pass_is_run_once_more_and_named_when_it_passes_then() -> None:
    results = Results()
    tell(results, "a", setup="passed", call="passed", teardown="passed")
    tell(results, "b", setup="failed", teardown="passed")
    tell(results, "c", setup="passed", call="failed", teardown="passed")
    assert results.repeat_bad() == ["b", "c"]
    assert results.outcomes == {"a": "passed"}
    tell(results, "b", setup="passed", call="passed", teardown="passed")
    assert results.code() == 0
    tell(results, "c", setup="passed", call="failed", teardown="passed")
    assert results.code() == 1
    assert "REPEATED b - passed at the second try; b setup" in results.summary()
    assert "1 failed, 2 passed in" in results.summary()


def test_a_run_of_no_test_is_no_success() -> None:
    assert Results().code() == 5


@pytest.mark.parametrize("test", REDUCED)
def test_every_test_of_the_reduced_form_exists(test: str) -> None:
    file, _, name = test.partition("[")[0].partition("::")
    assert f"def {name}(" in (ROOT / file).read_text()


def test_an_old_qemu_of_the_machines_is_not_what_emulates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    async def find_old() -> str:
        return "7.2.22"

    async def unpack(directory: Path, suite: str, packages: tuple[str, ...]) -> Path:
        assert (suite, "qemu-system-x86" in packages) == (emulator.SUITE, True)
        return directory

    monkeypatch.setattr(emulator, "find_version", find_old)
    monkeypatch.setattr(emulator, "ensure_packages", unpack)
    found = emulator.find_emulator(tmp_path / "qemu", said.append)
    assert found.command[:3] == (f"{tmp_path}/qemu/usr/bin/{BINARY}", "-L", f"{tmp_path}/qemu/usr/share/qemu")
    assert found.environment["QEMU_MODULE_DIR"].startswith(f"{tmp_path}/qemu/")
    assert "7.2.22" in said[0]


@pytest.mark.parametrize("version", ["10.0.2", "11.1"])
def test_a_new_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    async def find_new() -> str:
        return version

    monkeypatch.setattr(emulator, "find_version", find_new)
    assert emulator.find_emulator(tmp_path / "qemu", print).command == (BINARY,)
