"""ARNs and ids, in AWS's forms."""

from __future__ import annotations

import re
import uuid
from typing import Final

from emberbox.model.errors import AccessDeniedError, ValidationError

MANAGED_ACCOUNT: Final = "aws"
_IMAGE = re.compile(r"arn:(aws[a-zA-Z-]*):lambda:([a-z0-9-]+):(\d{12}):microvm-image:([a-zA-Z0-9_-]{1,64})")
_ANY_IMAGE = re.compile(r"arn:[^:]*:lambda:([a-z0-9-]+):(\d{12}|aws):microvm-image[:/](.+)")
_CONNECTOR = re.compile(r"arn:aws[a-zA-Z-]*:lambda:([a-z0-9-]+):(\d{12}|aws):network-connector:(.+)")
_CONNECTOR_RESOURCE = re.compile(r"([a-zA-Z0-9_-]+)(?::([1-9][0-9]{0,8}))?", re.ASCII)
_MANAGED_CONNECTOR: Final = "aws-network-connector:"

INGRESS_CONNECTORS: Final = ("HTTP_INGRESS", "SHELL_INGRESS", "ALL_INGRESS", "NO_INGRESS")
EGRESS_CONNECTORS: Final = ("INTERNET_EGRESS",)


def image_arn(region: str, account_id: str, name: str) -> str:
    """Return the ARN of an account's image."""
    return f"arn:aws:lambda:{region}:{account_id}:microvm-image:{name}"


def managed_image_arn(region: str, name: str) -> str:
    """Return the ARN of a managed (base) image."""
    return image_arn(region, MANAGED_ACCOUNT, name)


def managed_image_name(text: str, region: str) -> str:
    """Return the name in the ARN of a managed image of a region; nothing where the text is none."""
    prefix = managed_image_arn(region, "")
    return text[len(prefix) :] if text.startswith(prefix) else ""


def managed_connector_arn(region: str, name: str) -> str:
    """Return the ARN of a managed network connector such as INTERNET_EGRESS."""
    return f"arn:aws:lambda:{region}:aws:network-connector:{_MANAGED_CONNECTOR}{name}"


def check_image_arn(text: str, region: str, account_id: str, *, launching: bool = False) -> str:
    """Return the ARN of one of the caller's images, in its plain form.

    Args:
        text: what the caller gave as `imageIdentifier`.
        region: the region served here.
        account_id: the caller's account.
        launching: RunMicrovm words its refusal of a bare name differently.

    Raises:
        ValidationError: it is no ARN; a bare name is refused as AWS refuses it.
        AccessDeniedError: it is another account's, or names no image.
    """
    if not text.startswith("arn:"):
        if launching:
            raise ValidationError("Malformed ARN - doesn't start with 'arn:'")
        raise ValidationError(f"Invalid ARN format: {text}")
    match = _IMAGE.fullmatch(text)
    if match and match[2] == region and match[3] == account_id:
        return text
    if match or _ANY_IMAGE.fullmatch(text):
        raise AccessDeniedError(f"User is not authorized to access this resource: {text}")
    raise ValidationError(f"Invalid ARN format: {text}")


def image_name(arn: str) -> str:
    """Return the name in a checked ARN of an image; of one in another partition, what no image here is called."""
    return arn.rpartition(":")[2] if arn.startswith("arn:aws:") else arn


def connector_arn(region: str, account_id: str, connector: str) -> str:
    """Return the ARN of an account's network connector; AWS puts its id there, not its name."""
    return f"arn:aws:lambda:{region}:{account_id}:network-connector:{connector}"


def is_managed_connector(text: str) -> bool:
    """Say whether a text is the ARN of a network connector of AWS's own account.

    Raises:
        ValidationError: it is no network connector's ARN.
    """
    match = _CONNECTOR.fullmatch(text)
    if not match:
        raise ValidationError("Malformed network connector ARN")
    return match[2] == MANAGED_ACCOUNT


def check_managed_connector(text: str, allowed: tuple[str, ...], region: str) -> str:
    """Return a network connector's ARN when it is a managed one of the right direction.

    Raises:
        ValidationError: it is malformed, or not known here.
    """
    is_managed_connector(text)
    if text not in {managed_connector_arn(region, name) for name in allowed}:
        raise ValidationError(f"Unrecognized managed network connector ARN: {text}")
    return text


def split_connector_arn(text: str, region: str, account_id: str) -> tuple[str, int | None]:
    """Return id and version from the ARN of one of the caller's network connectors; the version may be absent.

    Raises:
        ValidationError: it is malformed.
        AccessDeniedError: it is another account's, or of another region.
    """
    match = _CONNECTOR.fullmatch(text)
    resource = _CONNECTOR_RESOURCE.fullmatch(match[3]) if match else None
    if not match or not resource:
        raise ValidationError("Malformed network connector ARN")
    if (match[1], match[2]) != (region, account_id):
        raise AccessDeniedError(f"User is not authorized to access this resource: {text}")
    return resource[1], int(resource[2]) if resource[2] else None


def new_connector_id() -> str:
    """Return a new network connector's id."""
    return f"nc-{uuid.uuid4()}"


def new_microvm_id() -> str:
    """Return a new microVM id."""
    return f"microvm-{uuid.uuid4()}"


def endpoint_host(label: str, region: str, domain: str) -> str:
    """Return the host name of an endpoint."""
    return f"{label}.lambda-microvm.{region}.{domain}"
