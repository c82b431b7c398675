"""`emberbox trust --aws-names`: AWS's own host names lead to the server, for programs that know no other address."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from emberbox.cli.context import Server
from emberbox.cli.progress import waiting
from emberbox.model.errors import HostError
from emberbox.time_limits import limit_s

HOSTS: Final = Path("/etc/hosts")
_WAIT_S: Final = limit_s(15.0)
_POLL_S: Final = 0.1
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def answer_aws_names(server: Server) -> None:
    """Let a server answer AWS's names, and wait until it does.

    Args:
        server: one that runs.

    Raises:
        HostError: it has no second port, or does not answer in time.
    """
    from emberbox.spec.aws_names import FLAG, aws_names

    if not server.https_port:
        raise HostError(
            "programs ask for AWS's names at port 443, which this server does not have: end what has it, start the "
            "server as root (or with CAP_NET_BIND_SERVICE), and see that EMBERBOX_HTTPS_PORT is not 0"
        )
    (server.home / FLAG).touch()
    name = aws_names(server.region).api[0]
    deadline = time.monotonic() + _WAIT_S
    with waiting(f"waiting until the server answers {name}"):
        while problem := _find_problem(server, name):
            if time.monotonic() > deadline:
                raise HostError(f"the server does not answer {name} at port {server.https_port}: {problem}")
            time.sleep(_POLL_S)


def ignore_aws_names(home: Path) -> None:
    """Let a server answer AWS's names no more; repeats are harmless.

    Args:
        home: the server's, whether it runs or not.
    """
    from emberbox.spec.aws_names import FLAG

    (home / FLAG).unlink(missing_ok=True)


def _find_problem(server: Server, name: str) -> str:
    context = ssl.create_default_context(cafile=server.ca_bundle)
    try:
        with socket.create_connection((address(server), server.https_port), timeout=limit_s(5)) as plain:
            context.wrap_socket(plain, server_hostname=name).close()
    except OSError as error:
        return str(error)
    return ""


def address(server: Server) -> str:
    """Return the address that names lead to."""
    host, _ = server.gateway_address
    return _EVERYWHERE.get(host, host)


def render_hosts(server: Server, buckets: Sequence[str]) -> str:
    """Return the lines of a hosts file, with the marks by which they are found again.

    Args:
        server: whom the names lead to.
        buckets: which buckets are asked for by a name of their own, as a hosts file has no wildcards.
    """
    from emberbox.spec.aws_names import aws_names

    names = aws_names(server.region)
    every = [*names.api, *names.s3, *(f"{bucket}.{name}" for name in names.s3 for bucket in buckets)]
    lines = "".join(f"{address(server)} {name}\n" for name in every)
    return f"{_mark('begin', server.home)}\n{lines}{_mark('end', server.home)}\n"


def _mark(which: str, home: Path) -> str:
    return f"# {which} emberbox aws-names {home}"


def without_lines(text: str, home: Path) -> str:
    """Return a hosts file without the lines that are a server's.

    Args:
        text: the file's.
        home: the server's.
    """
    begin, end = (re.escape(_mark(which, home)) for which in ("begin", "end"))
    return re.sub(rf"^{begin}\n.*?^{end}\n", "", text, flags=re.DOTALL | re.MULTILINE)


def write_hosts(hosts: Path, home: Path, lines: str) -> None:
    """Put a server's lines at the end of a hosts file, instead of those that it has there; all else stays.

    Args:
        hosts: the file.
        home: the server's.
        lines: nothing takes them out.

    Raises:
        HostError: it may not be changed, or cannot be.
    """
    try:
        before = hosts.read_text()
        kept = without_lines(before, home)
        after = f"{kept}{'' if kept.endswith(chr(10)) or not kept else chr(10)}{lines}" if lines else kept
        if after != before:
            _replace(hosts, after)
    except OSError as error:
        raise HostError(f"{hosts} cannot be changed ({error.strerror}): do it as root, or by hand") from error


def _replace(path: Path, text: str) -> None:
    """Write a file whole; where it is a mount, as containers have it, in its place."""
    scratch = path.with_name(f"{path.name}.emberbox")
    try:
        scratch.write_text(text)
        scratch.chmod(path.stat().st_mode & 0o777)
        scratch.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        path.write_text(text)
