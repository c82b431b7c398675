"""The handlers of all operations."""

from __future__ import annotations

from emberbox.control.assembly import Control
from emberbox.control.server.info import ServerInfo
from emberbox.edges.aws.operations import access, connectors, events, forks, images, logs, microvms, server, sts, tags
from emberbox.edges.aws.operations.handler import Handler
from emberbox.model.endpoints import EndpointNames
from emberbox.spec.models import CORE, EMBERBOX, LOGS, MICROVMS, STS


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
        STS: sts.handlers(control.access.sessions),
    }
