"""Runs in a guest: epoll instances older than the suspends. Told by a file what to do, it tells what it has heard.

`/tmp/polls.next` holds a number: 1 takes half of what is polled out again, 2 writes to the other half.
"""

import os
import select
import socket
import threading
import time
from pathlib import Path

NEXT, SAID = Path("/tmp/polls.next"), Path("/tmp/polls.said")
KINDS = ("pipe", "pair", "tcp", "listener")
kept = []


def tcp():
    listener = socket.create_server(("127.0.0.1", 0))
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    return listener, near, far


def make(kind):
    """Return a descriptor that becomes readable, what makes it so, and what ends it."""
    if kind == "pipe":
        out, into = os.pipe()
        return out, lambda: os.write(into, b"x"), lambda: (os.close(out), os.close(into))
    if kind == "pair":
        near, far = socket.socketpair()
    else:
        listener, near, far = tcp()
        kept.append(listener)
        if kind == "listener":
            kept.extend([near, far])
            where = listener.getsockname()
            return listener.fileno(), lambda: kept.append(socket.create_connection(where)), listener.close
    kept.extend([near, far])
    return near.fileno(), lambda: far.send(b"x"), near.close


def hear(kind, poll, names, said):
    """Say what an instance says; of what was told once no more is heard."""
    while True:
        for number, events in poll.poll():
            print(f"{kind} {names.get(number, 'STALE')} {events:#x}", file=said)
            if number in names:
                poll.unregister(number)
            else:
                time.sleep(0.5)


def main():
    chosen, said = [], SAID.open("w", buffering=1)
    for kind in KINDS:
        poll = select.epoll()
        going, staying = make(kind), make(kind)
        for number, _, _ in (going, staying):
            poll.register(number, select.EPOLLIN)
        chosen.append((poll, going, staying))
        threading.Thread(target=hear, args=(kind, poll, {staying[0]: "heard"}, said), daemon=True).start()
    print("begun", file=said)
    for wanted, told in (("1", "removed"), ("2", "written")):
        while not NEXT.exists() or NEXT.read_text().strip() != wanted:
            time.sleep(0.1)
        for poll, going, staying in chosen:
            if wanted == "1":
                poll.unregister(going[0])
                going[2]()
            else:
                staying[1]()
        print(told, file=said)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
