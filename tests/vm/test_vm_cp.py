"""`emberbox cp`: files and trees both ways, confined to the container."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from emberbox.time_limits import limit_s
from support import shell
from support.engines import ENGINE
from support.guests import Microvm
from support.server import Server

pytestmark = pytest.mark.vm

MIB = 1 << 20


def cp(server: Server, *arguments: str | Path) -> None:
    """Copy; it must succeed."""
    done = try_cp(server, *arguments)
    assert done.returncode == 0, done.stderr


def try_cp(server: Server, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = server.command("cp", *map(str, arguments))
    return subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=limit_s(300))


def describe(root: Path) -> dict[str, tuple[int, bytes | str]]:
    """Return mode and content or link of everything in a tree."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(root.rglob("*")):
        content: bytes | str = b""
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(root))] = (path.lstat().st_mode, content)
    return found


@pytest.mark.both_engines
def test_a_tree_goes_there_and_comes_back(server: Server, shell_microvm: Microvm, tmp_path: Path) -> None:
    """Contents, modes, links and names are kept; in the microVM the owners too."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "grüße λ").write_bytes(os.urandom(100_000))
    (tree / "tool").write_text("#!/bin/sh\n")
    (tree / "tool").chmod(0o755)
    (tree / "secret").write_text("x")
    (tree / "secret").chmod(0o600)
    (tree / "absolute").symlink_to("/etc/hostname")
    (tree / "relative").symlink_to("sub")
    (tree / "sub").chmod(0o750)
    if os.geteuid() == 0:
        os.chown(tree / "secret", 33, 34)
    there = f"{shell_microvm.id}:/data/copied"
    cp(server, tree, there)
    seen = shell.run(shell_microvm, "cd /data/copied; stat -c '%n %a %u %g' secret tool sub; readlink absolute")
    owner = "33 34" if os.geteuid() == 0 else f"{os.getuid()} {os.getgid()}"
    assert seen.splitlines()[0] == f"secret 600 {owner}"
    assert seen.splitlines()[-1] == "/etc/hostname"
    cp(server, there, tmp_path / "back")
    assert describe(tmp_path / "back") == describe(tree)
    (tmp_path / "into").mkdir()
    cp(server, there, tmp_path / "into")
    assert describe(tmp_path / "into" / "copied") == describe(tree)


def test_a_large_file_arrives_whole(server: Server, shell_microvm: Microvm, tmp_path: Path) -> None:
    data = os.urandom(MIB) * 64
    (tmp_path / "large").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    cp(server, tmp_path / "large", f"{shell_microvm.id}:/data/")
    assert shell.run(shell_microvm, "sha256sum /data/large").split()[0] == digest
    cp(server, f"{shell_microvm.id}:/data/large", tmp_path / "back")
    assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == digest


def test_single_files_over_http(shell_microvm: Microvm) -> None:
    put = shell.request(shell_microvm, "PUT", "/files?path=/data/note&mode=0600&uid=33", content=b"hello")
    assert (put.status_code, put.content) == (204, b"")
    got = shell.request(shell_microvm, "GET", "/files?path=/data/note")
    assert (got.content, got.headers["x-file-mode"], got.headers["x-file-uid"]) == (b"hello", "0600", "33")
    of_debians_kernel = ("/proc/kcore/x", "/proc/kcore") if ENGINE.kernel_is_debians else ()
    not_to_be_had = {"/missing": 404} | dict.fromkeys(
        ("/data", "/proc/version/x", "/dev/zero", *of_debians_kernel), 409
    )
    for path, status in not_to_be_had.items():
        assert shell.request(shell_microvm, "GET", f"/files?path={path}").status_code == status, path


def test_the_examples_of_the_document_run(server: Server, shell_microvm: Microvm) -> None:
    """Of docs/shell.md, as they stand there: curl with a shell token."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "shell.md").read_text()
    lines = "\n".join(line[4:] for line in text.splitlines() if line.startswith(("    curl ", "        -d ")))
    environment = {
        **server.environment,
        "TOKEN": shell.mint_shell_token(shell_microvm),
        "EMBERBOX_CA_BUNDLE": server.endpoints["ca_bundle"],
        "EMBERBOX_GATEWAY": server.endpoints["gateway"],
    }
    done = subprocess.run(["bash", "-ec", lines], env=environment, capture_output=True, text=True, timeout=limit_s(120))
    assert done.returncode == 0, done.stderr
    *told, hostname = done.stdout.splitlines()
    assert [json.loads(line)["type"] for line in told] == ["stdout", "exit"]
    assert hostname == shell_microvm.id


def test_copies_cannot_leave_the_container(server: Server, shell_microvm: Microvm, tmp_path: Path) -> None:
    """Neither dots nor links lead to the guest's own root, where the agent lives."""
    (tmp_path / "f").write_text("x")
    cp(server, tmp_path / "f", f"{shell_microvm.id}:/../../../escaped")
    assert shell.run(shell_microvm, "cat /escaped") == "x"
    for path in ("/../../init", "/proc/1/root/../init", "/../modules"):
        done = try_cp(server, f"{shell_microvm.id}:{path}", tmp_path / "stolen")
        assert done.returncode == 1, path
        assert "No such file" in done.stderr or "Permission denied" in done.stderr
    assert not (tmp_path / "stolen").exists()


def test_what_fails_is_said_in_a_line(server: Server, shell_microvm: Microvm, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    here, there = tmp_path / "f", shell_microvm.id
    for arguments, text in (
        ((f"{there}:/missing", tmp_path), "/missing: No such file or directory"),
        ((tmp_path / "missing", f"{there}:/data"), "there is no such file here"),
        ((here, f"{there}:/missing/f"), "/missing: No such file or directory"),
        (("-u", "www-data", here, f"{there}:/root/f"), "Permission denied"),
        ((here, tmp_path / "g"), "MICROVM:PATH"),
    ):
        done = try_cp(server, *arguments)
        assert done.returncode == 1, arguments
        assert text in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_full_disk_is_said_and_leaves_nothing(server: Server, shell_microvm: Microvm, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(2 * MIB))
    shell.run(shell_microvm, "head -c 100M /dev/zero > /dev/shm/fill 2>/dev/null || true")
    done = try_cp(server, tmp_path / "f", f"{shell_microvm.id}:/dev/shm/f")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert shell.run(shell_microvm, "ls -A /dev/shm; rm /dev/shm/fill") == "fill\n"
