"""The wire format between host and guest agent, byte by byte."""

from __future__ import annotations

import re
import struct
from enum import IntEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberbox.guest import protocol
from emberbox.guest.protocol import (
    FRAME_PAYLOAD_MAX,
    HEADER_BYTES,
    Application,
    Command,
    ExecField,
    FilesWork,
    Frame,
    FrameType,
    Identity,
    Spared,
    StartField,
    ThawField,
    decode_header,
    decode_place,
    decode_service,
    decode_u32,
    encode,
    encode_application,
    encode_command,
    encode_identity,
    encode_port,
    encode_size,
    encode_u32,
)
from emberbox.model.errors import GuestError

HEADER_FILE = Path(__file__).resolve().parents[3] / "agent" / "protocol.h"

APPLICATION = Application(
    arguments=("python3", "app.py"),
    environment=(("PATH", "/bin"), ("A", "b=c")),
    directory="/app",
    uid=33,
    gid=34,
    groups=(5, 6),
    capabilities=0x1_0000_0001,
    privileged=True,
    hostname="build",
    resolv_conf="nameserver 10.0.2.3\n",
)


def fields(payload: bytes) -> list[tuple[int, bytes]]:
    """Take a payload of fields apart, as the agent does."""
    found = []
    while payload:
        kind, length = struct.unpack_from("<BI", payload)
        found.append((kind, payload[5 : 5 + length]))
        payload = payload[5 + length :]
    return found


@given(st.sampled_from(FrameType), st.integers(0, 0xFFFFFFFF), st.binary(max_size=300))
def test_a_frame_comes_back_as_it_was(kind: FrameType, stream: int, payload: bytes) -> None:
    encoded = encode(Frame(kind, stream, payload))
    assert decode_header(encoded[:HEADER_BYTES]) == (len(payload), kind, stream)
    assert encoded[HEADER_BYTES:] == payload


def test_the_header_has_its_documented_layout() -> None:
    assert encode(Frame(FrameType.DATA, 0x01020304, b"hi")) == bytes.fromhex("02000000 20 000000 04030201") + b"hi"


def test_a_frame_beyond_the_limit_is_refused() -> None:
    header = struct.pack("<IBxxxI", FRAME_PAYLOAD_MAX + 1, FrameType.DATA, 1)
    with pytest.raises(GuestError, match="a frame of 65537 bytes; the limit is 65536"):
        decode_header(header)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(GuestError, match="unknown type 99"):
        decode_header(struct.pack("<IBxxxI", 0, 99, 0))


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_any_header_is_decoded_or_refused_with_our_error(header: bytes) -> None:
    try:
        length, _, _ = decode_header(header)
    except GuestError:
        return
    assert length <= FRAME_PAYLOAD_MAX


def test_numbers_have_four_bytes() -> None:
    assert decode_u32(encode_u32(0xDEADBEEF)) == 0xDEADBEEF
    assert encode_port(8080) == b"\x90\x1f"
    for wrong in (b"", b"\0\0\0", b"\0" * 5):
        with pytest.raises(GuestError, match="malformed number"):
            decode_u32(wrong)


def test_an_application_is_told_field_by_field() -> None:
    told = fields(encode_application(APPLICATION))
    assert [value for kind, value in told if kind == StartField.ARGUMENT] == [b"python3", b"app.py"]
    assert [value for kind, value in told if kind == StartField.ENVIRONMENT] == [b"PATH=/bin", b"A=b=c"]
    assert [value for kind, value in told if kind == StartField.GROUP] == [b"\5\0\0\0", b"\6\0\0\0"]
    single = dict(told)
    assert single[StartField.UID] == b"\x21\0\0\0"
    assert single[StartField.GID] == b"\x22\0\0\0"
    assert single[StartField.CAPABILITIES] == struct.pack("<Q", 0x1_0000_0001)
    assert single[StartField.PRIVILEGED] == b"\1\0\0\0"
    assert single[StartField.DIRECTORY] == b"/app"
    assert single[StartField.HOSTNAME] == b"build"
    assert single[StartField.RESOLV_CONF] == b"nameserver 10.0.2.3\n"
    assert single[StartField.NOFILE] == struct.pack("<Q", 524288)
    assert single[StartField.NAMES] == b"\0\0\0\0"


def test_an_identity_ends_with_the_clock() -> None:
    told = fields(encode_identity(Identity(b"e" * 64, "microvm-x", "0" * 32), 1_700_000_000_000_000_000))
    assert [kind for kind, _ in told] == [
        ThawField.ENTROPY,
        ThawField.HOSTNAME,
        ThawField.MACHINE_ID,
        ThawField.CLOCK,
    ]
    assert told[2][1] == b"0" * 32 + b"\n"
    assert told[-1][1] == struct.pack("<Q", 1_700_000_000_000_000_000)


@pytest.mark.parametrize("names", [True, False])
def test_a_guest_is_told_who_answers_names(names: bool) -> None:
    told = dict(fields(encode_identity(Identity(b"e", names=names), 1)))
    assert told[ThawField.NAMES] == encode_u32(names)


def test_services_and_places_are_those_that_exist() -> None:
    """Older agents say nothing: they know the metadata service and 127.0.0.1 only."""
    assert [decode_service(payload) for payload in (b"", b"\x50\0", b"\x35\0")] == [80, 80, 53]
    assert [decode_place(payload) for payload in (b"", b"\0", b"\1", b"\2")] == [0, 0, 1, 2]
    for decode in (decode_service, decode_place):
        with pytest.raises(GuestError, match="does not exist"):
            decode(b"\x51")


def test_a_resume_keeps_name_and_machine_id() -> None:
    told = fields(encode_identity(Identity(b"e"), 1))
    assert [kind for kind, _ in told] == [ThawField.ENTROPY, ThawField.CLOCK]


def test_what_is_spared_is_told_before_the_rest_is_ended() -> None:
    """Address, then ports; and only where there is something to be ended."""
    spared = Spared("10.213.0.4", ((0x1234, 8080), (5, 6)))
    told = fields(encode_identity(Identity(b"e", new_network=True, spared=spared), 1))
    assert [kind for kind, _ in told] == [
        ThawField.ENTROPY,
        ThawField.SPARED,
        ThawField.NEW_NETWORK,
        ThawField.CLOCK,
    ]
    assert told[1][1] == bytes((10, 213, 0, 4)) + struct.pack("<4H", 0x1234, 8080, 5, 6)
    assert ThawField.SPARED not in dict(fields(encode_identity(Identity(b"e", spared=spared), 1)))


def test_a_command_is_told_field_by_field() -> None:
    command = Command(("sh", "-c", "é"), (("A", "b=c"),), "/srv", "www-data:adm", terminal=True)
    assert fields(encode_command(command)) == [
        (ExecField.ARGUMENT, b"sh"),
        (ExecField.ARGUMENT, b"-c"),
        (ExecField.ARGUMENT, "é".encode()),
        (ExecField.ENVIRONMENT, b"A=b=c"),
        (ExecField.DIRECTORY, b"/srv"),
        (ExecField.USER, b"www-data:adm"),
        (ExecField.TERMINAL, b"\1\0\0\0"),
    ]


def test_a_shell_names_nothing_but_its_terminal() -> None:
    assert fields(encode_command(Command(terminal=True))) == [(ExecField.TERMINAL, b"\1\0\0\0")]


def test_a_size_is_columns_and_rows() -> None:
    assert encode_size(0x1234, 0x0056) == b"\x34\x12\x56\x00"


@pytest.mark.parametrize(
    ("prefix", "numbers"),
    [("FRAME_", FrameType), ("START_", StartField), ("THAW_", ThawField), ("EXEC_", ExecField), ("FILES_", FilesWork)],
)
def test_the_agent_has_the_same_numbers(prefix: str, numbers: type[IntEnum]) -> None:
    found = re.findall(rf"^ +{prefix}(\w+) = (\d+),", HEADER_FILE.read_text(), re.MULTILINE)
    assert {name: int(number) for name, number in found} == {one.name: one.value for one in numbers}


@pytest.mark.parametrize(
    "name",
    [
        "PROTOCOL_VERSION",
        "FRAME_PAYLOAD_MAX",
        "STREAM_WINDOW_BYTES",
        "OUTPUT_WINDOW_BYTES",
        "GUEST_STREAMS_MAX",
        "NONCE_BYTES",
    ],
)
def test_the_agent_has_the_same_limits(name: str) -> None:
    (found,) = re.findall(rf"^#define {name} (\d+)", HEADER_FILE.read_text(), re.MULTILINE)
    assert int(found) == getattr(protocol, name)


def test_the_agent_opens_streams_in_the_same_half() -> None:
    (found,) = re.findall(r"^#define GUEST_STREAMS (0x[0-9a-f]+)u", HEADER_FILE.read_text(), re.MULTILINE)
    assert int(found, 16) == protocol.GUEST_STREAMS
