"""What commands, code and files give back."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A command that has ended.

    Attributes:
        exit_code: the command's; 128 + n after signal n.
        stdout: what it wrote, decoded as UTF-8; bytes that are none are replaced.
        stderr: the same of its error output.
        truncated: whether it wrote more than was to be kept.
    """

    exit_code: int
    stdout: str
    stderr: str
    truncated: bool = False

    @property
    def ok(self) -> bool:
        """Whether it ended with 0."""
        return self.exit_code == 0


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of what a command wrote.

    Attributes:
        stream: `stdout` or `stderr`.
        data: the bytes.
    """

    stream: str
    data: bytes

    @property
    def text(self) -> str:
        """The bytes as text; characters that are cut in two are replaced."""
        return self.data.decode(errors="replace")


class State(StrEnum):
    """Of a sandbox, in AWS's words."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDING = "SUSPENDING"
    SUSPENDED = "SUSPENDED"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """What the server knows of a sandbox.

    Attributes:
        id: of the microVM.
        state: at the time.
        image: the image's name.
        version: the image's version.
        image_arn: the image's full name.
        started_at: when it was created.
        reason: of its state, where there is one.
    """

    id: str
    state: State
    image: str
    version: str
    image_arn: str
    started_at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A sandbox at an instant: what it can be rolled back to.

    Attributes:
        image_arn: of the image.
        version: of the image, made by the checkpoint.
        stopped_ms: how long the sandbox stood still for it.
        launchable: whether others can be created from it, too.
    """

    image_arn: str
    version: str
    stopped_ms: int = 0
    launchable: bool = False


class Kind(StrEnum):
    """Of what a path leads to."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or directory of a sandbox.

    Attributes:
        path: absolute.
        kind: what it is; links are not followed.
        size: in bytes.
        mode: permissions.
        uid: owner.
        gid: group.
        modified_at: seconds since 1970.
    """

    path: str
    kind: Kind
    size: int
    mode: int
    uid: int
    gid: int
    modified_at: float

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2] or "/"


class Change(StrEnum):
    """Of a path that is watched."""

    CREATED = "created"
    MODIFIED = "modified"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class FileEvent:
    """Something that happened below a directory that is watched."""

    change: Change
    path: str


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that code showed: the value of its last line, a chart, or what it gave to `display`.

    Attributes:
        data: forms of it by MIME type; binary ones are in Base64.
        is_main: whether it is the value of the last line.
    """

    data: Mapping[str, str]
    is_main: bool = False

    @property
    def text(self) -> str:
        """As text."""
        return self.data.get("text/plain", "")

    @property
    def html(self) -> str | None:
        """As HTML, such as of a table."""
        return self.data.get("text/html")

    @property
    def markdown(self) -> str | None:
        """As Markdown."""
        return self.data.get("text/markdown")

    @property
    def latex(self) -> str | None:
        """As LaTeX."""
        return self.data.get("text/latex")

    @property
    def svg(self) -> str | None:
        """As SVG."""
        return self.data.get("image/svg+xml")

    @property
    def json(self) -> Any:
        """As JSON, decoded; None where there is none."""
        found = self.data.get("application/json")
        return None if found is None else json.loads(found)

    @property
    def png(self) -> bytes | None:
        """As a PNG picture, such as of a chart."""
        return self._bytes("image/png")

    @property
    def jpeg(self) -> bytes | None:
        """As a JPEG picture."""
        return self._bytes("image/jpeg")

    def _bytes(self, mime: str) -> bytes | None:
        found = self.data.get(mime)
        return None if found is None else base64.b64decode(found)


@dataclass(frozen=True, slots=True)
class CodeError:
    """An exception that ended code.

    Attributes:
        name: its class.
        value: its text.
        traceback: as Python prints it, the code's own lines alone.
    """

    name: str
    value: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Execution:
    """Code that has run.

    Attributes:
        results: what it showed, in order.
        stdout: what it wrote.
        stderr: the same of its error output.
        error: what ended it; None when it ran to its end.
        count: how many pieces of code have run in this context.
    """

    results: tuple[Result, ...] = ()
    stdout: str = ""
    stderr: str = ""
    error: CodeError | None = None
    count: int = 0

    @property
    def text(self) -> str | None:
        """The value of the last line as text; None where it has none."""
        return next((result.text for result in self.results if result.is_main), None)

    @property
    def png(self) -> bytes | None:
        """The first picture."""
        return next((result.png for result in self.results if result.png is not None), None)


@dataclass(slots=True)
class ExecutionBuilder:
    """Gathers an `Execution` from the messages of the interpreter (kernel.py)."""

    results: list[Result] = field(default_factory=list)
    outputs: dict[str, list[str]] = field(default_factory=lambda: {"stdout": [], "stderr": []})
    error: CodeError | None = None
    count: int = 0

    def take(self, message: Mapping[str, Any]) -> Result | tuple[str, str] | None:
        """Add a message; return what it shows or writes, if anything."""
        match message:
            case {"type": "result", "data": data}:
                result = Result(dict(data), bool(message.get("main")))
                self.results.append(result)
                return result
            case {"type": "stdout" | "stderr" as stream, "text": str(text)}:
                self.outputs[stream].append(text)
                return stream, text
            case {"type": "error", "name": str(name), "value": str(value), "traceback": str(trace)}:
                self.error = CodeError(name, value, trace)
            case {"type": "done", "count": int(count)}:
                self.count = count
        return None

    def finish(self) -> Execution:
        """Return the whole."""
        out, err = ("".join(self.outputs[name]) for name in ("stdout", "stderr"))
        return Execution(tuple(self.results), out, err, self.error, self.count)
