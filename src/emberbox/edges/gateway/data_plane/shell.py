"""The shell, with the frames of the AWS service (dossier, section 7).

    server   text    {"type":"session_init","session_id":"<uuid>"}, once
    both     binary  bytes of the terminal
    client   text    {"type":"resize","cols":120,"rows":40}; any other text is typed
    server   close   1000, "shell exited"

The terminal's size is 0 by 0 until the first resize. When the client goes, the shell gets SIGHUP.
"""

from __future__ import annotations

import json
import uuid
from typing import Any, Final

from starlette.websockets import WebSocket

from emberbox.edges.gateway.data_plane.commands import Message, close, converse, open_command
from emberbox.guest.protocol import Command

SHELL_EXITED: Final = "shell exited"
_SIZE_MAX: Final = 0xFFFF


async def serve_shell(websocket: WebSocket) -> None:
    """Run a shell for as long as both sides stay.

    Raises:
        RefusedError: it cannot be started; nothing has been sent.
    """
    command = await open_command(websocket, Command(terminal=True))
    await websocket.accept()
    await websocket.send_text(json.dumps({"type": "session_init", "session_id": str(uuid.uuid4())}))

    async def take(message: Message) -> None:
        text, data = message.get("text"), message.get("bytes")
        size = None if text is None else read_resize(text)
        if size is not None:
            command.resize(*size)
        else:
            await command.write((data or b"") if text is None else text.encode())

    if await converse(websocket, command, take, lambda _which, data: data):
        await close(websocket, reason=SHELL_EXITED)


def read_resize(text: str) -> tuple[int, int] | None:
    """Return columns and rows of a resize message; None for any other text, which is typed as it stands."""
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match content:
        case {"type": "resize", "cols": int(columns), "rows": int(rows)}:
            if 0 <= columns <= _SIZE_MAX and 0 <= rows <= _SIZE_MAX:
                return columns, rows
    return None
