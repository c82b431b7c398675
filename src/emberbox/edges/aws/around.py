"""Which operation a request means that is signed for a service around: STS, IAM, CloudFormation and more.

Only what is offered is looked up in the services' models, which are large; everything else, and every other service, is
refused by its own name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from emberbox.edges.aws.dialects import Dialect
from emberbox.edges.aws.errors import NotOfferedError
from emberbox.edges.aws.forms import form_pairs
from emberbox.edges.aws.http import HttpRequest
from emberbox.edges.aws.routing import Match
from emberbox.spec.models import CLOUDFORMATION, CLOUDWATCH, EC2, IAM, QUOTAS, SSM, STS, load_operation, load_service

BY_SIGNING_NAME: Final[Mapping[str, str]] = {
    "sts": STS,
    "iam": IAM,
    "servicequotas": QUOTAS,
    "monitoring": CLOUDWATCH,
    "ec2": EC2,
    "cloudformation": CLOUDFORMATION,
    "ssm": SSM,
}
"""The services' names in their models, by what signatures for them are made for."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}", re.ASCII)
_PROTOCOLS: Final = {Dialect.JSON: "json", Dialect.QUERY: "query", Dialect.EC2: "ec2"}
"""Their names in the models, of those in which a request says by name what it asks for."""


def find_operation(
    signing_name: str, dialect: Dialect, request: HttpRequest, offered: Mapping[str, Collection[str]]
) -> Match:
    """Find the operation of a request.

    Args:
        signing_name: what its signature was made for.
        dialect: how it says what it asks for.
        request: the request.
        offered: the operations that are here, by the service's name.

    Raises:
        NotOfferedError: it asks for another one, or of another service.
    """
    service = BY_SIGNING_NAME.get(signing_name, "")
    name = asked_operation(dialect, request)
    if (
        name not in offered.get(service, ())
        or _PROTOCOLS.get(dialect) not in load_service(service).metadata["protocols"]
    ):
        raise NotOfferedError(signing_name, name)
    return Match(service, name, load_operation(service, name), {})


def asked_operation(dialect: Dialect, request: HttpRequest) -> str:
    """Return the name of the operation that a request asks for; empty where its protocol has none."""
    name = ""
    if dialect is Dialect.JSON:
        name = (request.header("x-amz-target") or "").rpartition(".")[2]
    elif dialect is Dialect.CBOR:  # /service/NAME/operation/NAME
        name = request.raw_path.rpartition("/")[2]
    elif dialect in (Dialect.QUERY, Dialect.EC2):
        name = next((value for key, value in form_pairs(request) if key == "Action"), "")
    return name if _NAME.fullmatch(name) else ""
