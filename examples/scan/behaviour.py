"""What strace has written, as a report of what a program did."""

import re
from collections import Counter

CALL = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+|\?)(?:<.*>)?(?: (\w+))?.*$")
UNFINISHED = re.compile(r"^(\d+) +(\w+\(.*?),? *<unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
ADDRESS = re.compile(r'sin_port=htons\((\d+)\), sin_addr=inet_addr\("([^"]+)"\)')
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
REMOVES = ("unlink", "unlinkat", "rmdir")
QUIET = ("/lib", "/usr/lib", "/etc/ld.so", "/proc/", "/dev/")
SECRETS, RETURNS = ("/etc/shadow", "/root/.ssh"), ("/etc/cron", "/etc/rc", "/etc/systemd", "/usr/local/bin")
MANY = 20


def read_calls(text):
    """Yield process, name, arguments, result and error of each call; one that another interrupted is put together."""
    begun = {}
    for line in text.splitlines():
        if found := UNFINISHED.match(line):
            begun[found[1]] = f"{found[1]} {found[2]}"
            continue
        found = RESUMED.match(line)
        whole = begun.pop(found[1], "") + found[2] if found else line
        if found := CALL.match(whole):
            yield found.groups()
    for line in begun.values():  # what it was at when it was ended
        if found := CALL.match(f"{line}) = ?"):
            yield found.groups()


def report(text, own):
    """Return what a program did, whose file is `own`, and which of it is suspicious."""
    calls, read, written, removed = Counter(), set(), set(), set()
    connections, programs, children = [], [], 0
    for _, name, arguments, result, error in read_calls(text):
        calls[name] += 1
        paths, worked = TEXT.findall(arguments), not result.startswith("-")
        if name in ("open", "openat", "creat") and paths and worked:
            (written if name == "creat" or WRITES.search(arguments) else read).add(paths[0])
        elif name in REMOVES and paths and worked:
            removed.add(paths[0])
        elif name == "connect" and (found := ADDRESS.search(arguments)):
            connections.append({"address": found[2], "port": int(found[1]), "result": error or "connected"})
        elif name in ("execve", "execveat") and worked:
            programs.append(paths)
        elif name in ("fork", "vfork", "clone", "clone3") and worked:
            children += "CLONE_THREAD" not in arguments
    found = {
        "system_calls": dict(calls.most_common()),
        "files": {"read": _loud(read), "written": _loud(written), "removed": _loud(removed)},
        "connections": connections,
        "programs": programs,
        "child_processes": children,
    }
    return found | {"suspicious": list(_judge(found, own))}


def _loud(paths):
    """Leave out what every program reads to start."""
    return sorted(path for path in paths if not path.startswith(QUIET))


def _judge(found, own):
    yield from (f"reads {path}" for path in found["files"]["read"] if path.startswith(SECRETS))
    yield from (f"writes {path}" for path in found["files"]["written"] if path.startswith(RETURNS))
    if own in found["files"]["removed"]:
        yield "removes itself"
    yield from sorted({f"connects to {one['address']}:{one['port']}" for one in found["connections"]})
    if found["child_processes"] >= MANY:
        yield f"starts {found['child_processes']} processes"
