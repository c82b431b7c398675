"""The compiled pieces that come with the package: agent, keeper, memory shim, TSC measurement, what images get.

What runs in guests is there for each architecture that a guest may have, the rest for this machine's.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from emberbox.host.architecture import X86_64, Architecture, native
from emberbox.model.errors import HostError

AGENT_IN_IMAGE = "/.emberbox-agent"
"""Where the root file system has the agent of a guest without a kernel of its own; as in agent/agent.h."""

_DIRECTORY = Path(__file__).resolve().parent.parent / "_native"


def _find(name: str) -> Path:
    path = _DIRECTORY / name
    if not path.is_file():
        raise HostError(f"{name} has not been compiled; run `python agent/build.py` in the checkout")
    return path


def agent_path(architecture: Architecture | None = None) -> Path:
    """Return the guest agent, a static executable; by default this machine's."""
    return _find(f"agent-{(architecture or native()).machine}")


def keeper_path() -> Path:
    """Return what keeps a sandbox, a static executable (agent/keeper.c)."""
    return _find("keeper")


def memory_shim_path() -> Path:
    """Return the library that gives QEMU read-only layers of memory (agent/memory_shim.c)."""
    return _find("memory_shim.so")


def openssl_random_path(architecture: Architecture | None = None) -> Path:
    """Return the OpenSSL provider that images get (agent/openssl_random.c); by default this machine's."""
    return _find(f"openssl_random-{(architecture or native()).machine}.so")


@cache
def tsc_khz() -> int:
    """Measure, once, the rate of this machine's time-stamp counter in kHz; takes 200 ms (agent/tsc.c)."""
    measure = ctypes.CDLL(str(_find("tsc.so"))).emberbox_tsc_khz
    measure.restype = ctypes.c_uint32
    return int(measure())


def describe_counter() -> str:
    """Return in words what this machine counts time by, where an emulated guest has to be told; else nothing."""
    return f", tsc.so (time-stamp counter: {tsc_khz() / 1000:.0f} MHz)" if native() == X86_64 else ""
