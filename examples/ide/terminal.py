"""A terminal of VS Code's, opened over the WebSocket of its page.

Pages speak so with the server of the same version, and nobody has promised that it stays. A message has a head of 13
bytes: kind, number, the number of the last that was heard, and length. A byte before each value says what it is.
"""

import itertools
import json
import re
import struct
import uuid
from contextlib import ExitStack

from websockets.sync.client import connect

REGULAR, CONTROL, ACKNOWLEDGED = 1, 2, 3
NOTHING, TEXT, LIST, OBJECT, NUMBER = 0, 1, 4, 5, 6
CALL, LISTEN, ANSWER, EVENT = 100, 102, 201, 204

HEAD = struct.Struct(">BIII")
CHANNEL = "remoteterminal"
PATIENCE_S = 60
SHELL = {
    "shellLaunchConfig": {"executable": "/bin/bash", "args": []},
    "workspaceId": "project",
    "workspaceName": "project",
    "workspaceFolders": [],
    "configuration": {},
    "resolvedVariables": {},
    "envVariableCollections": [],
    "resolverEnv": {},
    "shouldPersistTerminal": True,  # it outlives its page
    "options": {"shellIntegration": {"enabled": False}, "windowsEnableConpty": False},
    "cols": 200,
    "rows": 24,
    "unicodeVersion": "11",
}


class Terminal:
    """A new terminal, or one that there is already: with its number it is taken over, as by a page that is loaded anew.

    Args:
        url: of the editor, `wss://...`.
        page: its HTML, which says what version it is.
        cwd: where the shell begins.
        number: of a terminal that there is.
        more: what the WebSocket is opened with.
    """

    def __init__(self, url, page, cwd, number=None, **more):
        commit = re.search(r"stable-([0-9a-f]{40})", page)[1]
        self.heard = 0
        self.sent = itertools.count(1)
        self.asked = itertools.count()
        self.bytes = b""
        with ExitStack() as stack:
            url += f"stable-{commit}?reconnectionToken={uuid.uuid4()}&reconnection=false&skipWebSocketFrames=false"
            self.socket = stack.enter_context(connect(url, compression=None, proxy=None, **more))
            self.tell({"type": "auth", "auth": "0" * 20, "data": ""})
            self.receive()
            self.tell({"type": "connectionType", "commit": commit, "signedData": "", "desiredConnectionType": 1})
            assert self.receive() == {"type": "ok"}
            self.send(REGULAR, dump({"remoteAuthority": "remote", "clientId": "renderer"}))
            self.output = self.ask(LISTEN, "$onProcessDataEvent")
            if number is None:
                launch = {**SHELL, "shellLaunchConfig": {**SHELL["shellLaunchConfig"], "cwd": cwd}}
                number = self.call("$createProcess", launch)["persistentTerminalId"]
            else:
                self.call("$attachToProcess", [number])
            self.number = number
            self.call("$start", [number])
            self.close = stack.pop_all().close

    def run(self, line, wanted):
        """Type a line, and return the first that the shell then writes which is as `wanted` says."""
        self.call("$input", [self.number, f"{line}\n"])
        text = ""
        while not (found := re.search(wanted, text)):
            match self.receive():
                case [[kind, asked], {"id": self.number, "event": str(more)}] if (kind, asked) == (EVENT, self.output):
                    text += more
        return found[1]

    def call(self, name, argument):
        asked = self.ask(CALL, name, argument)
        while True:
            match self.receive():
                case [[kind, number], value] if kind < EVENT and number == asked:
                    assert kind == ANSWER, value
                    return value

    def ask(self, kind, name, argument=None):
        number = next(self.asked)
        self.send(REGULAR, dump([kind, number, CHANNEL, name]) + dump(argument))
        return number

    def tell(self, what):
        self.send(CONTROL, json.dumps(what).encode())

    def send(self, kind, data):
        number = next(self.sent) if kind == REGULAR else 0
        self.socket.send(HEAD.pack(kind, number, self.heard, len(data)) + data)

    def receive(self):
        """Return what the next message says, of those that say something."""
        while True:
            kind, number, _, size = HEAD.unpack(self.take(HEAD.size))
            data = self.take(size)
            if kind == CONTROL:
                return json.loads(data)
            if kind == REGULAR:
                self.heard = number
                self.send(ACKNOWLEDGED, b"")
                return load(data)

    def take(self, size):
        while len(self.bytes) < size:
            self.bytes += self.socket.recv(timeout=PATIENCE_S)
        taken, self.bytes = self.bytes[:size], self.bytes[size:]
        return taken


def dump(value):
    match value:
        case None:
            return bytes([NOTHING])
        case int():
            return bytes([NUMBER]) + dump_size(value)
        case list():
            return bytes([LIST]) + dump_size(len(value)) + b"".join(map(dump, value))
        case str():
            kind, data = TEXT, value.encode()
        case _:
            kind, data = OBJECT, json.dumps(value).encode()
    return bytes([kind]) + dump_size(len(data)) + data


def dump_size(size):
    """Seven bits in each byte, the lowest first; the eighth says that more come."""
    return bytes([size]) if size < 128 else bytes([size & 127 | 128]) + dump_size(size >> 7)


def load(data):
    """Return the two values of a message: what it is about, and what it says."""
    rest = iter(data)
    return [load_one(rest), load_one(rest)]


def load_one(rest):
    kind = next(rest)
    if kind == NOTHING:
        return None
    size = load_size(rest)
    if kind == NUMBER:
        return size
    if kind == LIST:
        return [load_one(rest) for _ in range(size)]
    data = bytes(itertools.islice(rest, size))
    return {TEXT: bytes.decode, OBJECT: json.loads}.get(kind, bytes)(data)


def load_size(rest):
    byte = next(rest)
    return byte if byte < 128 else byte & 127 | load_size(rest) << 7
