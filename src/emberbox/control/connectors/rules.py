"""What is refused of network connectors beyond the service model. The texts are AWS's, and so name its members."""

from __future__ import annotations

from typing import Final

from emberbox.control.connectors.commands import CreateConnector
from emberbox.control.requests.tags import check_tags
from emberbox.model.connectors import VpcEgress
from emberbox.model.errors import ValidationError

_NAME_MAX: Final = 64


def check_new(asked: CreateConnector) -> str:
    """Refuse a new connector that is not possible here; m80 recorded what is required.

    Returns:
        Its operator role.

    Raises:
        ValidationError: something is missing or not possible here.
    """
    if len(asked.name) > _NAME_MAX or asked.name.startswith("arn:"):
        raise ValidationError(f"Name must be a name of up to {_NAME_MAX} characters, and no ARN")
    if not asked.operator_role:
        raise ValidationError("NetworkConnectorOperatorRole is required for VPC_EGRESS connector type")
    check_tags(asked.tags)
    check_configuration(asked.configuration)
    return asked.operator_role


def check_configuration(configuration: VpcEgress) -> None:
    """Refuse a configuration that lacks what is needed, or asks for what is not here.

    Raises:
        ValidationError: see above.
    """
    for value, text in (
        (configuration.subnet_ids, "SubnetIds is a required field"),
        (configuration.network_protocol, "NetworkProtocol cannot be null or empty for VPC_EGRESS connector"),
        (configuration.compute_types, "AssociatedComputeResourceTypes is required for VPC_EGRESS connector type"),
    ):
        if not value:
            raise ValidationError(text)
    if configuration.compute_types != ("MicroVm",):
        raise ValidationError("AssociatedComputeResourceTypes can only be [MicroVm] here: there are no functions")
    if configuration.elastic_ip not in (None, "None"):
        raise ValidationError("ElasticIpConfiguration can only have the Type None here: there are no Elastic IPs")
