"""Sandboxes in microVMs of your own: `Sandbox` blocks, `AsyncSandbox` is for asyncio; both do the same.

with Sandbox.create() as sandbox:
    print(sandbox.run("uname -a").stdout)
    print(sandbox.run_code("6 * 7").text)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from emberbox_sdk._async.client import AsyncClient
    from emberbox_sdk._async.code import AsyncContext
    from emberbox_sdk._async.command import AsyncCommand
    from emberbox_sdk._async.files import AsyncFiles
    from emberbox_sdk._async.history import AsyncHistory
    from emberbox_sdk._async.images import AsyncImage
    from emberbox_sdk._async.logs import AsyncLogs
    from emberbox_sdk._async.ports import AsyncPort
    from emberbox_sdk._async.sandbox import AsyncSandbox
    from emberbox_sdk._sync.client import Client
    from emberbox_sdk._sync.code import Context
    from emberbox_sdk._sync.command import Command
    from emberbox_sdk._sync.files import Files
    from emberbox_sdk._sync.history import History
    from emberbox_sdk._sync.images import Image
    from emberbox_sdk._sync.logs import Logs
    from emberbox_sdk._sync.ports import Port
    from emberbox_sdk._sync.sandbox import Sandbox
    from emberbox_sdk.config import Config
    from emberbox_sdk.errors import (
        AccessError,
        ApiError,
        ArchiveError,
        BuildError,
        CommandFailedError,
        ConfigurationError,
        ConflictError,
        DeadlineError,
        DisconnectedError,
        EmberboxError,
        NoInterpreterError,
        NotFoundError,
        QuotaError,
        SandboxEndedError,
        UnreachableError,
    )
    from emberbox_sdk.records import Host, LogLine, SandboxEvent, Usage
    from emberbox_sdk.results import (
        Change,
        Checkpoint,
        CodeError,
        CommandResult,
        Entry,
        Execution,
        FileEvent,
        Kind,
        Output,
        Result,
        SandboxInfo,
        State,
    )

__all__ = [
    "AccessError",
    "ApiError",
    "ArchiveError",
    "AsyncClient",
    "AsyncCommand",
    "AsyncContext",
    "AsyncFiles",
    "AsyncHistory",
    "AsyncImage",
    "AsyncLogs",
    "AsyncPort",
    "AsyncSandbox",
    "BuildError",
    "Change",
    "Checkpoint",
    "Client",
    "CodeError",
    "Command",
    "CommandFailedError",
    "CommandResult",
    "Config",
    "ConfigurationError",
    "ConflictError",
    "Context",
    "DeadlineError",
    "DisconnectedError",
    "EmberboxError",
    "Entry",
    "Execution",
    "FileEvent",
    "Files",
    "History",
    "Host",
    "Image",
    "Kind",
    "LogLine",
    "Logs",
    "NoInterpreterError",
    "NotFoundError",
    "Output",
    "Port",
    "QuotaError",
    "Result",
    "Sandbox",
    "SandboxEndedError",
    "SandboxEvent",
    "SandboxInfo",
    "State",
    "UnreachableError",
    "Usage",
]

_MODULES: Final = {
    "_async.client": ("AsyncClient",),
    "_async.code": ("AsyncContext",),
    "_async.command": ("AsyncCommand",),
    "_async.files": ("AsyncFiles",),
    "_async.history": ("AsyncHistory",),
    "_async.images": ("AsyncImage",),
    "_async.logs": ("AsyncLogs",),
    "_async.ports": ("AsyncPort",),
    "_async.sandbox": ("AsyncSandbox",),
    "_sync.client": ("Client",),
    "_sync.code": ("Context",),
    "_sync.command": ("Command",),
    "_sync.files": ("Files",),
    "_sync.history": ("History",),
    "_sync.images": ("Image",),
    "_sync.logs": ("Logs",),
    "_sync.ports": ("Port",),
    "_sync.sandbox": ("Sandbox",),
    "config": ("Config",),
    "errors": (
        "AccessError",
        "ApiError",
        "ArchiveError",
        "BuildError",
        "CommandFailedError",
        "ConfigurationError",
        "ConflictError",
        "DeadlineError",
        "DisconnectedError",
        "EmberboxError",
        "NoInterpreterError",
        "NotFoundError",
        "QuotaError",
        "SandboxEndedError",
        "UnreachableError",
    ),
    "records": (
        "Host",
        "LogLine",
        "SandboxEvent",
        "Usage",
    ),
    "results": (
        "Change",
        "Checkpoint",
        "CodeError",
        "CommandResult",
        "Entry",
        "Execution",
        "FileEvent",
        "Kind",
        "Output",
        "Result",
        "SandboxInfo",
        "State",
    ),
}
"""What is in which module: each is loaded with the first name that is taken from it, as few take both halves."""

_HOMES: Final = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:  # Any: each name has its own type, which type checkers find above
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
