"""Why a build in a sandbox failed, as its log and its state say it."""

from __future__ import annotations

import pytest

from emberbox.images.inside.__main__ import explain


@pytest.mark.parametrize(
    ("tail", "stand_ins", "reason", "said"),
    [
        ("#5 cp: write error: No space left on device", (), "DISK_STORAGE_FULL", "EMBERBOX_BUILD_DISK_BYTES"),
        ("#5 /bin/sh: 1: dnf: not found", ("aws:al2023",), "CONTAINER_BUILD_FAILED", "aws:al2023 is Debian here"),
        ("#5 /bin/sh: 1: dnf: not found", (), "CONTAINER_BUILD_FAILED", "the lines above say where"),
        ("dial tcp: lookup ghcr.io: no such host", (), "CONTAINER_BUILD_FAILED", "cannot be reached from builds"),
    ],
)
def test_a_failure_says_what_to_do_next(tail: str, stand_ins: tuple[str, ...], reason: str, said: str) -> None:
    error = explain(tail, stand_ins)
    assert error.reason == reason
    assert said in error.detail
