"""What BuildKit prints, as the build's log has it."""

from __future__ import annotations

import pytest

from emberbox.images.inside.daemon import own_words


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("#5 0.181 before-it-failed", "before-it-failed"),
        ("#12 13.7 #5 0.181 x", "#5 0.181 x"),
        ("#5 0.181 ", ""),
        ("#5 [2/2] RUN echo 1.5 x", "#5 [2/2] RUN echo 1.5 x"),
        ("#5 DONE 0.2s", "#5 DONE 0.2s"),
        ("", ""),
    ],
)
def test_a_steps_words_come_without_number_and_time(line: str, told: str) -> None:
    assert own_words(line) == told
