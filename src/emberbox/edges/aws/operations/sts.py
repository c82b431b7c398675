"""STS: who somebody is, and temporary credentials."""

from __future__ import annotations

from typing import Final

from emberbox.control.access.sessions import AssumeRoleByArn, SessionService
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.edges.aws.operations.offered import offer
from emberbox.model.caller import Caller
from emberbox.model.errors import ValidationError
from emberbox.model.iam.access import SessionTag, TemporaryCredentials

SESSION_S: Final = 43_200
ROLE_SESSION_S: Final = 3600
"""What STS takes where a request says nothing, in seconds."""

_ASSUME_ROLE: Final = (
    "RoleArn", "RoleSessionName", "DurationSeconds", "ExternalId", "Tags", "TransitiveTagKeys",
)  # fmt: skip


def handlers(sessions: SessionService) -> dict[str, Handler]:
    """Return the handler of each operation that is offered, by its name in the service model."""

    async def get_caller_identity(caller: Caller, _parameters: Parameters) -> Members:
        sender = sessions.identify(caller)
        return {"UserId": sender.id, "Account": sender.account_id, "Arn": sender.arn}

    async def get_session_token(caller: Caller, parameters: Parameters) -> Members:
        made = sessions.get_session_token(caller, parameters.get("DurationSeconds", SESSION_S))
        return {"Credentials": show_credentials(made)}

    async def assume_role(caller: Caller, parameters: Parameters) -> Members:
        made = sessions.assume_role(caller, read_assume_role(parameters))
        return {
            "Credentials": show_credentials(made.credentials),
            "AssumedRoleUser": {"AssumedRoleId": made.sender.id, "Arn": made.sender.arn},
        }

    return {
        "GetCallerIdentity": offer(get_caller_identity),
        "GetSessionToken": offer(get_session_token, "DurationSeconds"),
        "AssumeRole": offer(assume_role, *_ASSUME_ROLE),
    }


def read_assume_role(parameters: Parameters) -> AssumeRoleByArn:
    """Return what is asked for.

    Raises:
        ValidationError: a tag is given twice, or one is to go on that is not given.
    """
    return AssumeRoleByArn(
        role_arn=parameters["RoleArn"],
        session_name=parameters["RoleSessionName"],
        duration_s=parameters.get("DurationSeconds", ROLE_SESSION_S),
        external_id=parameters.get("ExternalId"),
        tags=_read_tags(parameters.get("Tags") or [], parameters.get("TransitiveTagKeys") or []),
    )


def _read_tags(given: list[dict[str, str]], transitive: list[str]) -> dict[str, SessionTag]:
    """Keys of tags are told apart without regard to capitals ("Pass session tags in AWS STS")."""
    going_on = {key.lower() for key in transitive}
    names = {tag["Key"].lower() for tag in given}
    if len(names) != len(given):
        raise ValidationError("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if going_on - names:
        raise ValidationError("The specified transitive tag key must be included in the requested tags.")
    return {tag["Key"]: SessionTag(tag["Value"], tag["Key"].lower() in going_on) for tag in given}


def show_credentials(made: TemporaryCredentials) -> Members:
    """Return temporary credentials as STS shows them."""
    return {
        "AccessKeyId": made.access_key_id,
        "SecretAccessKey": made.secret_access_key,
        "SessionToken": made.session_token,
        "Expiration": made.expires_at.replace(microsecond=0),
    }
