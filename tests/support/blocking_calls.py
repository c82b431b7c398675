"""A program whose processes each wait in one system call, run by a guest's Python over suspends.

Every call is the C library's own: Python calls again what was interrupted, and others do not. Each process appends what
its call came to, `accept ok` or `accept EINTR`, to SAID; those of WAITING wait until the file NEXT is there, those of
TIMED until their time.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import pty
import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

SAID, NEXT, PLACE = "/tmp/calls", "/tmp/calls-next", "/tmp/calls-place"
WAITS_S = 20

Call = Callable[[], int]
Release = Callable[[], object]

libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(64)


class Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class Message(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p), ("name_size", ctypes.c_uint32), ("vectors", ctypes.POINTER(Vector)),
        ("count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int), ("received", ctypes.c_uint),
    )  # fmt: skip


vector = Vector(ctypes.addressof(buffer), 64)
message = Message(vectors=ctypes.pointer(vector), count=1)


class PollFile(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


class Seconds(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("rest", ctypes.c_long))


def listener() -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen()
    return made


def connection() -> tuple[socket.socket, socket.socket]:
    with listener() as door:
        near = socket.create_connection(door.getsockname())
        return near, door.accept()[0]


def accepts(door: socket.socket, four: bool = False) -> tuple[Call, Release]:
    def call() -> int:
        return libc.accept4(door.fileno(), None, None, 0) if four else libc.accept(door.fileno(), None, None)

    return call, lambda: socket.socket(door.family, socket.SOCK_STREAM).connect(door.getsockname())


def receives(pair: tuple[socket.socket, socket.socket], how: str = "recv") -> tuple[Call, Release]:
    """Wait for what the first of a pair sends to the second."""
    fd = pair[1].fileno()
    calls: dict[str, Call] = {
        "recv": lambda: libc.recv(fd, buffer, 64, 0),
        "read": lambda: libc.read(fd, buffer, 64),
        "recvmsg": lambda: libc.recvmsg(fd, ctypes.byref(message), 0),
        "recvmmsg": lambda: libc.recvmmsg(fd, ctypes.byref(message), 1, 0, None),
    }
    return calls[how], lambda: pair[0].send(b"x")


def datagrams() -> tuple[socket.socket, socket.socket]:
    near, far = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
    far.bind(("127.0.0.1", 0))
    near.connect(far.getsockname())
    return near, far


def unix_listener() -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(f"{PLACE}/door")
    made.listen()
    return made


def reads(fd: int, release: Release) -> tuple[Call, Release]:
    return lambda: libc.read(fd, buffer, 64), release


def pipe_is_read() -> tuple[Call, Release]:
    near, far = os.pipe()
    return reads(near, lambda: os.write(far, b"x"))


def terminal_is_read() -> tuple[Call, Release]:
    main, other = pty.openpty()
    return reads(other, lambda: os.write(main, b"x\n"))


def event_is_read() -> tuple[Call, Release]:
    fd = os.eventfd(0)
    return reads(fd, lambda: os.eventfd_write(fd, 1))


def watch_is_read() -> tuple[Call, Release]:
    watched = Path(PLACE, "watched")
    watched.mkdir()
    fd = libc.inotify_init1(0)
    libc.inotify_add_watch(fd, str(watched).encode(), 0x100)  # IN_CREATE
    return reads(fd, (watched / "created").touch)


def pipe_is_written() -> tuple[Call, Release]:
    near, far = os.pipe()
    os.set_blocking(far, False)
    fill(lambda: os.write(far, bytes(4096)))
    os.set_blocking(far, True)
    return lambda: libc.write(far, buffer, 64), lambda: os.read(near, 1 << 20)


def socket_is_written() -> tuple[Call, Release]:
    near, far = socket.socketpair()
    near.setblocking(False)
    fill(lambda: near.send(bytes(4096)))
    near.setblocking(True)

    def release() -> None:
        far.setblocking(False)
        fill(lambda: far.recv(1 << 20))

    return lambda: libc.send(near.fileno(), buffer, 64, 0), release


def fill(write: Callable[[], object]) -> None:
    try:
        while True:
            write()
    except BlockingIOError:
        pass


def polls(milliseconds: int = -1) -> tuple[Call, Release]:
    near, far = os.pipe()
    file = PollFile(near, select.POLLIN, 0)
    return lambda: libc.poll(ctypes.byref(file), 1, milliseconds), lambda: os.write(far, b"x")


def selects(seconds: int | None = None) -> tuple[Call, Release]:
    near, far = os.pipe()
    files = (ctypes.c_ulong * 16)()
    files[near // 64] = 1 << near % 64
    until = ctypes.byref(Seconds(seconds, 0)) if seconds is not None else None
    return lambda: libc.select(near + 1, files, None, None, until), lambda: os.write(far, b"x")


def epolls(milliseconds: int = -1) -> tuple[Call, Release]:
    near, far = os.pipe()
    instance = select.epoll()
    instance.register(near, select.EPOLLIN)
    return lambda: libc.epoll_wait(instance.fileno(), buffer, 1, milliseconds), lambda: os.write(far, b"x")


def semaphore_is_waited_for() -> tuple[Call, Release]:
    shared = (ctypes.c_char * 4096).from_buffer(mmap.mmap(-1, 4096))
    libc.sem_init(shared, 1, 0)
    return lambda: libc.sem_wait(shared), lambda: libc.sem_post(shared)


def child_is_waited_for() -> tuple[Call, Release]:
    near, far = os.pipe()

    def call() -> int:
        child = os.fork()
        if not child:
            os.read(near, 1)
            os._exit(0)
        return libc.waitpid(child, None, 0)

    return call, lambda: os.write(far, b"x")


def file_is_locked(lock: Callable[[int], int]) -> tuple[Call, Release]:
    path = f"{PLACE}/{lock.__name__}"
    held = os.open(path, os.O_RDWR | os.O_CREAT)
    lock(held)
    return lambda: lock(os.open(path, os.O_RDWR)), lambda: (
        fcntl.flock(held, fcntl.LOCK_UN),
        fcntl.lockf(held, fcntl.LOCK_UN),
    )


def flock(fd: int) -> int:
    return libc.flock(fd, fcntl.LOCK_EX)


def lockf(fd: int) -> int:
    return libc.lockf(fd, 1, 0)  # F_LOCK


def queue_is_read() -> tuple[Call, Release]:
    queue = libc.msgget(0, 0o1600)
    sent = ctypes.create_string_buffer((1).to_bytes(8, "little") + b"x")
    return lambda: libc.msgrcv(queue, buffer, 8, 0, 0), lambda: libc.msgsnd(queue, sent, 1, 0)


def set_is_taken() -> tuple[Call, Release]:
    chosen = libc.semget(0, 1, 0o1600)
    take = ctypes.create_string_buffer(b"\0\0\xff\xff\0\0")
    give = ctypes.create_string_buffer(b"\0\0\1\0\0\0")
    return lambda: libc.semop(chosen, take, 1), lambda: libc.semop(chosen, give, 1)


def fifo_is_opened() -> tuple[Call, Release]:
    path = f"{PLACE}/fifo"
    os.mkfifo(path)
    return lambda: libc.open(path.encode(), os.O_RDONLY), lambda: os.open(path, os.O_WRONLY)


def sleeps() -> tuple[Call, Release]:
    return lambda: libc.nanosleep(ctypes.byref(Seconds(WAITS_S, 0)), None), lambda: None


def signal_is_waited_for() -> tuple[Call, Release]:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})  # for all processes, before any begins
    awaited = ctypes.create_string_buffer(128)
    libc.sigemptyset(awaited)
    libc.sigaddset(awaited, int(signal.SIGUSR2))
    return lambda: libc.sigwaitinfo(awaited, None), lambda: os.kill(processes["sigwaitinfo"], signal.SIGUSR2)


processes: dict[str, int] = {}

WAITING: dict[str, Callable[[], tuple[Call, Release]]] = {
    "accept": lambda: accepts(listener()),
    "accept4": lambda: accepts(listener(), four=True),
    "accept of a path": lambda: accepts(unix_listener()),
    "recv of TCP": lambda: receives(connection()),
    "recv of UDP": lambda: receives(datagrams()),
    "recv of a pair": lambda: receives(socket.socketpair()),
    "recv of datagrams of a pair": lambda: receives(socket.socketpair(type=socket.SOCK_DGRAM)),
    "recvmsg of TCP": lambda: receives(connection(), "recvmsg"),
    "recvmsg of a pair": lambda: receives(socket.socketpair(), "recvmsg"),
    "recvmmsg": lambda: receives(datagrams(), "recvmmsg"),
    "read of TCP": lambda: receives(connection(), "read"),
    "read of a pair": lambda: receives(socket.socketpair(), "read"),
    "read of a pipe": pipe_is_read,
    "read of a terminal": terminal_is_read,
    "read of an eventfd": event_is_read,
    "read of inotify": watch_is_read,
    "write to a pipe": pipe_is_written,
    "send to a pair": socket_is_written,
    "poll": polls,
    "select": selects,
    "epoll_wait": epolls,
    "sem_wait": semaphore_is_waited_for,
    "waitpid": child_is_waited_for,
    "flock": lambda: file_is_locked(flock),
    "lockf": lambda: file_is_locked(lockf),
    "msgrcv": queue_is_read,
    "semop": set_is_taken,
    "open of a FIFO": fifo_is_opened,
    "sigwaitinfo": signal_is_waited_for,
}
TIMED: dict[str, Callable[[], tuple[Call, Release]]] = {
    "nanosleep": sleeps,
    "poll with a limit": lambda: polls(WAITS_S * 1000),
    "select with a limit": lambda: selects(WAITS_S),
    "epoll_wait with a limit": lambda: epolls(WAITS_S * 1000),
}


def say(what: str) -> None:
    with Path(SAID).open("a") as said:
        said.write(f"{what}\n")


def begin(name: str, call: Call) -> None:
    """Let a process of its own wait in a call."""
    processes[name] = os.fork()
    if not processes[name]:
        returned = call()
        say(f"{name} {'ok' if returned >= 0 else errno.errorcode[ctypes.get_errno()]}")
        os._exit(0)


def main() -> None:
    Path(PLACE).mkdir()
    made = {name: make() for name, make in (WAITING | TIMED).items()}
    for name, (call, _) in made.items():
        begin(name, call)
    say("begun")
    while not Path(NEXT).exists():
        time.sleep(0.1)
    for name in WAITING:
        made[name][1]()
    time.sleep(3600)


if __name__ == "__main__":
    main()
