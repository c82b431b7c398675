"""HTTP/1.1 to a port in the guest over the agent's channel: the lifecycle hooks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import h11

from emberbox.guest.agent import Agent
from emberbox.guest.streams import GuestStream
from emberbox.model.errors import GuestError

BODY_LIMIT = 64 * 1024
_EVENTS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """What the application answered; of the body at most `BODY_LIMIT` bytes."""

    status: int
    body: bytes


async def post(agent: Agent, port: int, path: str, body: bytes, headers: dict[str, str], timeout_s: float) -> Answer:
    """POST to `http://localhost:<port><path>` in the guest and return the answer.

    Raises:
        ConnectionRefusedError: nothing listens on the port.
        TimeoutError: no complete answer within `timeout_s` seconds.
        GuestError: the connection broke or the answer is not HTTP.
    """
    async with asyncio.timeout(timeout_s):
        stream = await agent.open_stream(port, timeout_s)
        try:
            return await _exchange(stream, port, path, body, headers)
        finally:
            stream.close()


async def _exchange(stream: GuestStream, port: int, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=BODY_LIMIT)
    head = {"Host": f"localhost:{port}", "Content-Length": str(len(body)), "Connection": "close", **headers}
    request = h11.Request(method="POST", target=path, headers=list(head.items()))
    data = connection.send(request) or b""
    data += connection.send(h11.Data(data=body)) or b""
    data += connection.send(h11.EndOfMessage()) or b""
    await stream.write(data)
    try:
        return await _read_answer(connection, stream)
    except h11.RemoteProtocolError as error:
        raise GuestError(f"the application's answer is not HTTP/1.1: {error}") from error


async def _read_answer(connection: h11.Connection, stream: GuestStream) -> Answer:
    status, received, count = 0, bytearray(), 0
    while True:
        event = connection.next_event()
        count += 1
        if count % _EVENTS_AT_ONCE == 0:
            await asyncio.sleep(0)  # an answer can be a chunk for each byte
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.read())
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            received += event.data[: BODY_LIMIT - len(received)]
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            if not status:
                raise GuestError("the application closed the connection without an answer")
            return Answer(status, bytes(received))
