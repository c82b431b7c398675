"""Calls to a sandbox, against a socket that answers as runsc does."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emberbox.host.runsc.control import Control, SandboxError

Answer = Callable[[dict[str, Any], list[int]], bytes]


async def call(directory: Path, answer: Answer, work: Callable[[Control], Any]) -> Any:
    """Let `work` call a sandbox that answers once, in two pieces."""
    path = directory / ("s" * 90) / "control.sock"
    path.parent.mkdir()
    here = os.open(path.parent, os.O_PATH)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            request, fds, _, _ = socket.recv_fds(connection, 65536, 8)
            said = answer(json.loads(request), fds)
            for fd in fds:
                os.close(fd)
            connection.sendall(said[:5])
            connection.sendall(said[5:])

    serving = asyncio.create_task(asyncio.to_thread(serve))
    try:
        return await work(Control(path))
    finally:
        await serving
        listener.close()


async def test_an_answer_in_pieces_is_put_together_and_its_result_returned(tmp_path: Path) -> None:
    def answer(request: dict[str, Any], fds: list[int]) -> bytes:
        assert request == {"method": "containerManager.Wait", "arg": "vm"}
        assert not fds
        return b'{"success":true,"err":"","result":256}'

    assert await call(tmp_path, answer, lambda control: control.wait()) == 256


async def test_descriptors_go_with_a_call(tmp_path: Path) -> None:
    made = [os.open(tmp_path, os.O_TMPFILE | os.O_RDWR) for _ in range(3)]

    def answer(request: dict[str, Any], fds: list[int]) -> bytes:
        assert request["arg"]["Resume"] is True
        for fd in fds:
            os.write(fd, b"saved")
        return b'{"success":true,"err":"","result":{}}'

    await call(tmp_path, answer, lambda control: control.checkpoint(*made))
    for fd in made:
        assert os.pread(fd, 5, 0) == b"saved"
        os.close(fd)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b'{"success":false,"err":"no space left on device","result":null}', "no space left on device"),
        (b'{"success":', "is gone"),
        (b'["what else"]', "is gone"),
    ],
)
async def test_a_refusal_and_an_end_say_what_they_are(tmp_path: Path, said: bytes, told: str) -> None:
    with pytest.raises(SandboxError, match=told):
        await call(tmp_path, lambda _request, _fds: said, lambda control: control.pause())


async def test_a_sandbox_that_hangs_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        with pytest.raises(SandboxError, match="did not answer"):
            await Control(path).call("containerManager.Pause", timeout_s=0.05)


async def test_one_that_is_not_there_is_gone(tmp_path: Path) -> None:
    for path in (tmp_path / "control.sock", tmp_path / "missing" / "control.sock"):
        with pytest.raises(SandboxError, match="is gone"):
            await Control(path).pause()
