"""Sandboxes in microVMs of your own: `Sandbox` blocks, `AsyncSandbox` is for asyncio; both do the same.

with Sandbox.create() as sandbox:
    print(sandbox.run("uname -a").stdout)
    print(sandbox.run_code("6 * 7").text)
"""

from emberbox_sdk._async.client import AsyncClient
from emberbox_sdk._async.code import AsyncContext
from emberbox_sdk._async.command import AsyncCommand
from emberbox_sdk._async.files import AsyncFiles
from emberbox_sdk._async.images import AsyncImage
from emberbox_sdk._async.ports import AsyncPort
from emberbox_sdk._async.sandbox import AsyncSandbox
from emberbox_sdk._sync.client import Client
from emberbox_sdk._sync.code import Context
from emberbox_sdk._sync.command import Command
from emberbox_sdk._sync.files import Files
from emberbox_sdk._sync.images import Image
from emberbox_sdk._sync.ports import Port
from emberbox_sdk._sync.sandbox import Sandbox
from emberbox_sdk.config import Config
from emberbox_sdk.errors import (
    AccessError,
    ApiError,
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
    "AsyncClient",
    "AsyncCommand",
    "AsyncContext",
    "AsyncFiles",
    "AsyncImage",
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
    "Image",
    "Kind",
    "NoInterpreterError",
    "NotFoundError",
    "Output",
    "Port",
    "QuotaError",
    "Result",
    "Sandbox",
    "SandboxEndedError",
    "SandboxInfo",
    "State",
    "UnreachableError",
]
