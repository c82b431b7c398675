"""E2B's service `process.Process`: commands and terminals."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import signal
from collections.abc import AsyncIterator
from typing import Any, Final

from emberbox.edges.e2b.envd.connect import Json
from emberbox.edges.e2b.envd.rpc import Options
from emberbox.edges.sandboxes.errors import CallError, Code
from emberbox.edges.sandboxes.processes import Config, CutOff, Ended, Event, Output, Process, Processes, events_of
from emberbox.edges.sandboxes.scripts import run_script
from emberbox.edges.sandboxes.starting import start_process
from emberbox.edges.sandboxes.visit import Visit

_SIGNALS: Final = {"SIGNAL_SIGTERM": signal.SIGTERM, "SIGNAL_SIGKILL": signal.SIGKILL}
_DIES_WITHIN_S: Final = 5.0
_SIZE_MAX: Final = 0xFFFF


class ProcessService:
    """Answers its calls.

    Args:
        processes: those that run.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    # --- streams

    async def start(self, visit: Visit, message: Json, options: Options) -> AsyncIterator[Json]:
        """`Start`: run a command; it goes on when the client leaves, but not beyond its timeout."""
        config = read_config(message)
        process, first = await start_process(visit, config)
        if options.timeout_s is not None:
            process.end_after(options.timeout_s)
        listener = process.listen()
        self._processes.add(visit.sandbox.id, process, first)
        yield {"event": {"start": {"pid": process.pid}}}
        async for event in events_of(process, listener, options.keepalive_s):
            yield show_event(event)

    async def connect(self, visit: Visit, message: Json, options: Options) -> AsyncIterator[Json]:
        """`Connect`: hear a command that runs."""
        process = self._select(visit, message)
        if not process.is_heard:
            raise CallError(
                Code.FAILED_PRECONDITION,
                f"process {process.pid} goes on, but a pause has cut off its output: let it write to a file",
            )
        listener = process.listen()
        yield {"event": {"start": {"pid": process.pid}}}
        async for event in events_of(process, listener, options.keepalive_s):
            yield show_event(event)

    async def stream_input(self, visit: Visit, messages: AsyncIterator[Json]) -> Json:
        """`StreamInput`: first which process, then its input."""
        process: Process | None = None
        async for message in messages:
            match message:
                case {"start": dict(start)}:
                    process = self._select(visit, start)
                case {"data": dict(data)} if process is not None:
                    await _write(process, data.get("input"))
                case {"keepalive": _}:
                    continue
                case _:
                    raise CallError(Code.INVALID_ARGUMENT, "the stream must begin with start")
        return {}

    # --- single calls

    async def list_all(self, visit: Visit, _message: Json) -> Json:
        """`List`."""
        found = self._processes.list_all(visit.sandbox.id)
        for process in [process for process in found if not process.is_heard]:
            if (await run_script(visit, 'kill -0 "$1" 2>/dev/null', str(process.pid))).exit_code:
                self._processes.forget(visit.sandbox.id, process)
        return {"processes": [_show_process(process) for process in self._processes.list_all(visit.sandbox.id)]}

    async def send_input(self, visit: Visit, message: Json) -> Json:
        """`SendInput`."""
        await _write(self._select_heard(visit, message), message.get("input"))
        return {}

    async def close_stdin(self, visit: Visit, message: Json) -> Json:
        """`CloseStdin`."""
        self._select_heard(visit, message).end_input()
        return {}

    async def send_signal(self, visit: Visit, message: Json) -> Json:
        """`SendSignal`."""
        number = _SIGNALS.get(str(message.get("signal")))
        if number is None:
            raise CallError(Code.UNIMPLEMENTED, f"signal must be one of {', '.join(_SIGNALS)}")
        process = self._select(visit, message)
        if process.is_heard:
            process.signal(number)
            if number is signal.SIGKILL:  # who asks next whether it is there is not told of a process that is dying
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_DIES_WITHIN_S):
                        await process.gone.wait()
            return {}
        done = await run_script(visit, 'kill -s "$2" -- "-$1"', str(process.pid), number.name.removeprefix("SIG"))
        self._processes.forget(visit.sandbox.id, process)
        if done.exit_code:
            raise CallError(Code.NOT_FOUND, f"process with pid {process.pid} not found")
        return {}

    async def update(self, visit: Visit, message: Json) -> Json:
        """`Update`: a terminal's size."""
        size = read_size(message.get("pty"))
        if size is not None:
            self._select_heard(visit, message).resize(*size)
        return {}

    # --- which

    def _select(self, visit: Visit, message: Json) -> Process:
        match message.get("process"):
            case {"pid": int(pid)}:
                return self._processes.find(visit.sandbox.id, pid=pid)
            case {"tag": str(tag)}:
                return self._processes.find(visit.sandbox.id, tag=tag)
        raise CallError(Code.INVALID_ARGUMENT, "process must have a pid or a tag")

    def _select_heard(self, visit: Visit, message: Json) -> Process:
        process = self._select(visit, message)
        if not process.is_heard:
            raise CallError(Code.FAILED_PRECONDITION, f"a pause has cut off the input of process {process.pid}")
        return process


def read_config(message: Json) -> Config:
    """Return what a `StartRequest` describes.

    Raises:
        CallError: it is malformed.
    """
    process: Json = message.get("process") or {}
    cmd = process.get("cmd") if isinstance(process, dict) else None
    if not isinstance(cmd, str) or not cmd:
        raise CallError(Code.INVALID_ARGUMENT, "process.cmd is missing")
    args, envs, cwd, tag = process.get("args", []), process.get("envs", {}), process.get("cwd", ""), message.get("tag")
    is_well_formed = (
        isinstance(args, list)
        and isinstance(envs, dict)
        and all(isinstance(item, str) for item in (*args, *envs.values(), cwd, tag or ""))
        and not any("\0" in item for item in (cmd, cwd, *args, *envs, *envs.values()))
    )
    if not is_well_formed:
        raise CallError(Code.INVALID_ARGUMENT, "the process is malformed")
    stdin = message.get("stdin", True)
    return Config(cmd, tuple(args), envs, cwd, tag, stdin is not False, read_size(message.get("pty")))


def read_size(pty: Any) -> tuple[int, int] | None:  # Any: a member of a message
    """Return columns and rows of a `PTY`; None where there is none.

    Raises:
        CallError: there is no such size.
    """
    if pty is None:
        return None
    size = pty.get("size") if isinstance(pty, dict) else None
    columns, rows = (size.get("cols", 0), size.get("rows", 0)) if isinstance(size, dict) else (0, 0)
    if not all(isinstance(item, int) and 0 <= item <= _SIZE_MAX for item in (columns, rows)):
        raise CallError(Code.INVALID_ARGUMENT, f"a terminal has 0 to {_SIZE_MAX} columns and rows")
    return columns, rows


async def _write(process: Process, sent: Any) -> None:  # Any: a member of a message
    match sent:
        case {"stdin": str(text)} | {"pty": str(text)}:
            pass
        case _:
            raise CallError(Code.INVALID_ARGUMENT, "input must have stdin or pty")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise CallError(Code.INVALID_ARGUMENT, "input is not base64") from None
    await process.write(data, to_terminal="pty" in sent)


# --- what is shown


def show_event(event: Event | None) -> Json:
    """Return what happened as a `StartResponse` or `ConnectResponse`.

    Raises:
        CallError: nothing more will be heard.
    """
    match event:
        case None:
            return {"event": {"keepalive": {}}}
        case Output():
            return {"event": {"data": {event.where: base64.b64encode(event.data).decode()}}}
        case Ended():
            return {"event": {"end": _show_end(event)}}
        case CutOff():
            raise CallError(Code.UNAVAILABLE, "the connection to the sandbox ended: it was paused or killed")


def _show_end(ended: Ended) -> Json:
    """As Go tells it, in which E2B's daemon is written."""
    if ended.killed_by is not None:
        status = f"signal: {'killed' if ended.killed_by is signal.SIGKILL else 'terminated'}"
        return {"exitCode": -1, "exited": False, "status": status, "error": status}
    shown: Json = {"exitCode": ended.exit_code, "exited": True, "status": f"exit status {ended.exit_code}"}
    if ended.exit_code:
        shown["error"] = shown["status"]
    return shown


def _show_process(process: Process) -> Json:
    config = process.config
    shown: Json = {"cmd": config.cmd, "args": list(config.args), "envs": dict(config.envs)}
    if config.cwd:
        shown["cwd"] = config.cwd
    return {"config": shown, "pid": process.pid, **({} if config.tag is None else {"tag": config.tag})}
