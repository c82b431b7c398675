"""Daytona's routes, and what is said of those that are not here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from emberbox.edges.daytona.errors import api_refusal, daemon_refusal
from emberbox.edges.daytona.sandboxes import TOOLBOX_PATH, SandboxHandlers
from emberbox.edges.daytona.toolbox import files, info, process, search, transfers
from emberbox.edges.daytona.toolbox.entry import Entry
from emberbox.edges.daytona.toolbox.interpreting import Interpreting
from emberbox.edges.daytona.toolbox.sessions import Sessions
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.edges.sandboxes.routes import Row

API_PATH: Final = "/api"
_ONE: Final = f"{API_PATH}/sandbox/{{sandbox_id}}"
_INSIDE: Final = f"{TOOLBOX_PATH}/{{sandbox_id}}"
_SESSIONS: Final = f"{_INSIDE}/process/session"
_SESSION: Final = f"{_SESSIONS}/{{session_id}}"
_COMMAND: Final = f"{_SESSION}/command/{{command_id}}"
FOLLOW_PATH: Final = f"{_COMMAND}/logs"
_INTERPRETER: Final = f"{_INSIDE}/process/interpreter"
INTERPRET_PATH: Final = f"{_INTERPRETER}/execute"

_USE_EXEC: Final = "run the program itself with sandbox.process.exec"
_NOT_HERE: Final[Mapping[str, str]] = {
    "snapshots": "snapshots are images here: `emberbox build` makes them (docs/builds.md)",
    "volumes": "volumes are not offered; copy files with sandbox.fs",
    "secret": "Daytona's secrets are not offered; pass env_vars",
    "secrets": "Daytona's secrets are not offered; pass env_vars",
    "warm-pools": "warm pools are the server's own business (EMBERBOX_WARM_POOL)",
    "object-storage": "declarative images are not built here; build an image first (docs/builds.md)",
    "build-logs": "sandboxes are not built when they are created; `emberbox logs` has builds of images",
    "build-logs-url": "sandboxes are not built when they are created; `emberbox logs` has builds of images",
    "ssh-access": "there is no SSH to sandboxes; `emberbox shell` opens one",
    "archive": "sandboxes are not archived: one that is stopped is on the disk",
    "backup": "sandboxes are not backed up; fork them, or copy files",
    "resize": "a sandbox has the size of its image; build the image with another",
    "recover": "there is nothing to recover a sandbox from",
    "ttl": "ttl_minutes is said when a sandbox is created",
    "snapshot": "snapshots of sandboxes are taken by E2B's SDK or SnapshotMicrovm (docs/forks.md)",
    "network-settings": "what a sandbox may reach is said by its image (docs/network.md)",
    "signed-preview-url": "there are no signed preview URLs; get_preview_link has one with a token",
    "signing-key": "there are no signed URLs of files; use fs.download_file and fs.upload_file",
    "telemetry": "figures are not kept; get_metrics_latest tells those of now",
    "config": "figures are not kept; get_metrics_latest tells those of now",
    "git": f"git is no part of this; {_USE_EXEC}: exec('git clone …')",
    "lsp": f"language servers are no part of this; {_USE_EXEC}",
    "computeruse": "computer use is not offered: sandboxes have no screen",
    "pty": "terminals are not offered here; `emberbox shell`, E2B's SDK and sessions are",
    "entrypoint": "what the image's application writes is in `emberbox logs`",
    "env": "variables are said when a sandbox is created, or with each command",
    "port": f"ports that listen are not listed; {_USE_EXEC}: exec('ss -ltn')",
}
"""By a word of the path: what is of Daytona's API and not here, and what to do instead."""


def sandbox_rows(handlers: SandboxHandlers) -> list[Row]:
    """Return the routes of the control plane."""
    resume, suspend, get = "ResumeMicrovm", "SuspendMicrovm", "GetMicrovm"
    return [
        Row("CreateSandbox", "RunMicrovm", "POST", (f"{API_PATH}/sandbox",), handlers.create),
        Row("ListSandboxes", "ListMicrovms", "GET", (f"{API_PATH}/sandbox",), handlers.list_all),
        Row("GetSandbox", get, "GET", (_ONE,), handlers.get),
        Row("DeleteSandbox", "TerminateMicrovm", "DELETE", (_ONE,), handlers.delete),
        Row("StartSandbox", resume, "POST", (f"{_ONE}/start",), handlers.start),
        Row("StopSandbox", suspend, "POST", (f"{_ONE}/stop", f"{_ONE}/pause"), handlers.stop),
        Row("ForkSandbox", "ForkMicrovm", "POST", (f"{_ONE}/fork",), handlers.fork),
        Row("SetSandboxLabels", resume, "PUT", (f"{_ONE}/labels",), handlers.set_labels),
        Row("SetSandboxAutoStop", resume, "POST", (f"{_ONE}/autostop/{{interval}}", f"{_ONE}/autopause/{{interval}}"),
            handlers.set_auto_stop),
        Row("SetSandboxAutoDelete", resume, "POST", (f"{_ONE}/autodelete/{{interval}}",), handlers.set_auto_delete),
        Row("SetSandboxPublic", get, "POST", (f"{_ONE}/public/{{is_public}}",), handlers.set_public),
        Row("NoteSandboxUse", get, "POST", (f"{_ONE}/last-activity",), handlers.note_use),
        Row("GetSandboxPreview", get, "GET", (f"{_ONE}/ports/{{port}}/preview-url",), handlers.get_preview),
        Row("GetSandboxToolbox", get, "GET", (f"{_ONE}/toolbox-proxy-url",), handlers.get_toolbox),
    ]  # fmt: skip


def toolbox_rows(entry: Entry, sessions: Sessions, interpreting: Interpreting) -> list[Row]:
    """Return the routes of sandboxes' daemons: as in E2B's, no request rate counts."""
    found = [
        ("GetHomeDirectory", "GET", f"{_INSIDE}/user-home-dir", info.get_home),
        ("GetWorkDirectory", "GET", f"{_INSIDE}/work-dir", info.get_work_directory),
        ("GetSandboxMetrics", "GET", f"{_INSIDE}/system/metrics", info.get_metrics),
        ("ExecuteCommand", "POST", f"{_INSIDE}/process/execute", process.execute),
        ("RunCode", "POST", f"{_INSIDE}/process/code-run", process.run_code),
        ("CreateSession", "POST", _SESSIONS, sessions.create),
        ("ListSessions", "GET", _SESSIONS, sessions.list_all),
        ("GetSession", "GET", _SESSION, sessions.get),
        ("DeleteSession", "DELETE", _SESSION, sessions.delete),
        ("ExecuteSessionCommand", "POST", f"{_SESSION}/exec", sessions.execute),
        ("GetSessionCommand", "GET", _COMMAND, sessions.get_command),
        ("GetSessionCommandLogs", "GET", FOLLOW_PATH, sessions.get_logs),
        ("SendSessionCommandInput", "POST", f"{_COMMAND}/input", sessions.send_input),
        ("CreateCodeContext", "POST", f"{_INTERPRETER}/context", interpreting.create_context),
        ("ListCodeContexts", "GET", f"{_INTERPRETER}/context", interpreting.list_contexts),
        ("DeleteCodeContext", "DELETE", f"{_INTERPRETER}/context/{{context_id}}", interpreting.delete_context),
        ("ListFiles", "GET", f"{_INSIDE}/files", files.list_files),
        ("DeleteFile", "DELETE", f"{_INSIDE}/files", files.delete),
        ("GetFileInfo", "GET", f"{_INSIDE}/files/info", files.get_info),
        ("CreateFolder", "POST", f"{_INSIDE}/files/folder", files.make_folder),
        ("MoveFile", "POST", f"{_INSIDE}/files/move", files.move),
        ("SetFilePermissions", "POST", f"{_INSIDE}/files/permissions", files.set_permissions),
        ("GetFile", "GET", f"{_INSIDE}/files/download", transfers.download),
        ("GetFiles", "POST", f"{_INSIDE}/files/bulk-download", transfers.download_all),
        ("ListMatches", "GET", f"{_INSIDE}/files/find", search.find_in_files),
        ("SearchFiles", "GET", f"{_INSIDE}/files/search", search.search_files),
        ("ReplaceInFiles", "POST", f"{_INSIDE}/files/replace", search.replace_in_files),
    ]
    rows = [Row(operation, "", method, (path,), entry.handler(do)) for operation, method, path, do in found]
    uploads = [
        ("PutFile", f"{_INSIDE}/files/upload-v2", transfers.upload),
        ("PutFiles", f"{_INSIDE}/files/bulk-upload", transfers.upload_all),
    ]
    return rows + [
        Row(operation, "", "POST", (path,), entry.handler(do), takes_json=False) for operation, path, do in uploads
    ]


async def refuse(request: Request, error: Exception) -> Response:
    """Answer a request to what is not here."""
    path = request.url.path
    told = daemon_refusal if path.startswith(f"{TOOLBOX_PATH}/") else api_refusal
    if isinstance(error, HTTPException) and error.status_code not in (404, 405):
        return told(ApiError(error.status_code, error.detail))
    words = path.strip("/").split("/")
    inside = words[2:] if told is daemon_refusal else words[1:]
    for word in inside:
        if word in _NOT_HERE:
            return told(ApiError(501, f"{word} is not offered here: {_NOT_HERE[word]} (docs/daytona.md)"))
    return told(ApiError(404, f"{request.method} {path} is not offered here; docs/daytona.md says what is"))
