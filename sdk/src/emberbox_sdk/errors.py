"""What can go wrong, each with what to do next in its text."""

from __future__ import annotations

from emberbox_sdk.results import CommandResult


class EmberboxError(Exception):
    """Anything that this package raises on purpose.

    Args:
        message: what happened.
        hint: what to do next.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message = message
        self.hint = hint


class ConfigurationError(EmberboxError):
    """It is not known where the server is, or who asks."""


class UnreachableError(EmberboxError):
    """The server or the gateway does not answer."""


class DeadlineError(EmberboxError, TimeoutError):
    """Something took longer than it was given.

    Attributes:
        stdout: what a command or code had written by then.
        stderr: the same of its error output.
    """

    def __init__(self, message: str, hint: str = "", *, stdout: str = "", stderr: str = "") -> None:
        super().__init__(message, hint)
        self.stdout = stdout
        self.stderr = stderr


class ApiError(EmberboxError):
    """The server refused a request.

    Args:
        message: its reason.
        hint: what to do next.
        code: the name of the error, such as ValidationException.
        status: of the HTTP answer.
        request_id: what the server's audit trail calls the request.
    """

    def __init__(self, message: str, hint: str = "", *, code: str = "", status: int = 0, request_id: str = "") -> None:
        super().__init__(f"{message} ({code})" if code else message, hint)
        self.code = code
        self.status = status
        self.request_id = request_id


class NotFoundError(ApiError):
    """There is no such sandbox, image, or file."""


class AccessError(ApiError):
    """The credentials, or the rights of a file, do not suffice."""


class ConflictError(ApiError):
    """It cannot be done in the state that the thing is in."""


class QuotaError(ApiError):
    """A limit is reached: of requests in a second, of memory, of sandboxes."""


class SandboxEndedError(EmberboxError):
    """The sandbox has ended, or ended before it was of use."""


class DisconnectedError(EmberboxError):
    """The connection to a command was cut: the sandbox was suspended, rolled back or has ended."""


class ArchiveError(EmberboxError):
    """A copy is not whole: what came is no archive, or holds what is not written here; or a file shrank meanwhile."""


class BuildError(EmberboxError):
    """An image could not be built.

    Attributes:
        log: the last lines of the build.
        version: of the image, that was to be.
        reason: as the server has it.
    """

    def __init__(self, message: str, hint: str, log: tuple[str, ...], *, version: str = "", reason: str = "") -> None:
        super().__init__(message, hint)
        self.log = log
        self.version = version
        self.reason = reason


class NoInterpreterError(EmberboxError):
    """The image has no Python, so no code can be run."""


class CommandFailedError(EmberboxError):
    """A command that was to be checked ended with another exit code than 0.

    Args:
        command: as it was given.
        result: what it wrote and how it ended.
    """

    def __init__(self, command: str, result: CommandResult) -> None:
        last = (result.stderr or result.stdout).strip().rpartition("\n")[2]
        super().__init__(f"`{command}` ended with {result.exit_code}" + (f": {last}" if last else ""))
        self.result = result
