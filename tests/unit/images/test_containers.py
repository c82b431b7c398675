"""How a container build that failed is told."""

from __future__ import annotations

from emberbox.images.containers import _build_error
from emberbox.process import CommandError


def test_a_failed_build_is_told_from_a_full_disk() -> None:
    error = CommandError("buildah exited with code 1", 1)
    assert _build_error(["write /x: no space left on device"], error).reason == "DISK_STORAGE_FULL"
    assert _build_error(["boom"], error).reason == "CONTAINER_BUILD_FAILED"
    old = _build_error(['Error: building at STEP "SET ": Build error: Unknown instruction: "SET"'], error)
    assert "the host's buildah does not know" in old.detail
    late = _build_error([], CommandError("buildah did not finish within 5 s and was stopped", None))
    assert (late.reason, "within 5 s" in late.detail) == ("CONTAINER_BUILD_FAILED", True)
