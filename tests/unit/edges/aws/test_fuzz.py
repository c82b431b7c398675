"""A few hundred requests that Hypothesis makes from the models; benchmarks/fuzz_api.py makes 20,000 and more."""

from __future__ import annotations

from pathlib import Path

from .fuzz import run_fuzzer

EXAMPLES = 400


def test_whatever_is_sent_the_answer_is_awss_and_no_row_is_half_made(tmp_path: Path) -> None:
    run_fuzzer(tmp_path, EXAMPLES)
