"""An engine without VMs: its guests are objects of this process, and speak the agent's protocol over a socket.

It is as unlike QEMU as an engine may be, so that the interface is held to what it promises: no kernel, no disk, no
network of its own, and saved state that is whole each time, in a file that only it can read. The rules of `vmm/base.py`
are held, and what breaks one is a VmmError, as with any engine. It is no part of the product: nobody could use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path

from emberbox.guest.protocol import (
    HEADER_BYTES,
    PROTOCOL_VERSION,
    Frame,
    FrameType,
    Place,
    decode_header,
    encode,
    encode_u32,
)
from emberbox.host.network.slots import DeviceKind
from emberbox.model.errors import GuestError, VmmError
from emberbox.process.adoption import AdoptedProcess
from emberbox.vmm.base import (
    AdoptPlan,
    BootPlan,
    Capabilities,
    HeldNetwork,
    Publish,
    RestorePlan,
    RootBoot,
    Saved,
    VmFiles,
    VmUsage,
    Written,
)
from emberbox.vmm.engine import Engine

ENGINE = Engine("Fake", "1.0", "none")
CAPABILITIES = Capabilities(
    own_kernel=False,
    user_network=False,
    opens_ports=False,
    holds_networks=False,
    moves_clock=False,
    stalls=False,
    holds_writes=False,
    leads_to_loopback=False,
    device=DeviceKind.PACKETS,
)
BASE, OWN = "memory.state", "memory.own"
PORT = 8080
_REFUSED = 111
_HEAD_END = b"\r\n\r\n"


@dataclass
class Memory:
    """All that a guest has: what is saved and restored."""

    frozen: bool = True
    count: int = 0
    files: dict[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return it as a file's content."""
        return json.dumps(asdict(self)).encode()


class FakeGuest:
    """A guest's agent, and its application: a counter at every path, and `/sh` with `echo WORD >FILE` and `cat FILE`.

    Args:
        memory: what it starts with.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.runs = asyncio.Event()
        self._requests: dict[int, bytearray] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._serving: asyncio.Task[None] | None = None

    def connect(self) -> socket.socket:
        """Return a new connection to the agent, which ends an earlier one."""
        self.disconnect()
        ours, theirs = socket.socketpair()
        self._serving = asyncio.create_task(self._serve(theirs))
        return ours

    def disconnect(self) -> None:
        """End the connection."""
        if self._serving is not None:
            self._serving.cancel()
        if self._writer is not None:
            self._writer.close()
        self._serving = self._writer = None

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        self._writer, self._requests = writer, {}
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length, kind, stream = decode_header(await reader.readexactly(HEADER_BYTES))
                payload = await reader.readexactly(length)
                await self.runs.wait()
                self._take(Frame(kind, stream, payload))
        writer.close()

    def _send(self, kind: FrameType, stream: int = 0, payload: bytes = b"") -> None:
        assert self._writer is not None
        self._writer.write(encode(Frame(kind, stream, payload)))

    def _take(self, frame: Frame) -> None:
        match frame.type:
            case FrameType.HELLO:
                self._send(FrameType.HELLO, 0, frame.payload + encode_u32(PROTOCOL_VERSION))
            case FrameType.START:
                self._set_frozen(FrameType.STARTED, frozen=False)
            case FrameType.FREEZE:
                self._set_frozen(FrameType.FROZEN, frozen=True)
            case FrameType.THAW:
                self._set_frozen(FrameType.THAWED, frozen=False)
            case FrameType.OPEN:
                self._open(frame)
            case FrameType.DATA if frame.stream in self._requests:
                self._requests[frame.stream] += frame.payload
                self._answer(frame.stream)

    def _set_frozen(self, answer: FrameType, *, frozen: bool) -> None:
        self.memory.frozen = frozen
        if frozen:
            self._requests.clear()
        self._send(answer)

    def _open(self, frame: Frame) -> None:
        if self.memory.frozen or int.from_bytes(frame.payload, "little") != PORT:
            self._send(FrameType.CLOSE, frame.stream, encode_u32(_REFUSED))
            return
        self._requests[frame.stream] = bytearray()
        self._send(FrameType.OPENED, frame.stream, Place.LOOPBACK.to_bytes(2, "little"))

    def _answer(self, stream: int) -> None:
        """Answer a request that is here as a whole."""
        head, _, body = bytes(self._requests[stream]).partition(_HEAD_END)
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if not lengths or len(body) < int(lengths[0].partition(b":")[2]):
            return
        del self._requests[stream]
        text = self._run(body.decode()) if b" /sh " in head else self._count()
        self._send(FrameType.DATA, stream, f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode())
        self._send(FrameType.EOF, stream)

    def _count(self) -> str:
        self.memory.count += 1
        return json.dumps({"count": self.memory.count})

    def _run(self, command: str) -> str:
        match shlex.split(command):
            case ["echo", word, path]:
                self.memory.files[path.removeprefix(">")] = f"{word}\n"
                return ""
            case ["cat", path]:
                return self.memory.files[path]
        raise AssertionError(f"the guest knows no such command: {command}")


class FakeVm:
    """One guest, and its rules; see `emberbox.vmm.base.Vm`."""

    def __init__(self, engine: Engine, files: VmFiles, memory: Memory, *, booted: bool) -> None:
        self.engine = engine
        self.files = files
        self.guest = FakeGuest(memory)
        self._saves_to = BASE if booted else OWN
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if booted:
            self.guest.runs.set()

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not self._end.done()

    def _check_alive(self) -> None:
        if not self.is_alive:
            raise VmmError("the VM has ended")

    def _check_stands_still(self) -> None:
        self._check_alive()
        if self.guest.runs.is_set():
            raise VmmError("a guest is saved while it stands still")

    async def pause(self) -> None:
        self._check_alive()
        self.guest.runs.clear()

    async def unpause(self) -> None:
        self._check_alive()
        self.guest.runs.set()

    async def save(self, publish: Publish) -> Written:
        self._check_stands_still()
        content = self.guest.memory.to_bytes()
        (self.files.directory / self._saves_to).write_bytes(content)
        saved = _saved(self.files.directory, self._saves_to, self.engine)
        publish(saved)
        return Written(saved, len(content))

    def forget_saved(self) -> None:
        (self.files.directory / self._saves_to).unlink(missing_ok=True)

    async def draft(self, directory: Path) -> FakeDraft:
        self._check_alive()
        return FakeDraft(self, directory)

    def capture(self) -> bytes:
        """Return all that the guest has, for a draft."""
        self._check_stands_still()
        return self.guest.memory.to_bytes()

    async def dial_agent(self) -> socket.socket:
        if not self.is_alive:
            raise GuestError("the agent's channel is closed")
        return self.guest.connect()

    async def reach(self, port: int) -> tuple[str, int]:
        raise VmmError("it has no network of its own")

    def hold_network(self) -> HeldNetwork:
        raise VmmError("it has no network")

    def usage(self) -> VmUsage:
        self._check_alive()
        return VmUsage(len(self.guest.memory.to_bytes()), 0, 0.0)

    def cpu_seconds(self) -> float:
        self._check_alive()
        return 0.0

    async def is_stalled(self) -> bool:
        raise VmmError("it does not stall")

    async def wait_stalled(self) -> None:
        raise VmmError("it does not stall")

    async def hold_writes(self, *, held: bool) -> None:
        raise VmmError("it has no disk")

    def write_note(self, path: Path, **more: str | int | None) -> None:
        self._check_alive()
        path.write_text(json.dumps({"pid": os.getpid(), **more}))

    def die(self, how: str) -> None:
        """End by itself."""
        if self.is_alive:
            self._end.set_result(how)
        self.guest.disconnect()

    async def kill(self) -> None:
        self.die("it was killed")

    async def wait_exited(self) -> str:
        return await asyncio.shield(self._end)


class FakeDraft:
    """A base that is made of a guest."""

    def __init__(self, vm: FakeVm, directory: Path) -> None:
        self._vm = vm
        self._directory = directory
        self._content = b""

    async def capture(self) -> None:
        self._content = self._vm.capture()

    async def store(self) -> Saved:
        (self._directory / BASE).write_bytes(self._content)
        return _saved(self._directory, BASE, self._vm.engine)


class FakeStates:
    """Saved state is whole, so nearly nothing is to be done."""

    def lay_out(self, base: Saved, directory: Path) -> None:
        """A guest has no files of its own."""

    def rewind(self, base: Saved, directory: Path) -> Saved:
        os.link(_file(base), directory / OWN)
        return _saved(directory, OWN, base.engine)

    def combine(self, base: Saved, own: Saved, directory: Path) -> Saved:
        os.link(_file(own), directory / BASE)
        return _saved(directory, BASE, own.engine)

    def compact(self, base: Saved) -> Saved:
        return base


class FakeEngine:
    """See `emberbox.vmm.base.VmmDriver`.

    Attributes:
        vms: all that it has started.
    """

    def __init__(self, engine: Engine = ENGINE) -> None:
        self.engine = engine
        self.capabilities = CAPABILITIES
        self.states = FakeStates()
        self.vms: list[FakeVm] = []

    async def boot(self, plan: BootPlan) -> FakeVm:
        if not isinstance(plan.boot, RootBoot):
            raise VmmError("it has no kernel")
        return self._add(plan.files, Memory(), booted=True)

    async def restore(self, plan: RestorePlan) -> FakeVm:
        saved = plan.own or plan.base
        if saved.details.get("form") != "whole":
            raise VmmError("this is no state of its own")
        return self._add(plan.files, Memory(**json.loads(_file(saved).read_bytes())), booted=False)

    async def adopt(self, process: AdoptedProcess, plan: AdoptPlan) -> FakeVm:
        found = self.find(plan.files.directory)
        if found is None:
            raise VmmError("it does not answer")
        found.guest.disconnect()  # as the channel of a server that was killed
        return found

    def find(self, directory: Path) -> FakeVm | None:
        """Return the VM that runs in a directory."""
        return next((vm for vm in self.vms if vm.is_alive and vm.files.directory == directory), None)

    def _add(self, files: VmFiles, memory: Memory, *, booted: bool) -> FakeVm:
        if self.find(files.directory) is not None:
            raise VmmError("a VM runs there already")
        self.vms.append(FakeVm(self.engine, files, memory, booted=booted))
        return self.vms[-1]


def _saved(directory: Path, name: str, engine: Engine | None) -> Saved:
    return Saved(directory, (name,), {"form": "whole"}, engine)


def _file(saved: Saved) -> Path:
    (name,) = saved.names
    return saved.path(name)
