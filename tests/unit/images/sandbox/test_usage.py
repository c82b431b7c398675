"""What a process takes of the host, with what it has started."""

from __future__ import annotations

import os
import subprocess
import sys

from emberbox.images.sandbox.usage import read_usage

MEMORY = """\
import os, subprocess, sys
file = os.memfd_create("runsc-memory")
os.write(file, bytes(50 << 20))
child = subprocess.Popen(["sleep", "60"], pass_fds=[file])
print("ready", flush=True)
sys.stdin.read()
child.kill()
"""


def test_memory_files_count_once_whoever_has_them_open() -> None:
    with subprocess.Popen([sys.executable, "-c", MEMORY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        usage = read_usage(process.pid)
        assert process.stdin is not None
        process.stdin.close()
    assert 50 << 20 <= usage.memory_bytes < 100 << 20
    assert usage.processes == 2


def test_a_process_that_has_gone_takes_nothing() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    assert read_usage(process.pid).memory_bytes == 0
    assert read_usage(os.getpid()).memory_bytes > 0
