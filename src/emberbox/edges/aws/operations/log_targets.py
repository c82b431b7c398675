"""Where output goes, in AWS's words: the member `logging` of several operations."""

from __future__ import annotations

from emberbox.edges.aws.operations.handler import Members, Parameters
from emberbox.model.launch_requests import LogTarget


def read_log_target(given: Parameters | None) -> LogTarget | None:
    """Return what is asked for; the model lets one of the members be set."""
    if given is None:
        return None
    names = given.get("cloudWatch") or {}
    return LogTarget("disabled" not in given, names.get("logGroup"), names.get("logStream"))


def show_log_target(target: LogTarget | None) -> Members | None:
    """Return what was asked for."""
    if target is None:
        return None
    return {"cloudWatch": {"logGroup": target.group, "logStream": target.stream}} if target.is_on else {"disabled": {}}
