"""TagResource, UntagResource and ListTags."""

from __future__ import annotations

from emberbox.control.server.tags import AddTags, RemoveTags, Tagged, TagService
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.edges.aws.operations.images import read_image_arn
from emberbox.model.arns import split_connector_arn
from emberbox.model.caller import Caller
from emberbox.model.connectors import ConnectorName
from emberbox.model.errors import ValidationError


def handlers(tags: TagService, region: str) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model.

    Args:
        tags: answers.
        region: the region played, for ARNs.
    """

    async def tag(caller: Caller, parameters: Parameters) -> Members:
        await tags.add(caller, AddTags(read_resource(caller, parameters, region), parameters["Tags"]))
        return {}

    async def untag(caller: Caller, parameters: Parameters) -> Members:
        asked = RemoveTags(read_resource(caller, parameters, region), frozenset(parameters["TagKeys"]))
        tags.remove(caller, asked)
        return {}

    async def list_tags(caller: Caller, parameters: Parameters) -> Members:
        return {"Tags": tags.tags_of(caller, read_resource(caller, parameters, region))}

    return {"TagResource": tag, "UntagResource": untag, "ListTags": list_tags}


def read_resource(caller: Caller, parameters: Parameters, region: str) -> Tagged:
    """Return what `Resource` names.

    Raises:
        ValidationError, AccessDeniedError: it is another account's, or of a kind that has no tags here.
    """
    arn: str = parameters["Resource"]
    match arn.split(":")[5]:
        case "network-connector":
            key, version = split_connector_arn(arn, region, caller.account_id)
            return ConnectorName(key, version, named=arn)
        case "microvm-image":
            return read_image_arn(caller, arn, region)
        case kind:
            raise ValidationError(f"Only images and network connectors have tags here, not a {kind}: {arn}")
