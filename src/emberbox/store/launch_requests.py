"""Launch requests as the column `microvms.request` has them: JSON in the names of RunMicrovm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emberbox.model.arns import managed_connector_arn
from emberbox.model.launch_requests import MAX_DURATION_S, IdlePolicy, Ingress, LaunchRequest, LogTarget

Json = dict[str, Any]
"""Any: JSON; each member has a type of its own."""


def read_request(stored: Mapping[str, Any]) -> LaunchRequest:  # Any: see Json
    """Return what a column says."""
    policy, ingress = stored.get("idlePolicy"), stored.get("ingressNetworkConnectors") or ()
    return LaunchRequest(
        region=ingress[0].split(":")[3] if ingress else "",
        ingress=tuple(Ingress(arn.rpartition(":")[2]) for arn in ingress),
        egress=tuple(stored.get("egressNetworkConnectors") or ()),
        execution_role=stored.get("executionRoleArn"),
        idle_policy=None if policy is None else _read_policy(policy),
        log_target=read_log_target(stored.get("logging")),
        hook_payload=stored.get("runHookPayload"),
        max_duration_s=stored.get("maximumDurationInSeconds", MAX_DURATION_S),
    )


def write_request(request: LaunchRequest) -> Json:
    """Return what a column says of a request."""
    return {
        "executionRoleArn": request.execution_role,
        "idlePolicy": None if request.idle_policy is None else _write_policy(request.idle_policy),
        "logging": write_log_target(request.log_target),
        "runHookPayload": request.hook_payload,
        "maximumDurationInSeconds": request.max_duration_s,
        "ingressNetworkConnectors": [managed_connector_arn(request.region, name) for name in request.ingress],
        "egressNetworkConnectors": list(request.egress),
    }


def _read_policy(stored: Json) -> IdlePolicy:
    return IdlePolicy(
        max_idle_s=stored["maxIdleDurationSeconds"],
        suspended_s=stored["suspendedDurationSeconds"],
        resumes_itself=stored["autoResumeEnabled"],
    )


def _write_policy(policy: IdlePolicy) -> Json:
    return {
        "maxIdleDurationSeconds": policy.max_idle_s,
        "suspendedDurationSeconds": policy.suspended_s,
        "autoResumeEnabled": policy.resumes_itself,
    }


def read_log_target(stored: Json | None) -> LogTarget | None:
    """Return where output goes, as a request that is stored says it."""
    if stored is None:
        return None
    if "disabled" in stored:
        return LogTarget(is_on=False)
    names = stored.get("cloudWatch") or {}
    return LogTarget(group=names.get("logGroup"), stream=names.get("logStream"))


def write_log_target(target: LogTarget | None) -> Json | None:
    """Return what a request that is stored says of where output goes."""
    if target is None:
        return None
    if not target.is_on:
        return {"disabled": {}}
    names = {"logGroup": target.group, "logStream": target.stream}
    return {"cloudWatch": {name: value for name, value in names.items() if value is not None}}
