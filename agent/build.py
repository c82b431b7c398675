"""Build hook: compile agents, keeper and small libraries with the C compiler that PyPI's `ziglang` carries.

What runs in guests is compiled for each architecture that a guest may have, the rest for this machine.

Run by hatchling when the package is installed or built, and by `python agent/build.py` in a checkout.
"""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parent / "src" / "emberbox" / "_native"

AGENT_SOURCES = [
    "main.c", "app.c", "archive.c", "boot.c", "channel.c", "container.c", "exec.c", "fields.c", "freezer.c", "log.c",
    "modprobe.c", "pack.c", "sandbox.c", "services.c", "sever.c", "stream.c", "unpack.c",
]  # fmt: skip
GUESTS = ("x86_64", "aarch64")  # as src/emberbox/host/architecture.py has them
WARNINGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"]


def build() -> None:
    """Compile what is older than its sources."""
    machine = platform.machine()
    library = ["-target", f"{machine}-linux-gnu.2.31", "-shared", "-fPIC", "-s"]
    _compile("keeper", ["keeper.c", "nowhere.c"], ["-target", f"{machine}-linux-musl", "-static", "-s"])
    _compile("memory_shim.so", ["memory_shim.c"], library)
    if machine == "x86_64":
        _compile("tsc.so", ["tsc.c"], library)
    bare = ["-ffreestanding", "-nostdlib", "-fvisibility=hidden", "-shared", "-fPIC", "-s"]
    for guest in GUESTS:
        target = ["-target", f"{guest}-linux-musl"]
        _compile(f"agent-{guest}", AGENT_SOURCES, [*target, "-static", "-s"])
        _compile(f"openssl_random-{guest}.so", ["openssl_random.c"], [*target, *bare])


def build_console() -> None:
    """Make the console's page. What else there is works without it, so a registry that is out of reach is no error."""
    spec = importlib.util.spec_from_file_location("console_build", HERE.parent / "console" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        module.build()
    except module.BuildError as error:
        print(f"the console's page is not made: {error}", file=sys.stderr)


def _compile(name: str, sources: list[str], options: list[str]) -> None:
    target = OUTPUT / name
    inputs = [*HERE.glob("*.c"), *HERE.glob("*.h"), Path(__file__)]
    if target.exists() and target.stat().st_mtime >= max(path.stat().st_mtime for path in inputs):
        return
    OUTPUT.mkdir(exist_ok=True)
    print(f"compiling {name}", file=sys.stderr)
    files = [str(HERE / source) for source in sources]
    command = [sys.executable, "-m", "ziglang", "cc", *WARNINGS, *options, "-o", str(target), *files]
    subprocess.run(command, check=True)


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script
    pass
else:

    class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
        """What hatchling calls before it packs a wheel, editable ones included."""

        def initialize(
            self,
            version: str,  # noqa: ARG002 - hatchling's interface
            build_data: dict[str, Any],
        ) -> None:
            """Compile, and mark the wheel as one for this kind of machine."""
            build()
            build_console()
            build_data["pure_python"] = False
            build_data["infer_tag"] = True


if __name__ == "__main__":
    build()
