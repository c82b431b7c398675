"""Passes lines between a client and an interpreter in a sandbox: `python3 -S -c THIS NAME DIRECTORY KERNEL`.

NAME is the interpreter's, and where none of that name runs, KERNEL, the text of kernel.py, is executed in a process of
its own, in a session of its own. It runs each time that a client comes, so it imports as little as it can.

Python 3.8 and later.
"""

import fcntl
import os
import select
import socket
import sys
from io import TextIOWrapper


def main(name: str, directory: str, kernel: str) -> None:
    """Pass lines until either side has gone."""
    connection = connect(name, directory, kernel)
    sources: list = [0, connection]  # type: ignore[type-arg]
    while True:
        for source in select.select(sources, [], [])[0]:
            if source == 0:
                data = os.read(0, 1 << 16)
                if not data:
                    return
                connection.sendall(data)
            else:
                data = connection.recv(1 << 16)
                if not data:
                    return
                while data:
                    data = data[os.write(1, data) :]


def connect(name: str, directory: str, kernel: str) -> socket.socket:
    """Return a connection to the interpreter; start it where there is none. Two bridges start one between them."""
    path = os.path.join(home(), name)
    with open(path + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
        except OSError:
            if os.path.exists(path):
                os.unlink(path)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen(16)
            if os.fork() == 0:
                become_interpreter(listener, path, directory, kernel, lock)
            os.wait()
            listener.close()
            connection.connect(path)
        return connection


def home() -> str:
    """Return the directory of sockets, which is this user's alone."""
    path = "/tmp/.emberbox-code-%d" % os.getuid()
    os.makedirs(path, mode=0o700, exist_ok=True)
    if os.lstat(path).st_uid != os.getuid():
        sys.exit("%s belongs to another user" % path)
    return path


def become_interpreter(listener: socket.socket, path: str, directory: str, kernel: str, lock: TextIOWrapper) -> None:
    """Leave the bridge's session and serve; never return."""
    code = 1
    try:
        lock.close()
        os.setsid()
        if os.fork() == 0:
            import signal
            import site

            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started us may have ignored it
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            place = directory or os.path.expanduser("~")
            os.chdir(place if directory or os.access(place, os.X_OK) else "/")  # users of services have no home
            site.main()
            names: dict = {"__name__": "emberbox_kernel"}  # type: ignore[type-arg]
            exec(compile(kernel, "<emberbox>", "exec"), names)
            names["serve"](listener, path)
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
