"""The wire format between host and guest agent, as in `agent/protocol.h` and `docs/guest-protocol.md`."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from enum import IntEnum

from emberbox.model.errors import GuestError

PROTOCOL_VERSION = 6
FRAME_PAYLOAD_MAX = 65536
STREAM_WINDOW_BYTES = 262144
SPARED_MAX = 8192
OUTPUT_WINDOW_BYTES = 65536
GUEST_STREAMS_MAX = 32
"""So many streams the guest may have open at a time."""
NONCE_BYTES = 16
GUEST_STREAMS = 0x80000000
"""Streams with smaller ids are the host's to open."""

METADATA_PORT, NAMES_PORT = 80, 53
"""The services that ACCEPTED knows."""

_HEADER = struct.Struct("<IBxxxI")
_FIELD = struct.Struct("<BI")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")

HEADER_BYTES = _HEADER.size


class FrameType(IntEnum):
    """What a frame asks for or says."""

    HELLO = 1
    START = 2
    FREEZE = 3
    THAW = 4
    OPEN = 5
    POWEROFF = 6
    EXEC = 7
    RESIZE = 8
    SIGNAL = 9
    ANSWER = 10
    LOST = 11

    STARTED = 16
    FAILED = 17
    FROZEN = 18
    THAWED = 19
    OPENED = 20
    OUTPUT = 21
    EXITED = 22
    EXEC_EXITED = 23
    ACCEPTED = 24
    QUERY = 25

    DATA = 32
    EOF = 33
    CLOSE = 34
    WINDOW = 35
    ERROR_DATA = 36


class StartField(IntEnum):
    """The fields of START."""

    ARGUMENT = 1
    ENVIRONMENT = 2
    DIRECTORY = 3
    UID = 4
    GID = 5
    GROUP = 6
    CAPABILITIES = 7
    PRIVILEGED = 8
    HOSTNAME = 9
    RESOLV_CONF = 10
    NOFILE = 11
    NAMES = 12


class ExecField(IntEnum):
    """The fields of EXEC."""

    ARGUMENT = 1
    ENVIRONMENT = 2
    DIRECTORY = 3
    USER = 4
    TERMINAL = 5
    FILES = 6


class FilesWork(IntEnum):
    """What the agent itself does with a path in the container."""

    PACK = 1
    PACK_FOLLOWED = 2
    UNPACK = 3


class Place(IntEnum):
    """The address of the guest at which something listened: what OPEN looks at, in this order."""

    LOOPBACK = 0
    LOOPBACK6 = 1
    OWN_ADDRESS = 2


class ThawField(IntEnum):
    """The fields of THAW."""

    CLOCK = 1
    ENTROPY = 2
    HOSTNAME = 3
    MACHINE_ID = 4
    NEW_NETWORK = 5
    REHEARSAL = 6
    SPARED = 7
    NAMES = 8


@dataclass(frozen=True, slots=True)
class Frame:
    """One message; `stream` is 0 where it belongs to none."""

    type: FrameType
    stream: int = 0
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Application:
    """How the guest runs an application.

    Args:
        arguments: program and arguments; the program is looked up on the environment's PATH.
        environment: all of its environment.
        directory: the working directory in the container.
        uid: the user it runs as, with `gid` and the supplementary `groups`.
        capabilities: the bounding set, bit n for capability n (capabilities(7)).
        privileged: leave /proc and /sys writable, mount the cgroup tree, load modules when the kernel asks.
        hostname: the host name until a launch gives it another.
        resolv_conf: the text of /etc/resolv.conf.
        nofile: the hard limit of open files.
        names: questions to the name server are passed on to the host; else the network answers them.
    """

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    directory: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    capabilities: int
    privileged: bool
    hostname: str
    resolv_conf: str
    nofile: int = 524288
    names: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A command in the application's container.

    Args:
        arguments: program and arguments; none stand for a shell: bash, or else sh.
        environment: variables beside the application's own; they win.
        directory: the working directory; None takes the application's.
        user: a user of the container by name or number, and perhaps a group after a colon; None takes the
            application's user.
        terminal: give it a terminal in place of separate input, output and error pipes.
        files: run no program, but write a tar archive of the path that is the one argument, or read one from the
            input; as root where no user is given. The exit code is then an errno.
    """

    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    directory: str | None = None
    user: str | None = None
    terminal: bool = False
    files: FilesWork | None = None


@dataclass(frozen=True, slots=True)
class Spared:
    """Connections from the gateway that were held over a suspend, and go on.

    Args:
        gateway: the IPv4 address that they come from.
        ports: of each the gateway's port and the guest's, `SPARED_MAX` at most.
    """

    gateway: str
    ports: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a guest must be told when it goes on from a snapshot. The time is not part of it: it is told as it is sent.

    Args:
        entropy: bytes for the kernel's random number generator.
        hostname: a new host name; None keeps the one it has.
        machine_id: a new /etc/machine-id, 32 hexadecimal digits; None keeps the one it has.
        new_network: its connections to elsewhere lead nowhere any more, and are ended.
        spared: except for these.
        names: as in `Application`; None leaves it as it is.
    """

    entropy: bytes
    hostname: str | None = None
    machine_id: str | None = None
    new_network: bool = False
    spared: Spared | None = None
    names: bool | None = None


def encode(frame: Frame) -> bytes:
    """Return the bytes of a frame."""
    assert len(frame.payload) <= FRAME_PAYLOAD_MAX
    return _HEADER.pack(len(frame.payload), frame.type, frame.stream) + frame.payload


def decode_header(header: bytes) -> tuple[int, FrameType, int]:
    """Return payload length, type and stream.

    Raises:
        GuestError: the length is over the limit or the type unknown: the guest does not keep the protocol.
    """
    length, kind, stream = _HEADER.unpack(header)
    if length > FRAME_PAYLOAD_MAX:
        raise GuestError(f"the guest announced a frame of {length} bytes; the limit is {FRAME_PAYLOAD_MAX}")
    try:
        return length, FrameType(kind), stream
    except ValueError:
        raise GuestError(f"the guest sent a frame of the unknown type {kind}") from None


def decode_u32(payload: bytes) -> int:
    """Return the number that a frame carries.

    Raises:
        GuestError: the payload has another length.
    """
    if len(payload) != _U32.size:
        raise GuestError("the guest sent a malformed number")
    number: int = _U32.unpack(payload)[0]
    return number


def decode_service(payload: bytes) -> int:
    """Return the port of ACCEPTED; older agents know the metadata service only, and name none.

    Raises:
        GuestError: no service of ours is at that port.
    """
    port = METADATA_PORT if not payload else int.from_bytes(payload, "little")
    if port not in (METADATA_PORT, NAMES_PORT):
        raise GuestError("the guest names a service that does not exist")
    return port


def decode_place(payload: bytes) -> Place:
    """Return where OPEN has found a listener; older agents look at 127.0.0.1 only, and do not say so.

    Raises:
        GuestError: there is no such place.
    """
    try:
        return Place(int.from_bytes(payload[:2], "little"))
    except ValueError:
        raise GuestError("the guest names a place that does not exist") from None


def encode_u32(number: int) -> bytes:
    """Return a payload that is one number."""
    return _U32.pack(number)


def encode_port(port: int) -> bytes:
    """Return the payload of OPEN."""
    return _U16.pack(port)


def encode_size(columns: int, rows: int) -> bytes:
    """Return the payload of RESIZE."""
    return _U16.pack(columns) + _U16.pack(rows)


def _field(kind: int, value: bytes) -> bytes:
    return _FIELD.pack(kind, len(value)) + value


def encode_application(application: Application) -> bytes:
    """Return the payload of START."""
    fields = [_field(StartField.ARGUMENT, a.encode()) for a in application.arguments]
    fields += [_field(StartField.ENVIRONMENT, f"{k}={v}".encode()) for k, v in application.environment]
    fields += [_field(StartField.GROUP, _U32.pack(g)) for g in application.groups]
    fields += [
        _field(StartField.DIRECTORY, application.directory.encode()),
        _field(StartField.UID, _U32.pack(application.uid)),
        _field(StartField.GID, _U32.pack(application.gid)),
        _field(StartField.CAPABILITIES, _U64.pack(application.capabilities)),
        _field(StartField.PRIVILEGED, _U32.pack(application.privileged)),
        _field(StartField.HOSTNAME, application.hostname.encode()),
        _field(StartField.RESOLV_CONF, application.resolv_conf.encode()),
        _field(StartField.NOFILE, _U64.pack(application.nofile)),
        _field(StartField.NAMES, _U32.pack(application.names)),
    ]
    return b"".join(fields)


def encode_command(command: Command) -> bytes:
    """Return the payload of EXEC."""
    fields = [_field(ExecField.ARGUMENT, a.encode()) for a in command.arguments]
    fields += [_field(ExecField.ENVIRONMENT, f"{k}={v}".encode()) for k, v in command.environment]
    if command.directory is not None:
        fields.append(_field(ExecField.DIRECTORY, command.directory.encode()))
    if command.user is not None:
        fields.append(_field(ExecField.USER, command.user.encode()))
    if command.files is not None:
        fields.append(_field(ExecField.FILES, _U32.pack(command.files)))
    fields.append(_field(ExecField.TERMINAL, _U32.pack(command.terminal)))
    return b"".join(fields)


def encode_identity(identity: Identity, clock_ns: int, *, rehearsal: bool = False) -> bytes:
    """Return the payload of THAW; the clock comes last, to be as fresh as can be.

    Args:
        identity: what to tell.
        clock_ns: the time of now, in nanoseconds since 1970.
        rehearsal: leave the application frozen.
    """
    fields = [_field(ThawField.REHEARSAL, encode_u32(1))] if rehearsal else []
    fields += [_field(ThawField.ENTROPY, identity.entropy)]
    if identity.hostname is not None:
        fields.append(_field(ThawField.HOSTNAME, identity.hostname.encode()))
    if identity.machine_id is not None:
        fields.append(_field(ThawField.MACHINE_ID, f"{identity.machine_id}\n".encode()))
    if identity.new_network and identity.spared is not None:
        ports = b"".join(_U16.pack(theirs) + _U16.pack(ours) for theirs, ours in identity.spared.ports)
        fields.append(_field(ThawField.SPARED, socket.inet_aton(identity.spared.gateway) + ports))
    if identity.names is not None:
        fields.append(_field(ThawField.NAMES, encode_u32(identity.names)))
    if identity.new_network:
        fields.append(_field(ThawField.NEW_NETWORK, encode_u32(1)))
    fields.append(_field(ThawField.CLOCK, _U64.pack(clock_ns)))
    return b"".join(fields)
