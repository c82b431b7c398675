"""Servers for every protocol that the endpoint speaks, to run in a guest; standard Debian packages alone.

8080   uvicorn, in the clear: streams both ways, WebSockets
8443   hypercorn, TLS with a certificate of its own: HTTP/1.1, HTTP/2, WebSockets
50051  gRPC in the clear: unary and bidirectional calls, trailers
"""

import asyncio
import contextlib
import gc
import hashlib
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import hypercorn.asyncio
import hypercorn.config
import uvicorn


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await echo(scope, receive, send)
    elif scope["type"] == "http":
        await ROUTES.get(scope["path"], tell)(scope, receive, send)


async def echo(scope, receive, send):
    """Say everything back, at /numbered with a number before it; choose the subprotocol `chat` when it is offered."""
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "chat" if "chat" in scope["subprotocols"] else None})
    with counted():
        number = 0
        while (message := await receive())["type"] == "websocket.receive":
            number += 1
            text = f"{number} {message['text']}" if scope["path"] == "/numbered" else message.get("text")
            await send({"type": "websocket.send", "text": text, "bytes": message.get("bytes")})


@contextlib.contextmanager
def counted():
    """Count a stream as open for as long as the application holds it."""
    stream = object()
    STREAMS.add(stream)
    try:
        yield
    finally:
        STREAMS.discard(stream)


async def tell_open(scope, receive, send):
    """Say how many streams the application holds, and the ports of all connections from outside: peer's, ours.

    A handler whose TLS connection was reset is at times let go by hypercorn and not told: it ends when it is collected.
    """
    gc.collect()
    text = "".join(path.read_text() for path in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")) if path.exists())
    rows = [line.split() for line in text.splitlines()]
    ports = [(row[2], row[1]) for row in rows if row[0].endswith(":") and row[3] == "01"]
    outside = [[int(end.split(":")[1], 16) for end in ends] for ends in ports if not LOOPBACK.match(ends[0])]
    await answer(send, json.dumps({"streams": len(STREAMS), "connections": outside}).encode())


async def wait(scope, receive, send):
    """Answer after as many seconds as the query says."""
    with counted():
        await asyncio.sleep(float(scope["query_string"]))
    await answer(send, b"waited")


async def tell(scope, receive, send):
    """Name protocol and headers as they came."""
    names = sorted(name.decode() for name, _ in scope["headers"])
    await answer(send, f"{scope['http_version']} {scope['scheme']} {' '.join(names)}".encode())


async def count(scope, receive, send):
    """Take a body of any size; say how long it was, and its hash."""
    size, digest = 0, hashlib.sha256()
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        size += len(message.get("body", b""))
        digest.update(message.get("body", b""))
    await answer(send, f"{size} {digest.hexdigest()}".encode())


async def produce(scope, receive, send):
    """Send as many MiB as the query says."""
    await start(send)
    for _ in range(int(scope["query_string"])):
        await send({"type": "http.response.body", "body": b"\0" * (1 << 20), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def events(scope, receive, send):
    """Server-sent events: one at once, then as many in a second as the query says, until the client leaves."""
    await start(send, b"text/event-stream")
    await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
    rate = float(scope["query_string"] or b"0")
    gone = asyncio.ensure_future(wait_gone(receive))
    with counted():
        while not gone.done():
            await asyncio.wait([gone], timeout=1 / rate if rate else None)
            await send({"type": "http.response.body", "body": b"data: next\n\n", "more_body": True})


async def wait_gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def start(send, content_type=b"text/plain"):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]})


async def answer(send, body):
    await start(send)
    await send({"type": "http.response.body", "body": body})


ROUTES = {"/count": count, "/produce": produce, "/events": events, "/open": tell_open, "/wait": wait}
LOOPBACK = re.compile(r"0{24}01000000:|(0{16}F{4}0{4}|)[0-9A-F]{6}7F:", re.IGNORECASE)
STREAMS = set()


class Calls(grpc.GenericRpcHandler):
    """/test/unary and /test/chat take and give bytes; both end with a trailer."""

    def service(self, details):
        if details.method == "/test/unary":
            return grpc.unary_unary_rpc_method_handler(self.unary)
        if details.method == "/test/chat":
            return grpc.stream_stream_rpc_method_handler(self.chat)
        return None

    def unary(self, request, context):
        context.set_trailing_metadata([("x-trailer", "from the guest")])
        if request == b"fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
        return request.upper()

    def chat(self, requests, context):
        for request in requests:
            yield request.upper()
        context.set_trailing_metadata([("x-trailer", "from the guest")])


def serve_grpc():
    server = grpc.server(ThreadPoolExecutor(8), handlers=[Calls()])
    server.add_insecure_port("127.0.0.1:50051")
    server.start()
    return server


def serve_tls():
    config = hypercorn.config.Config()
    config.bind = ["127.0.0.1:8443"]
    config.certfile, config.keyfile = "/app/server.pem", "/app/server.key"
    asyncio.run(hypercorn.asyncio.serve(application, config, shutdown_trigger=asyncio.Event().wait))


def wait_listening(port):
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)


if __name__ == "__main__":
    grpc_server = serve_grpc()
    threading.Thread(target=serve_tls, daemon=True).start()
    wait_listening(8443)  # the ready hook is answered by the server that starts last
    uvicorn.run(application, host="127.0.0.1", port=8080, lifespan="off", access_log=False, log_level="warning")
