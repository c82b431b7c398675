"""The console over a real control plane and a machine without microVMs, whose guests' commands run on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from emberbox.app.console import make_parts
from emberbox.control.microvms.endpoint import EndpointDirectory
from emberbox.control.microvms.recovery import Recovery
from emberbox.edges.asgi import serve
from emberbox.edges.connection_guard import GuardLimits
from emberbox.edges.console.app import MESSAGE_BYTES_MAX, create_console
from emberbox.edges.console.assets import Assets
from emberbox.edges.console.parts import Parts
from emberbox.machine.base import Command, GuestCommand
from emberbox.model.endpoints import EndpointLimits
from emberbox.time_limits import limit_s
from support.e2b_world import E2bPlane, LocalMachine
from support.plain_machine import FakeLeftovers
from support.wire import KEY, REGION

PROOF = {"accessKeyId": KEY.access_key_id, "secretAccessKey": KEY.secret_access_key}


class ConsolePlane(E2bPlane):
    """The control plane, and the console in front of it."""

    parts: Parts

    def browser(self, **headers: str) -> httpx.AsyncClient:
        """Return a client that keeps cookies, as a page of the console's own origin would send requests."""
        return httpx.AsyncClient(base_url=self.url, headers={"origin": self.url, **headers}, trust_env=False)

    async def log_in(self, browser: httpx.AsyncClient, proof: dict[str, str] | None = None) -> dict[str, str]:
        """Log in; later requests of the client carry the CSRF token."""
        answer = await browser.post("/api/session", json=proof or PROOF)
        assert answer.status_code == 200, answer.text
        browser.headers["x-emberbox-csrf"] = answer.json()["csrf"]
        told: dict[str, str] = answer.json()
        return told

    @contextlib.asynccontextmanager
    async def channel(self, browser: httpx.AsyncClient, path: str = "/api/live") -> AsyncIterator[Channel]:
        """Open the push channel with a client's cookies."""
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        url = self.url.replace("http", "ws", 1) + path
        headers = {"cookie": cookie, "origin": browser.headers["origin"]}
        async with connect(url, additional_headers=headers, proxy=None) as websocket:
            yield Channel(websocket)


class Channel:
    """The page's end of the push channel."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket

    async def watch(self, number: int, topic: str, **of: Any) -> None:
        """Watch something."""
        await self.websocket.send(json.dumps({"watch": number, "topic": topic, "of": of}))

    async def unwatch(self, number: int) -> None:
        """Watch it no more."""
        await self.websocket.send(json.dumps({"unwatch": number}))

    async def told(self, number: int) -> Any:
        """Return what is told next of a watch: its data, or its error."""
        async with asyncio.timeout(limit_s(20)):
            while True:
                message = json.loads(await self.websocket.recv())
                if message.get("watch") == number:
                    return message.get("data", message.get("error"))


@contextlib.asynccontextmanager
async def serve_console(directory: Path, assets: Path | None = None, **changed: Any) -> AsyncIterator[ConsolePlane]:
    """Serve the console, with one image, for as long as the block lasts.

    Args:
        directory: has the state.
        assets: the page; by default the one that is built.
        changed: parts that are not as in the server.
    """
    plane = ConsolePlane(directory, KEY, REGION)
    plane.log_database.changes = plane.database.changes
    plane._log_writer.start()
    plane.control.launcher.recover(Recovery(FakeLeftovers(plane.disk), []))
    limits = EndpointLimits()
    endpoints = EndpointDirectory(runners=plane.runners, store=plane.microvms, limits_per_vcpu=limits)
    _give_shells(plane.local)
    plane.engines = SimpleNamespace(report=list)  # type: ignore[assignment] - it has none
    parts = make_parts(REGION, "", plane.control, plane.handlers(), endpoints, plane.database.changes)
    plane.parts = replace(parts, **{"assets": Assets(assets)} if assets else {}, **changed)
    plane.add_template("hello")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        plane.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = create_console(plane.parts)
        try:
            async with serve(app, listener, 75, limits=GuardLimits(), websocket_message_bytes=MESSAGE_BYTES_MAX):
                yield plane
        finally:
            await plane.control.sandboxes.service.close()
            await plane.close()
            await plane.local.close()


def _give_shells(machine: LocalMachine) -> None:
    """Let a command without a program be a shell, as an agent does."""
    opened = machine.open_command

    async def open_command(microvm_id: str, command: Command) -> GuestCommand:
        return await opened(microvm_id, command if command.arguments else replace(command, arguments=("/bin/sh",)))

    machine.open_command = open_command  # type: ignore[method-assign]
