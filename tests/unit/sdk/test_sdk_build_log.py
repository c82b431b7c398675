"""Folded logs, of lines that real builds have written: build_logs has them as they came."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from emberbox_sdk.build_log import TITLE_CHARACTERS, FoldedLog, Kind

LOGS = Path(__file__).with_name("build_logs")
AFTER = ["Packing the root file system", "Booting a microVM: 1 vCPU, 512 MiB"]
FAILED = "FAILED: CONTAINER_BUILD_FAILED: the Dockerfile's build failed; the lines above say where"


def fold(name: str, *more: str, clock: Callable[[], float] = lambda: 0.0) -> tuple[FoldedLog, list[tuple[Kind, str]]]:
    log = FoldedLog(clock)
    lines = [*(LOGS / f"{name}.log").read_text().splitlines(), *more]
    return log, [(told.kind, told.text) for line in lines for told in log.take(line)]


def words(told: list[tuple[Kind, str]]) -> list[str]:
    return [text for kind, text in told if kind is Kind.WORDS]


@pytest.mark.parametrize("where", ["host", "sandbox"])
def test_what_packages_say_is_left_out_and_notes_are_not(where: str) -> None:
    log, told = fold(f"packages-{where}", *AFTER)
    all_lines = (LOGS / f"packages-{where}.log").read_text()
    assert "Unpacking python3-minimal" in all_lines
    assert len(told) < 20
    assert not any("Unpacking" in text for _, text in told)
    assert "NOTE: HEALTHCHECK has no effect on a microVM" in words(told)
    assert words(told)[-2:] == AFTER
    assert log.steps[0] == log.steps[1] > 0
    assert log.now == ""


@pytest.mark.parametrize("where", ["host", "sandbox"])
def test_every_step_that_begins_ends(where: str) -> None:
    _, told = fold(f"stages-{where}", *AFTER)
    begun = [text for kind, text in told if kind is Kind.BEGIN]
    ended = [text.rpartition("  ")[0] for kind, text in told if kind is Kind.END]
    assert sorted(begun) == sorted(ended)
    assert sum("echo one" in text or "echo two" in text for text in begun) == 2


def test_buildkit_says_how_long_a_step_took_and_buildah_is_timed() -> None:
    _, told = fold("packages-sandbox")
    took = next(text for kind, text in told if kind is Kind.END and "RUN" in text)
    assert float(took.removesuffix(" s").rpartition(" ")[2]) > 1
    moments = iter(range(1000))
    _, told = fold("packages-host", *AFTER, clock=lambda: float(next(moments)))
    assert all(text.endswith(("1.0 s", "2.0 s")) for kind, text in told if kind is Kind.END)


@pytest.mark.parametrize("where", ["host", "sandbox"])
def test_all_of_a_step_that_fails_is_shown_once(where: str) -> None:
    log, told = fold(f"fails-{where}", FAILED)
    shown = words(told)
    assert sum("/nowhere': No such file" in text for text in shown) == 1
    assert shown.count("still here") == 1
    assert any("exit code: 7" in text or "exit status 7" in text for text in shown)
    assert shown[-1] == FAILED
    assert log.now == ""


def test_what_is_under_way_is_the_last_that_its_step_said() -> None:
    log = FoldedLog()
    for line in ("#5 [2/3] RUN make", "compiling one", "", "compiling two"):
        log.take(line)
    assert log.now == "[2/3] RUN make: compiling two"
    assert log.steps == (0, 3)
    log.take("#6 [other 1/2] RUN true")
    assert log.now == "[other 1/2] RUN true"
    assert [told.text for told in log.take("#6 CACHED")] == ["[other 1/2] RUN true  from the cache"]
    assert log.now == "[2/3] RUN make"


def test_a_long_command_leaves_room_for_what_it_says() -> None:
    (told,) = FoldedLog().take(f"STEP 2/3: RUN {'x' * 500}")
    assert len(told.text) == TITLE_CHARACTERS
    assert told.text.endswith("…")


def test_a_step_that_speaks_as_the_server_does_hides_nothing_of_it() -> None:
    log = FoldedLog()
    log.take("#5 [2/3] RUN echo x")
    assert log.take("Packing my things") == []
    assert [told.text for told in log.take("NOTE: of the server")] == ["NOTE: of the server"]
    assert [told.text for told in log.take(FAILED)] == ["Packing my things", FAILED]
