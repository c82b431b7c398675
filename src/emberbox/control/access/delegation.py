"""Work that goes on when its request has been answered, and over restarts, with the rights of whoever asked for it.

Nothing secret is kept: who it was is, and each step gets credentials of its own, for which policies are looked up anew.
They end with the access key, as sessions do.
"""

from __future__ import annotations

import uuid
from typing import Final

from emberbox.control.access.identities import Forwarded, Identities
from emberbox.model.caller import Caller
from emberbox.model.errors import AccessDeniedError, ValidationError
from emberbox.model.iam.access import PrincipalKind
from emberbox.model.iam.trust import parse_trust
from emberbox.model.stacks.records import Acting

CLOUDFORMATION: Final = "cloudformation.amazonaws.com"
SESSION: Final = "AWSCloudFormation"
"""What CloudFormation calls the sessions of service roles."""

STEP_S: Final = 3600


class Delegates:
    """Remembers who asked, and acts as them.

    Args:
        identities: who is who.
        region: the region played.
    """

    def __init__(self, identities: Identities, region: str) -> None:
        self._identities = identities
        self._region = region

    def remember(self, caller: Caller, role_arn: str | None = None) -> Acting:
        """Return who work is to be done as: the caller, or a service role of the caller's account.

        Raises:
            ValidationError: there is no such role, or it does not trust CloudFormation.
        """
        credential = caller.credential
        if credential is None:
            raise TypeError("who asks for work has signed")
        issued_by = credential.access_key_id if credential.session_token is None else credential.issued_by
        if role_arn is None:
            issued_at = credential.issued_at
            return Acting(
                credential.kind, credential.name, credential.session_name, issued_by, caller.source_ip,
                tags=dict(credential.session_tags), issued=None if issued_at is None else issued_at.timestamp(),
            )  # fmt: skip
        role = self._identities.find_role(caller.account_id, role_arn.rpartition("/")[2])
        if role is None or role.arn != role_arn:
            raise ValidationError(f"Role {role_arn} is invalid or cannot be assumed: there is no such role")
        if role.trust_document and not parse_trust(role.trust_document).names_service(CLOUDFORMATION):
            raise ValidationError(
                f"Role {role_arn} is invalid or cannot be assumed: its trust policy does not name {CLOUDFORMATION}"
            )
        return Acting(PrincipalKind.ROLE, role.name, SESSION, issued_by, caller.source_ip, is_service_role=True)

    def caller(self, account_id: str, acting: Acting) -> Caller:
        """Return a caller with the rights that somebody has now.

        Raises:
            AccessDeniedError: the access key, the role or the user is not there any more.
        """
        kind = PrincipalKind(acting.kind)
        made = self._identities.start_session(
            account_id, kind, acting.name, acting.session_name, STEP_S, by=acting.issued_by,
            tags=acting.tags,
            forwarded=None if acting.is_service_role else Forwarded(CLOUDFORMATION, acting.issued),
        )  # fmt: skip
        credential = self._identities.find_credential(made.access_key_id, made.session_token)
        if credential is None:
            raise AccessDeniedError(
                f"The {kind} {acting.name}, or the access key that asked for this, is not there any more"
            )
        return Caller(
            account_id, made.access_key_id, self._region, str(uuid.uuid4()), acting.source_ip, credential,
            is_secure=True,  # AWS's services ask each other by TLS; here nothing leaves the process
        )  # fmt: skip
