"""Run a program that cannot watch the machine's networks: its sockets of netlink are refused.

Chromium drops what it is loading whenever a network comes or goes (ERR_NETWORK_CHANGED), and here they do with each
microVM of any test. Without netlink it takes the networks as they are.

    python without_netlink.py PROGRAM [ARGUMENT...]
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER_AT, FIRST_ARGUMENT_AT = 0, 16
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EAFNOSUPPORT
SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]
RULES = (
    (LOAD, 0, 0, NUMBER_AT),
    (JUMP_IF_EQUAL, 0, 3, SOCKET),
    (LOAD, 0, 0, FIRST_ARGUMENT_AT),
    (JUMP_IF_EQUAL, 0, 1, socket.AF_NETLINK),
    (RETURN, 0, 0, REFUSE),
    (RETURN, 0, 0, ALLOW),
)


def refuse_netlink() -> None:
    """Install the filter for this process and what it becomes."""
    rules = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in RULES))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(RULES), ctypes.addressof(rules)))
    library = ctypes.CDLL(None, use_errno=True)
    for call in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0)):
        if library.prctl(*call):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    refuse_netlink()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 -- it becomes that program
