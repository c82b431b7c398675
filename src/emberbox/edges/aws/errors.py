"""Refusals that the wire layer itself makes, before or instead of a handler.

EmberboxError
└── WireError                        code, status and text of an answer that no service model describes
    ├── AuthenticationError          403 the signature, its key or its time is not acceptable
    ├── UnknownOperationError        404 UnknownOperationException
    ├── SerializationError           400 SerializationException, with a capital `Message`
    ├── ConstraintError              400 the request breaks constraints of the model
    ├── RequestTooLargeError         413 RequestEntityTooLargeException
    ├── BusyError                    503 ServiceUnavailableException
    ├── NotSupportedError            501 NotImplementedException
    └── NotOfferedError              404 UnknownOperationException; InvalidAction where the service speaks XML
"""

from __future__ import annotations

from typing import ClassVar

from emberbox.model.errors import EmberboxError


class WireError(EmberboxError):
    """An answer that says no in AWS's form.

    Args:
        message: the text for the caller; None is sent as JSON null, as AWS's gateway does.
        code: overrides the class's error code.
        status: overrides the class's HTTP status.
    """

    code: ClassVar[str] = "BadRequestException"
    default_status: ClassVar[int] = 400
    message_key: ClassVar[str] = "message"

    def __init__(self, message: str | None, code: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = code or self.code
        self.status = status or self.default_status


class AuthenticationError(WireError):
    """The request proves no identity; the code says why."""

    code = "InvalidSignatureException"
    default_status = 403


class UnknownOperationError(WireError):
    """No operation has this method and path, or this target."""

    code = "UnknownOperationException"
    default_status = 404

    def __init__(self) -> None:
        super().__init__(None)


class SerializationError(WireError):
    """The request cannot be read as the operation's input; AWS spells the text's key `Message` here."""

    code = "SerializationException"
    message_key = "Message"


class ConstraintError(WireError):
    """The request can be read but breaks constraints that the model states."""

    code = "ValidationException"


class RequestTooLargeError(WireError):
    """The body is larger than the server reads."""

    code = "RequestEntityTooLargeException"
    default_status = 413


class BusyError(WireError):
    """Others' bodies take all the room that there is; SDKs repeat such a request."""

    code = "ServiceUnavailableException"
    default_status = 503


class NotSupportedError(WireError):
    """The model has the operation and Emberbox does not; 501 because no SDK in Python repeats it."""

    code = "NotImplementedException"
    default_status = 501


class NotOfferedError(WireError):
    """A service around has the operation, or may have it, and Emberbox does not offer it; SDKs do not repeat it.

    Args:
        signing_name: of the service.
        operation: its name; empty where it is not known.
    """

    code = "UnknownOperationException"
    default_status = 404

    def __init__(self, signing_name: str, operation: str) -> None:
        what = f"{operation} of {signing_name}" if operation else f"This operation of {signing_name or 'a service'}"
        super().__init__(f"{what} is not offered by Emberbox; docs/services.md lists what is.")
        self.signing_name = signing_name
        self.operation = operation
