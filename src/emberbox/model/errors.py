"""The error tree.

    EmberboxError
    ├── ServiceError               what a caller of the API sees; its code is a shape of the service model
    │   ├── ValidationError        400 ValidationException
    │   │   ├── MalformedPolicyError   400 MalformedPolicyDocumentException, of IAM alone
    │   │   └── CapabilitiesError      400 InsufficientCapabilitiesException, of CloudFormation alone
    │   ├── AccessDeniedError      403 AccessDeniedException
    │   ├── NotFoundError          404 ResourceNotFoundException
    │   │   ├── ChangeSetNotFoundError     404 ChangeSetNotFoundException, of CloudFormation alone
    │   │   └── ParameterNotFoundError     400 ParameterNotFound, of Systems Manager alone
    │   ├── ConflictError          409 ConflictException
    │   │   ├── InUseError             409 DeleteConflictException, of IAM alone
    │   │   ├── UnmodifiableError      400 UnmodifiableEntityException, of IAM alone
    │   │   └── ChangeSetStatusError   400 InvalidChangeSetStatusException, of CloudFormation alone
    │   ├── AlreadyExistsError     400 ResourceAlreadyExistsException
    │   ├── QuotaExceededError     402 ServiceQuotaExceededException
    │   ├── ThrottlingError        429 ThrottlingException
    │   ├── CapacityError          500 InsufficientCapacityException
    │   └── InternalError          500 InternalServerException
    ├── BuildError                 a build ended; carries the reason that the build's stateReason shows
    ├── VmmError                   the VMM failed or died
    ├── GuestError                 the guest or its agent failed, lied or went silent
    │   └── StartError             the guest is up, but the application's program cannot be executed
    └── HostError                  the machine lacks something, or one of its tools failed
        └── DiskFullError          there is no room on the disk that holds all state

`ServiceError` knows nothing of HTTP: the wire layer finds the status of a code in the service model.
"""

from __future__ import annotations

from typing import Any, ClassVar


class EmberboxError(Exception):
    """Base of every error that Emberbox raises on purpose."""


class ServiceError(EmberboxError):
    """An answer of the API that says no.

    Args:
        message: the text for the caller; it names the field and the limit.
        members: further members of the error's shape, by their names in the service model.
    """

    code: ClassVar[str] = "InternalServerException"

    def __init__(self, message: str, **members: Any) -> None:
        super().__init__(message)
        self.message = message
        self.members = members


class ValidationError(ServiceError):
    """The request breaks a rule of the model or of the service."""

    code = "ValidationException"


class MalformedPolicyError(ValidationError):
    """A policy document that IAM does not take."""

    code = "MalformedPolicyDocumentException"


class CapabilitiesError(ValidationError):
    """A template makes what its sender has not acknowledged."""

    code = "InsufficientCapabilitiesException"


class AccessDeniedError(ServiceError):
    """The caller may not do this."""

    code = "AccessDeniedException"


class NotFoundError(ServiceError):
    """The named resource does not exist."""

    code = "ResourceNotFoundException"


class ChangeSetNotFoundError(NotFoundError):
    """There is no such change set."""

    code = "ChangeSetNotFoundException"


class ParameterNotFoundError(NotFoundError):
    """Nothing is stored under a name."""

    code = "ParameterNotFound"


class ConflictError(ServiceError):
    """The resource is in a state that does not allow this."""

    code = "ConflictException"


class InUseError(ConflictError):
    """What still has something that belongs to it cannot be deleted."""

    code = "DeleteConflictException"


class UnmodifiableError(ConflictError):
    """It is for others to change."""

    code = "UnmodifiableEntityException"


class ChangeSetStatusError(ConflictError):
    """A change set is in a status that does not allow this."""

    code = "InvalidChangeSetStatusException"


class AlreadyExistsError(ServiceError):
    """There is one of this name already; CloudWatch Logs and IAM have a code of their own for that."""

    code = "ResourceAlreadyExistsException"


class QuotaExceededError(ServiceError):
    """The account has reached a limit."""

    code = "ServiceQuotaExceededException"


class ThrottlingError(ServiceError):
    """Too many requests in too short a time."""

    code = "ThrottlingException"


class CapacityError(ServiceError):
    """The machine has no room for another microVM."""

    code = "InsufficientCapacityException"


class InternalError(ServiceError):
    """Something broke on our side."""

    code = "InternalServerException"


class BuildError(EmberboxError):
    """A build failed.

    Args:
        reason: what the build's `stateReason` shows: a code (`S3_NO_SUCH_KEY`) or a sentence.
        detail: one line for the build log that says what happened and what to do next.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class VmmError(EmberboxError):
    """The VMM did not start, did not answer, or died."""


class GuestError(EmberboxError):
    """The guest, or the agent in it, broke the protocol or did not answer in time."""


class StartError(GuestError):
    """The application could not be started; the text says why."""


class HostError(EmberboxError):
    """The machine lacks something, or a tool of it failed; the message says what to do."""


class DiskFullError(HostError):
    """There is no room on the disk that holds all state."""
