"""The handlers of all operations."""

from __future__ import annotations

from emberbox.control.assembly import Control
from emberbox.control.server.info import ServerInfo
from emberbox.edges.aws.operations import (
    access,
    cloudformation,
    cloudwatch,
    connectors,
    ec2,
    events,
    forks,
    iam,
    images,
    logs,
    microvms,
    server,
    service_quotas,
    ssm,
    sts,
    tags,
)
from emberbox.edges.aws.operations.handler import Handler
from emberbox.model.endpoints import EndpointNames
from emberbox.spec.models import (
    CLOUDFORMATION,
    CLOUDWATCH,
    CORE,
    EC2,
    EMBERBOX,
    IAM,
    LOGS,
    MICROVMS,
    QUOTAS,
    SSM,
    STS,
)


def collect_handlers(control: Control, server_info: ServerInfo, names: EndpointNames) -> dict[str, dict[str, Handler]]:
    """Return the handler of each operation, by its name, for each service model.

    Args:
        control: answers.
        server_info: answers what this server is.
        names: where endpoints are.
    """
    return {
        MICROVMS: images.handlers(control.images, control.versions, names.region)
        | tags.handlers(control.tags, names.region)
        | microvms.handlers(control.microvms, names),
        CORE: connectors.handlers(control.connectors, names.region),
        LOGS: logs.handlers(control.logs, names.region),
        EMBERBOX: server.handlers(server_info, control.host_info)
        | forks.handlers(control.forks, names)
        | events.handlers(control.events)
        | access.handlers(control.access),
        **collect_around(control, names.region),
    }


def collect_around(control: Control, region: str) -> dict[str, dict[str, Handler]]:
    """Return the handlers of services around: what is offered of them.

    Args:
        control: answers.
        region: the region played.
    """
    access, pages = control.access, control.page_tokens
    return {
        STS: sts.handlers(access.sessions),
        IAM: iam.handlers(access.iam_roles, access.managed_policies, pages),
        QUOTAS: service_quotas.handlers(access.quota_values, pages, region),
        CLOUDWATCH: cloudwatch.handlers(access.call_counts),
        EC2: ec2.handlers(control.networks, pages, region),
        CLOUDFORMATION: cloudformation.handlers(control.stacks, control.change_sets, pages),
        SSM: ssm.handlers(control.stored_parameters, region),
    }
