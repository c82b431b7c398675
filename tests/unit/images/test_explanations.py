"""What the author of a Dockerfile is told when its build fails."""

from __future__ import annotations

import pytest

from emberbox.images.explanations import explain_failure


@pytest.mark.parametrize(
    "tail",
    [
        "ERROR: failed to solve: secret absent: not found",
        "ERROR: failed to solve: unset ssh forward key default",
        "resolving mountpoints for container 1: secret required but no secret with id absent found",
        "resolving mountpoints for container 1: ssh required but no ssh with id default found",
    ],
)
def test_there_are_no_secrets(tail: str) -> None:
    for in_sandbox in (False, True):
        assert "no secrets and no SSH keys" in explain_failure(tail, in_sandbox=in_sandbox)


def test_what_only_buildkit_knows_leads_to_sandboxes() -> None:
    """In a sandbox it is BuildKit that does not know a flag."""
    tail = "COPY only supports the --chmod=<permissions> --chown=<uid:gid> and the --from=<image|stage> flags"
    assert "sandboxes do" in explain_failure(tail, in_sandbox=False)
    assert "sandboxes" not in explain_failure("unknown flag: --parents", in_sandbox=True)


def test_all_else_is_in_the_lines_above() -> None:
    assert explain_failure("exit code: 7", in_sandbox=True).endswith("the lines above say where")
