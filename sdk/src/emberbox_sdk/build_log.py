"""A build's log folded to what a person wants of it: its steps, what is under way, and all of a step that fails.

Two builders write it: BuildKit (`#5 [2/3] RUN …`, `#5 DONE 1.2s`) and buildah (`STEP 2/3: RUN …`). Between their steps
it is the server that speaks, and that is shown as it is.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

TAIL_LINES: Final = 30
"""How much of a step that fails is shown."""

TITLE_CHARACTERS: Final = 96

BUILD_STREAM: Final = "[0.0]"
"""What is in the name of a log stream that is of a build."""

_BUILDKIT: Final = re.compile(r"#(\d+) (.*)")
_BUILDKIT_STEP: Final = re.compile(r"\[(?:(\S+) )?(\d+)/(\d+)\] ")
_BUILDKIT_END: Final = re.compile(r"DONE ([\d.]+)s")
_BUILDKIT_WORDS: Final = {"CACHED": "from the cache", "CANCELED": "cancelled"}
_BUILDAH_STEP: Final = re.compile(r"(?:\[(\d+)/\d+\] )?STEP (\d+)/(\d+): (.*)")
_BUILDAH_LAST: Final = re.compile(r"(?:\[\d+/\d+\] )?COMMIT ")
_PACKING: Final = "Packing the root file system"
_FAILED: Final = "FAILED: "
_ALWAYS: Final = ("NOTE: ", "WARNING: ")
_RULE: Final = "------"


class Kind(Enum):
    """What a line of a folded log is: the beginning of a step, its end, or words to be shown as they are."""

    BEGIN = "begin"
    END = "end"
    WORDS = "words"


@dataclass(frozen=True, slots=True)
class Told:
    """A line to be shown.

    Attributes:
        kind: see there.
        text: without the end of the line.
    """

    kind: Kind
    text: str


@dataclass(slots=True)
class _Step:
    title: str
    began: float


class FoldedLog:
    """Folds the lines of one build.

    Args:
        clock: seconds, for what the builder does not time itself.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[str, _Step] = {}
        self._totals: dict[str, int] = {}
        self._ended: set[str] = set()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._rules = 0
        self._said = ""

    @property
    def now(self) -> str:
        """What is under way, and the last that it said; empty between steps."""
        if not self._open:
            return ""
        title = next(reversed(self._open.values())).title
        return f"{title}: {self._said}" if self._said else title

    @property
    def steps(self) -> tuple[int, int]:
        """How many steps have ended, of how many that are known."""
        return len(self._ended), sum(self._totals.values())

    def take(self, line: str) -> list[Told]:
        """Take the next line; return what is to be shown."""
        if found := _BUILDKIT.match(line):
            return self._take_buildkit(found[1], found[2])
        if found := _BUILDAH_STEP.match(line):
            stage, number, total, text = found.groups()
            return [*self._end_all(), *self._begin(number, f"[{number}/{total}] {text}", stage or "", int(total))]
        if _BUILDAH_LAST.match(line):
            told = self._end_all()
            self._open["commit"] = _Step("storing the layers", self._clock())
            return told
        if line.startswith((_PACKING, _FAILED)):
            return [*self._close(line.startswith(_FAILED)), Told(Kind.WORDS, line)]
        return self._take_words(line)

    def _take_words(self, line: str) -> list[Told]:
        if self._rules:  # BuildKit's own excerpt of a step that failed, of which more is shown already
            self._rules -= line == _RULE
            return []
        if not self._open:
            return [Told(Kind.WORDS, line)] if line else []  # BuildKit parts what it says by empty lines
        self._said = line.strip() or self._said
        if line.startswith(_ALWAYS):
            return [Told(Kind.WORDS, line)]
        self._tail.append(line)
        return []

    def _take_buildkit(self, number: str, text: str) -> list[Told]:
        if found := _BUILDKIT_STEP.match(text):
            return self._begin(number, text, found[1] or "", int(found[3]))
        if number not in self._open:
            return []
        if text.startswith("ERROR"):
            self._rules = 2
            return [*self._fail(), Told(Kind.WORDS, text)]
        if found := _BUILDKIT_END.match(text):
            return self._end(number, f"{float(found[1]):.1f} s")
        if text in _BUILDKIT_WORDS:
            return self._end(number, _BUILDKIT_WORDS[text])
        self._said = text
        return []

    def _begin(self, number: str, title: str, stage: str, total: int) -> list[Told]:
        self._totals.setdefault(stage, total)
        if number in self._open:
            return []
        title = title if len(title) <= TITLE_CHARACTERS else f"{title[: TITLE_CHARACTERS - 1]}…"
        self._open[number] = _Step(title, self._clock())
        self._said = ""
        return [Told(Kind.BEGIN, title)]

    def _end(self, number: str, took: str) -> list[Told]:
        step = self._open.pop(number)
        self._ended.add(step.title)
        self._said = ""
        if not self._open:
            self._tail.clear()
        return [Told(Kind.END, f"{step.title}  {took}")]

    def _end_all(self) -> list[Told]:
        now = self._clock()
        self._open.pop("commit", None)
        took = {number: f"{now - step.began:.1f} s" for number, step in self._open.items()}
        return [told for number, seconds in took.items() for told in self._end(number, seconds)]

    def _close(self, has_failed: bool) -> list[Told]:
        self._rules = 0
        return self._fail() if has_failed else self._end_all()

    def _fail(self) -> list[Told]:
        told = [Told(Kind.WORDS, line) for line in self._tail]
        self._open.clear()
        self._tail.clear()
        return told


def folding(show: Callable[[str], None]) -> Callable[[str], None]:
    """Return what takes the lines of one build and shows, for good, what is left of them where nothing is live."""
    log = FoldedLog()

    def take(line: str) -> None:
        for told in log.take(line):
            if told.kind is not Kind.END:
                show(told.text)

    return take
