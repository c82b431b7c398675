"""QEMU's monitor, against a server that speaks just enough of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from emberbox.model.errors import VmmError
from emberbox.time_limits import limit_s
from emberbox.vmm.qemu import monitor as monitor_module
from emberbox.vmm.qemu.monitor import Monitor

GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}


class FakeMonitor:
    """Greets, negotiates, and answers commands from a table; None hangs up, a missing one stays unanswered."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers
        self.commands: list[dict[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(message: dict[str, Any]) -> None:
            writer.write(json.dumps(message).encode() + b"\r\n")

        say(GREETING)
        with contextlib.suppress(ConnectionError):
            while text := await reader.read(65536):  # the client ends its messages with nothing
                command = json.loads(text)
                name = command["execute"]
                self.commands.append(command)
                known = {"id": command["id"]} if "id" in command else {}
                if name == "qmp_capabilities":
                    say({"return": {}, **known})
                elif name in self._answers:
                    if self._answers[name] is None:
                        break
                    say({**self._answers[name], **known})
        writer.close()


@contextlib.asynccontextmanager
async def connected(directory: Path, **answers: Any) -> AsyncIterator[tuple[Monitor, FakeMonitor]]:
    fake = FakeMonitor({name.replace("_", "-"): answer for name, answer in answers.items()})
    async with await asyncio.start_unix_server(fake.serve, directory / "qmp.sock"):
        monitor = await Monitor.connect(directory / "qmp.sock")
        try:
            yield monitor, fake
        finally:
            await monitor.close()


async def test_a_command_returns_what_qemu_returns(tmp_path: Path) -> None:
    async with connected(tmp_path, query_status={"return": {"status": "running"}}) as (monitor, _):
        assert await monitor.execute("query-status") == {"status": "running"}


async def test_arguments_are_sent(tmp_path: Path) -> None:
    async with connected(tmp_path, stop={"return": {}}) as (monitor, fake):
        await monitor.execute("stop", filename="/dev/fdset/3", live=False)
        assert fake.commands[-1]["arguments"] == {"filename": "/dev/fdset/3", "live": False}


async def test_a_refusal_names_the_command(tmp_path: Path) -> None:
    error = {"error": {"class": "GenericError", "desc": "cannot do that"}}
    async with connected(tmp_path, stop=error) as (monitor, _):
        with pytest.raises(VmmError, match="QEMU refused stop: cannot do that"):
            await monitor.execute("stop")


async def test_the_end_of_qemu_during_a_command_is_an_error(tmp_path: Path) -> None:
    async with connected(tmp_path, stop=None) as (monitor, _):
        with pytest.raises(VmmError, match="QEMU ended during stop"):
            await monitor.execute("stop")


async def test_a_command_without_an_answer_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "COMMAND_TIMEOUT_S", 0.1)
    async with connected(tmp_path) as (monitor, _):
        with pytest.raises(VmmError, match=r"did not answer stop within 0\.1 s"):
            await monitor.execute("stop")


async def test_a_qemu_that_hangs_is_told_before_clients_give_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients of the API wait for a minute: its own limit is a third of that."""
    assert limit_s(20) == monitor_module.STATUS_TIMEOUT_S
    monkeypatch.setattr(monitor_module, "STATUS_TIMEOUT_S", 0.1)
    async with connected(tmp_path) as (monitor, _):
        with pytest.raises(VmmError, match=r"did not answer query-status within 0\.1 s"):
            await monitor.status()


async def test_no_monitor_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VmmError, match="did not answer"):
        await Monitor.connect(tmp_path / "missing.sock")


async def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    async with connected(tmp_path) as (monitor, _):
        await monitor.close()
        await monitor.close()
