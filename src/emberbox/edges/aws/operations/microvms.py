"""The operations on microVMs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from emberbox.control.endpoints.tokens import FIRST_PORT, LAST_PORT
from emberbox.control.images.rules import refuse_kms_key
from emberbox.control.microvms.commands import CreateAuthToken, CreateShellAuthToken, ListMicrovms, RunMicrovm
from emberbox.control.microvms.service import MicrovmService
from emberbox.edges.aws.operations.client_tokens import read_client_request
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.edges.aws.operations.log_targets import read_log_target
from emberbox.edges.aws.operations.pages import read_page, show_page
from emberbox.model.arns import (
    INGRESS_CONNECTORS,
    check_image_arn,
    check_managed_connector,
    image_name,
    managed_connector_arn,
)
from emberbox.model.caller import Caller
from emberbox.model.endpoints import EndpointNames
from emberbox.model.errors import ValidationError
from emberbox.model.launch_requests import IdlePolicy, Ingress
from emberbox.model.records import ListedMicrovm, Microvm

TOKEN_HEADER: Final = "X-aws-proxy-auth"  # noqa: S105 - a header's name


def handlers(microvms: MicrovmService, names: EndpointNames) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model.

    Args:
        microvms: answers.
        names: where endpoints are.
    """

    async def run(caller: Caller, parameters: Parameters) -> Members:
        return show_microvm(await microvms.run(caller, read_run(caller, parameters, names.region)), names)

    async def get(caller: Caller, parameters: Parameters) -> Members:
        return show_microvm(microvms.get(caller, parameters["microvmIdentifier"]), names)

    async def list_microvms(caller: Caller, parameters: Parameters) -> Members:
        return show_page(microvms.list_microvms(caller, read_list(caller, parameters, names.region)), show_brief)

    async def suspend(caller: Caller, parameters: Parameters) -> Members:
        await microvms.suspend(caller, parameters["microvmIdentifier"])
        return {}

    async def resume(caller: Caller, parameters: Parameters) -> Members:
        await microvms.resume(caller, parameters["microvmIdentifier"])
        return {}

    async def terminate(caller: Caller, parameters: Parameters) -> Members:
        microvms.terminate(caller, parameters["microvmIdentifier"])
        return {}

    async def create_auth_token(caller: Caller, parameters: Parameters) -> Members:
        return _show_token(microvms.create_auth_token(caller, read_create_auth_token(parameters)))

    async def create_shell_auth_token(caller: Caller, parameters: Parameters) -> Members:
        asked = CreateShellAuthToken(parameters["microvmIdentifier"], parameters["expirationInMinutes"])
        return _show_token(microvms.create_shell_auth_token(caller, asked))

    return {
        "RunMicrovm": run,
        "GetMicrovm": get,
        "ListMicrovms": list_microvms,
        "SuspendMicrovm": suspend,
        "ResumeMicrovm": resume,
        "TerminateMicrovm": terminate,
        "CreateMicrovmAuthToken": create_auth_token,
        "CreateMicrovmShellAuthToken": create_shell_auth_token,
    }


# --- what is asked


def read_run(caller: Caller, parameters: Parameters, region: str) -> RunMicrovm:
    """Return what is asked for.

    Raises:
        ValidationError, AccessDeniedError: an ARN is malformed or another account's, or there is a KMS key.
    """
    arn = check_image_arn(parameters["imageIdentifier"], region, caller.account_id, launching=True)
    refuse_kms_key(parameters.get("kmsKeyIdentifier"))
    return RunMicrovm(
        image=image_name(arn),
        named=arn,
        version=parameters.get("imageVersion"),
        ingress=read_ingress(parameters.get("ingressNetworkConnectors") or (), region),
        egress=tuple(parameters.get("egressNetworkConnectors") or ()),
        execution_role=parameters.get("executionRoleArn"),
        idle_policy=_read_idle_policy(parameters.get("idlePolicy")),
        log_target=read_log_target(parameters.get("logging")),
        hook_payload=parameters.get("runHookPayload"),
        max_duration_s=parameters.get("maximumDurationInSeconds"),
        client_request=read_client_request("RunMicrovm", parameters),
    )


def read_ingress(arns: Sequence[str], region: str) -> tuple[Ingress, ...]:
    """Return what ingress connectors let in.

    Raises:
        ValidationError: one is malformed, or not known here.
    """
    checked = [check_managed_connector(arn, INGRESS_CONNECTORS, region) for arn in arns]
    return tuple(Ingress(arn.rpartition(":")[2]) for arn in checked)


def _read_idle_policy(given: Parameters | None) -> IdlePolicy | None:
    if given is None:
        return None
    return IdlePolicy(given["maxIdleDurationSeconds"], given["suspendedDurationSeconds"], given["autoResumeEnabled"])


def read_list(caller: Caller, parameters: Parameters, region: str) -> ListMicrovms:
    """Return what is asked for.

    Raises:
        ValidationError, AccessDeniedError: the image's ARN is malformed or another account's.
    """
    arn = parameters.get("imageIdentifier")
    return ListMicrovms(
        page=read_page(parameters),
        image=None if arn is None else image_name(check_image_arn(arn, region, caller.account_id)),
        version=parameters.get("imageVersion"),
    )


def read_create_auth_token(parameters: Parameters) -> CreateAuthToken:
    """Return what is asked for.

    Raises:
        ValidationError: a port has no form that the service knows.
    """
    return CreateAuthToken(
        microvm_id=parameters["microvmIdentifier"],
        minutes=parameters["expirationInMinutes"],
        ports=read_ports(parameters["allowedPorts"]),
    )


def read_ports(allowed: Sequence[Mapping[str, Any]]) -> tuple[tuple[int, int], ...]:  # Any: see Parameters
    """Return the first and the last port of each member of `allowedPorts`; the service checks them.

    Raises:
        ValidationError: a member sets not exactly one of its members.
    """
    return tuple(_read_range(member) for member in allowed)


def _read_range(member: Mapping[str, Any]) -> tuple[int, int]:  # Any: see Parameters
    match dict(member):
        case {"port": int(port), **rest} if not rest:
            return port, port
        case {"range": {"startPort": int(first), "endPort": int(last)}, **rest} if not rest:
            return first, last
        case {"allPorts": _, **rest} if not rest:
            return FIRST_PORT, LAST_PORT
    raise ValidationError("Each member of allowedPorts must set exactly one of port, range and allPorts")


# --- what is answered


def show_microvm(microvm: Microvm, names: EndpointNames) -> Members:
    """Return a microVM as the API shows it."""
    request, policy = microvm.request, microvm.request.idle_policy
    return {
        "microvmId": microvm.id,
        "state": microvm.state,
        "endpoint": names.address(microvm.endpoint_label),
        "imageArn": microvm.image_arn,
        "imageVersion": microvm.image_version,
        "executionRoleArn": request.execution_role,
        "idlePolicy": None if policy is None else _show_idle_policy(policy),
        "maximumDurationInSeconds": request.max_duration_s,
        "startedAt": microvm.started_at,
        "terminatedAt": microvm.terminated_at,
        "stateReason": microvm.state_reason,
        "ingressNetworkConnectors": [managed_connector_arn(request.region, name) for name in request.ingress],
        "egressNetworkConnectors": request.egress,
    }


def show_brief(microvm: ListedMicrovm) -> Members:
    """Return a microVM as a list shows it."""
    return {
        "microvmId": microvm.id,
        "state": microvm.state,
        "imageArn": microvm.image_arn,
        "imageVersion": microvm.image_version,
        "startedAt": microvm.started_at,
    }


def _show_idle_policy(policy: IdlePolicy) -> Members:
    return {
        "maxIdleDurationSeconds": policy.max_idle_s,
        "suspendedDurationSeconds": policy.suspended_s,
        "autoResumeEnabled": policy.resumes_itself,
    }


def _show_token(token: str) -> Members:
    return {"authToken": {TOKEN_HEADER: token}}
