"""A small HTTP/1.1 server for benchmarks, on the host and in guests: the standard library alone.

    python3 plain_server.py PORT

It throws bodies away and answers with as many zeros as the path says; what is upgraded is said back.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

MIB = 1 << 20
ZEROS = bytes(MIB)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError), contextlib.closing(writer):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            if "upgrade: websocket" in head:
                await echo(reader, writer)
                return
            await take_body(head, reader, writer)
            await send_zeros(int(head.split(" ")[1].strip("/") or 0), writer)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    while data := await reader.read(MIB):
        writer.write(data)


async def take_body(head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if "expect: 100-continue" in head:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    left = int(head.partition("content-length:")[2].partition("\r\n")[0] or 0)
    while left:
        left -= len(await reader.read(min(left, 4 * MIB)))


async def send_zeros(size: int, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
    for _ in range(size // MIB):
        writer.write(ZEROS)
        await writer.drain()


async def main(port: int) -> None:
    server = await asyncio.start_server(answer, "0.0.0.0", port, limit=4 * MIB)  # noqa: S104 - also in a guest
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
