"""What became of the tests, over all starts of the emulated machine; and pytest's summary of it."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_WORDS = ("failed", "passed", "skipped", "error")


@dataclass
class Results:
    """Collects reports.

    Attributes:
        outcomes: of each test that has ended: one of `passed`, `failed`, `skipped`, `error`.
        texts: why, of each that did not pass.
        under_way: the test that has begun and not ended.
        died_in: how often the machine ended in a test.
        first_tries: why, of each that is repeated since it did not pass.
        spent_s: how many seconds each test took, over all of its phases.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    under_way: str | None = None
    collected: list[str] = field(default_factory=list)
    died_in: Counter[str] = field(default_factory=Counter)
    first_tries: dict[str, str] = field(default_factory=dict)
    spent_s: Counter[str] = field(default_factory=Counter)
    has_ended: bool = False
    was_stopped: bool = False
    exit_code: int = 0
    _seen: dict[str, str] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    def take(self, line: str) -> str | None:
        """Take one line of the plugin's; return one for people where a test has ended."""
        told: dict[str, Any] = json.loads(line)
        if "collected" in told:
            self.collected = told["collected"]
        elif "began" in told:
            self.under_way = test = told["began"]
            self.texts.pop(test, None)
            self.spent_s.pop(test, None)
            self._seen = {}
        elif "ended" in told:
            self.has_ended, self.was_stopped, self.exit_code = True, told["stopped"], told["ended"]
        else:
            return self._take_report(told)
        return None

    def _take_report(self, told: dict[str, Any]) -> str | None:
        test, when, outcome = told["test"], told["when"], told["outcome"]
        if outcome == "failed" and when != "call":
            outcome = "error"
        self.spent_s[test] += told["duration_s"]
        before = self.outcomes.get(test) or self._seen.get(test)
        if before in (None, "passed") or outcome in ("failed", "error"):
            self._seen[test] = outcome
        if told["text"] and outcome != "passed":
            self.texts[test] = f"{self.texts.get(test, '')}{told['text']}\n"
        if when not in ("teardown", "collect"):
            return None
        self.outcomes[test] = self._seen.get(test, outcome)
        self.under_way = None
        return f"{test} {self.outcomes[test].upper()} in {self.spent_s[test]:.0f} s"

    def save(self, path: Path, checkout: str) -> None:
        """Store what is known so far, for a run that goes on later.

        Args:
            path: the file.
            checkout: names the code that the results are of.
        """
        kept = {name: getattr(self, name) for name in ("outcomes", "texts", "first_tries", "spent_s")}
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps({"checkout": checkout, **kept}))
        scratch.replace(path)

    def load(self, path: Path, checkout: str) -> bool:
        """Take in what an earlier run has stored; False where there is none, or it is of other code."""
        try:
            kept = json.loads(path.read_text())
        except FileNotFoundError:
            return False
        if kept["checkout"] != checkout:
            return False
        self.outcomes, self.texts, self.first_tries = kept["outcomes"], kept["texts"], kept["first_tries"]
        self.spent_s = Counter(kept["spent_s"])
        return True

    def note_death(self, tries: int) -> str | None:
        """Note that the machine has ended by itself; return the test that was under way, which is then repeated.

        Args:
            tries: how often a test is begun before it is given up.
        """
        test, self.under_way = self.under_way, None
        if test is not None:
            self.died_in[test] += 1
            if self.died_in[test] >= tries:
                self.outcomes[test] = "error"
                self.texts[test] = f"the emulated machine ended each of the {tries} times that this was run\n"
        return test

    def repeat_bad(self) -> list[str]:
        """Forget what became of the tests that did not pass, so that they are run once more; return them.

        Emulated guests reset now and then without a word, and so does one image's guest for all tests that use it. The
        summary names whatever passed only then.
        """
        bad = [test for test in self._bad() if test not in self.first_tries]
        for test in bad:
            del self.outcomes[test]
            self.first_tries[test] = self.texts.pop(test, "")
        return bad

    def _bad(self) -> dict[str, str]:
        return {test: outcome for test, outcome in self.outcomes.items() if outcome in ("failed", "error")}

    def summary(self) -> str:
        """Return failures, the short summary and the last line, as pytest prints them."""
        parts = []
        for test, outcome in self._bad().items():
            parts += [_rule("_", f"{outcome.upper()} {test}"), self.texts.get(test, "")]
        parts.append(_rule("=", "short test summary info"))
        for test, outcome in self.outcomes.items():
            if outcome != "passed":
                parts.append(f"{outcome.upper()} {test} - {_last_error(self.texts.get(test, ''))}")
            elif test in self.first_tries:
                parts.append(f"REPEATED {test} - passed at the second try; {_last_error(self.first_tries[test])}")
        counts = Counter(self.outcomes.values())
        words = [
            f"{counts[word]} {word}{'s' if word == 'error' and counts[word] > 1 else ''}"
            for word in _WORDS
            if counts[word]
        ]
        seconds = time.monotonic() - self._began
        parts.append(_rule("=", f"{', '.join(words) or 'no tests ran'} in {seconds:.2f}s"))
        return "\n".join(parts)

    def code(self) -> int:
        """Return the exit code that pytest would give."""
        if not self.outcomes:
            return 5 if self.exit_code in (0, 5) else self.exit_code
        return int(bool(self._bad()))


def _last_error(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line]
    return next((line[2:] for line in reversed(lines) if line.startswith("E ")), lines[-1] if lines else "").strip()


def _rule(character: str, text: str) -> str:
    return f" {text} ".center(100, character)
