"""SnapshotMicrovm, ForkMicrovm and RestoreMicrovm."""

from __future__ import annotations

from emberbox.control.microvms.commands import ForkMicrovm, RestoreMicrovm, SnapshotMicrovm
from emberbox.control.microvms.forks import Forks, ForkService, TakenSnapshot
from emberbox.edges.aws.operations.client_tokens import read_client_request
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.model.caller import Caller
from emberbox.model.endpoints import EndpointNames
from emberbox.model.states import VersionStatus


def handlers(forks: ForkService, names: EndpointNames) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model.

    Args:
        forks: answers.
        names: where endpoints are.
    """

    async def snapshot(caller: Caller, parameters: Parameters) -> Members:
        return show_snapshot(await forks.snapshot(caller, read_snapshot(parameters)))

    async def fork(caller: Caller, parameters: Parameters) -> Members:
        return show_forks(await forks.fork(caller, read_fork(parameters)), names)

    async def restore(caller: Caller, parameters: Parameters) -> Members:
        await forks.restore(caller, RestoreMicrovm(parameters["microvmIdentifier"], parameters["imageVersion"]))
        return {}

    return {"SnapshotMicrovm": snapshot, "ForkMicrovm": fork, "RestoreMicrovm": restore}


def read_snapshot(parameters: Parameters) -> SnapshotMicrovm:
    """Return what is asked for."""
    return SnapshotMicrovm(
        microvm_id=parameters["microvmIdentifier"],
        status=VersionStatus(parameters.get("status", VersionStatus.ACTIVE)),
        client_request=read_client_request("SnapshotMicrovm", parameters),
    )


def read_fork(parameters: Parameters) -> ForkMicrovm:
    """Return what is asked for."""
    return ForkMicrovm(
        microvm_id=parameters["microvmIdentifier"],
        count=parameters.get("count", 1),
        hook_payload=parameters.get("runHookPayload"),
        client_request=read_client_request("ForkMicrovm", parameters),
    )


def show_snapshot(taken: TakenSnapshot) -> Members:
    """Return a snapshot as the API shows it."""
    return {
        "imageArn": taken.image.arn,
        "imageVersion": taken.version.version,
        "state": taken.version.state,
        "status": taken.version.status,
        "sourceStoppedInMilliseconds": _milliseconds(taken.stopped_s),
    }


def show_forks(forks: Forks, names: EndpointNames) -> Members:
    """Return forks as the API shows them."""
    return {
        "items": [
            {"microvmId": fork.id, "endpoint": names.address(fork.endpoint_label), "state": fork.state}
            for fork in forks.microvms
        ],
        "sourceStoppedInMilliseconds": _milliseconds(forks.stopped_s),
    }


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
