"""Messages of netlink(7): how the kernel is asked, and how its answers are read."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

ACK, DUMP = 4, 0x300
"""NLM_F_ACK and NLM_F_DUMP: what a question asks for besides."""

_ERROR, _DONE = 2, 3
_REQUEST: Final = 1
_HEADER: Final = struct.Struct("=IHHII")
_READ_BYTES: Final = 1 << 18


def ask(kernel: socket.socket, kind: int, flags: int, request: bytes) -> None:
    """Send a question.

    Args:
        kernel: a netlink socket.
        kind: of message.
        flags: `ACK` or `DUMP`.
        request: what follows the header.

    Raises:
        OSError: it cannot be sent.
    """
    kernel.sendto(_HEADER.pack(_HEADER.size + len(request), kind, _REQUEST | flags, 1, 0) + request, (0, 0))


def read_answers(kernel: socket.socket) -> Iterator[bytes]:
    """Yield the messages of an answer, which ends with DONE or an error; the error 0 is an acknowledgement.

    Raises:
        OSError: the answer is an error.
    """
    while True:
        answer = kernel.recv(_READ_BYTES)
        while answer:
            length, kind, _, _, _ = _HEADER.unpack_from(answer)
            payload, answer = answer[_HEADER.size : length], answer[(length + 3) & ~3 :]
            if kind in (_ERROR, _DONE):
                code = -struct.unpack_from("=i", payload)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                return
            yield payload
