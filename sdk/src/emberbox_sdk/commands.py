"""Commands on the wire: requests, and the lines and frames that answer them (docs/shell.md); nothing here sends."""

from __future__ import annotations

import base64
import codecs
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from emberbox_sdk.errors import (
    AccessError,
    ApiError,
    ConflictError,
    DisconnectedError,
    EmberboxError,
    NotFoundError,
    SandboxEndedError,
)
from emberbox_sdk.results import CommandResult, Output

SUBPROTOCOL: Final = "emberbox.exec.v1"
TOKEN_HEADER: Final = "X-aws-proxy-auth"  # noqa: S105 - the header's name
PORT_HEADER: Final = "X-aws-proxy-port"
INPUT_CHARACTERS_MAX: Final = 100_000
"""More than that goes over a WebSocket; a request may have a MiB in all."""

STDERR_MARK: Final = 2
NORMAL_CLOSE: Final = 1000
PTY_PROGRAM: Final = ("/bin/sh", "-c", "if command -v bash >/dev/null; then exec bash -i; else exec sh -i; fi")

Program = str | Sequence[str]
"""A line for `sh`, or program and arguments without a shell."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command as it is asked for.

    Attributes:
        command: a line for the shell, or program and arguments.
        cwd: directory; the application's when missing.
        env: variables beside the application's own.
        user: whose rights it has; the application's when missing.
        terminal: whether it gets a terminal.
        errors: what becomes of bytes of its output that are no UTF-8, as `bytes.decode` takes it.
        keep_bytes: how much of each of its outputs is kept; all when missing.
    """

    command: Program
    cwd: str | None = None
    env: Mapping[str, str] | None = None
    user: str | None = None
    terminal: bool = False
    errors: str = "replace"
    keep_bytes: int | None = None

    def members(self) -> dict[str, Any]:
        """Return the ExecRequest."""
        program = ["/bin/sh", "-c", self.command] if isinstance(self.command, str) else list(self.command)
        optional = {"workingDirectory": self.cwd, "environmentVariables": dict(self.env or {}), "user": self.user}
        return {"command": program, "terminal": self.terminal} | {
            name: value for name, value in optional.items() if value
        }

    def __str__(self) -> str:
        return self.command if isinstance(self.command, str) else " ".join(self.command)


@dataclass(slots=True)
class Gathered:
    """What a command has written, piece by piece."""

    errors: str = "replace"
    keep_bytes: int | None = None
    exit_code: int | None = None
    truncated: bool = False
    _kept: dict[str, bytearray] = field(default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()})
    _decoders: dict[str, codecs.IncrementalDecoder] = field(
        default_factory=lambda: {
            name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")
        }
    )

    def add(self, output: Output) -> str:
        """Take a piece; return its text, of which the last character may be held back until it is whole."""
        kept = self._kept[output.stream]
        room = len(output.data) if self.keep_bytes is None else self.keep_bytes - len(kept)
        kept += output.data[:room]
        self.truncated = self.truncated or len(output.data) > room
        return self._decoders[output.stream].decode(output.data)

    def texts(self) -> tuple[str, str]:
        """Return output and error output so far."""
        out, err = (self._kept[name].decode(errors=self.errors) for name in ("stdout", "stderr"))
        return out, err

    def result(self) -> CommandResult:
        """Return the whole of a command that has ended."""
        assert self.exit_code is not None
        return CommandResult(self.exit_code, *self.texts(), truncated=self.truncated)


def read_line(line: str) -> Output | int:
    """Return what a line of `POST /exec` tells: a piece of output, or the exit code.

    Raises:
        DisconnectedError: the sandbox was suspended or has ended.
    """
    content = json.loads(line)
    match content:
        case {"type": "exit", "exitCode": int(code)}:
            return code
        case {"type": "stdout" | "stderr" as stream, "data": str(data)}:
            return Output(stream, base64.b64decode(data))
    raise disconnected(str(content.get("message", "")))


def read_frame(frame: bytes | str) -> Output | int:
    """Return what a message of the WebSocket tells: a piece of output, or the exit code.

    Raises:
        EmberboxError: the command could not be started.
    """
    if isinstance(frame, bytes):
        return Output("stderr" if frame[0] == STDERR_MARK else "stdout", frame[1:])
    content = json.loads(frame)
    if content.get("type") == "exit":
        return int(content["exitCode"])
    raise EmberboxError(str(content.get("message") or "the command could not be started"))


def disconnected(reason: str) -> DisconnectedError:
    """Return the error for a connection that was cut before the command's end was told."""
    hint = "what ran goes on when the sandbox is resumed, but what it writes is not seen any more"
    return DisconnectedError(reason or "the connection to the sandbox broke", hint)


def refusal(status: int, body: bytes, sandbox_id: str) -> EmberboxError:
    """Return the error that an answer of the gateway or the data plane stands for."""
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = body[:200].decode(errors="replace").strip()
    if status == HTTPStatus.BAD_GATEWAY:
        if "has ended" in message:
            return SandboxEndedError(message, "create another one with Sandbox.create()")
        return ConflictError(
            message or f"{sandbox_id} does not run", "resume() lets a suspended one go on", status=status
        )
    kinds: Mapping[int, type[ApiError]] = {
        HTTPStatus.NOT_FOUND: NotFoundError,
        HTTPStatus.FORBIDDEN: AccessError,
        HTTPStatus.CONFLICT: ConflictError,
    }
    return kinds.get(status, ApiError)(message or f"the gateway answered {status}", status=status)


def is_stale_token(status: int, body: bytes) -> bool:
    """Return whether the gateway did not take the token, so that a new one may help."""
    return status == HTTPStatus.FORBIDDEN and body.startswith((b"Token authentication failed", b"Request missing"))
