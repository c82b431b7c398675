"""The emulated machine: a stock Debian with KVM of its own, because QEMU's TCG emulates AMD's SVM with nested paging.

Its root file system and what the tests need of this machine are made into images, most of which are kept between runs:

    root.img      Debian, by mmdebstrap; every start sees it as it was made
    venv.erofs    the checkout's virtual environment
    python.erofs  the Python that it belongs to, where that is not Debian's
    seed.erofs    guest kernel and base image, as a server of this checkout makes them, with more packages

The checkout itself, jobs and their results go through a shared directory (virtio-9p).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from emberbox.host import usage
from kvm_lane.emulator import Emulator

CHECKOUT = Path(__file__).resolve().parents[2]
SCALE = 20
"""How many times as slow as an ordinary machine it is taken to be; measured is 20 to 50 for what waits for nothing."""

CPUS = min(2, os.cpu_count() or 1)
MEMORY_MIB = 6144

STILL_MAX_S = 300.0
"""How long its init may do nothing, which touches a file twice a second: the emulator spins for ever at times."""

DISK_BYTES = 20 << 30
UP_TIMEOUT_S = 1800.0
SHARE = Path("/lane/share")
CACHE = Path("/lane/cache")

_PACKAGES = (
    "linux-image-amd64", "python3", "python3-venv", "qemu-system-x86", "buildah", "runc", "erofs-utils", "e2fsprogs",
    "nftables", "iproute2", "iputils-ping", "mmdebstrap", "util-linux", "mount", "udev", "kmod", "curl",
    "ca-certificates", "procps", "perl", "libssl3", "libffi8", "libsqlite3-0", "libbz2-1.0", "liblzma5", "libreadline8",
    "libncursesw6",
)  # fmt: skip
_TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "mkfs.erofs": "erofs-utils",
    "mke2fs": "e2fsprogs",
}
_OF_THE_HOST = ("etc/ssl/certs/ca-certificates.crt", "etc/pip.conf")
_APPEND = (
    "root=/dev/vda rw console=ttyS0 panic=-1 init=/lane/init tsc=reliable mitigations=off net.ifnames=0 nokaslr "
    "kvm_amd.nested=0"
)


class LaneError(Exception):
    """The emulated machine cannot be made or used; the message says why."""


class MachineDied(Exception):  # noqa: N818 - not an error: the emulator does that
    """The emulated machine has ended or stands still, by itself."""


def check_tools() -> None:
    """See that everything is here that makes the machine.

    Raises:
        LaneError: something is missing.
    """
    if os.geteuid() != 0:
        raise LaneError("the emulated machine is made by mmdebstrap as root: run this as root")
    missing = [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]
    if missing:
        raise LaneError(f"missing here: apt-get install {' '.join(missing)}")
    uses_debians = Path(sys.base_prefix) == Path("/usr")
    if uses_debians and sys.version_info[:2] != (3, 11):
        raise LaneError(
            "the emulated Debian 12 has Python 3.11: make .venv with that, or with a Python of its own prefix"
        )


def cache_directory() -> Path:
    """Return where images are kept between runs."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "emberbox-kvm-lane"


class Images:
    """The images that the machine is made of; what is missing is made.

    Args:
        say: told what is being done.
        make_seed: fills a directory with `kernel` and `containers`.
        seed_key: names what `make_seed` makes.
    """

    def __init__(self, say: Callable[[str], None], make_seed: Callable[[Path], None], seed_key: str) -> None:
        self._say = say
        self._directory = cache_directory()
        self._directory.mkdir(parents=True, exist_ok=True)
        init = (Path(__file__).parent / "init").read_bytes()
        self.root = self._made(f"root-{_key(*_PACKAGES, init.hex())}", self._make_root)
        self.venv = self._made(f"venv-{_venv_key()}.erofs", self._make_venv)
        self.python = None
        if Path(sys.base_prefix) != Path("/usr"):
            name = f"python-{_key(sys.base_prefix, sys.version)}.erofs"
            self.python = self._made(name, self._make_python)

        def pack_seed(path: Path) -> None:
            with self._scratch() as scratch:
                make_seed(scratch / "seed")
                _erofs(path, scratch / "seed")

        self.seed = self._made(f"seed-{seed_key}.erofs", pack_seed)

    def drives(self) -> list[tuple[Path, Path]]:
        """Return what is mounted in the machine besides its root: image and place."""
        python = [] if self.python is None else [(self.python, Path(sys.base_prefix))]
        return [(self.seed, Path("/lane/seed")), (self.venv, CHECKOUT / ".venv"), *python]

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        path = self._directory / name
        if not path.exists():
            self._say(f"making {name.partition('-')[0]} (kept in {self._directory})")
            for old in self._directory.glob(f"{name.rpartition('-')[0]}-*"):  # of another checkout or release
                shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink()
            scratch = self._directory / f".{os.getpid()}.{name}"
            try:
                make(scratch)
                scratch.rename(path)
            finally:
                shutil.rmtree(scratch, ignore_errors=True) if scratch.is_dir() else scratch.unlink(missing_ok=True)
        return path

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._directory, prefix=".scratch-") as name:
            yield Path(name)

    def _make_root(self, directory: Path) -> None:
        """Make a directory with `vmlinuz`, `initrd` and `root.img`."""
        directory.mkdir()
        with self._scratch() as scratch:
            tree = scratch / "root"
            options = ["--quiet", "--variant=apt", "--format=directory", f"--include={','.join(_PACKAGES)}"]
            options += ['--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"']
            run("mmdebstrap", *options, "bookworm", tree)
            (tree / "lane").mkdir()
            shutil.copy2(Path(__file__).parent / "init", tree / "lane/init")
            (tree / "lane/init").chmod(0o755)
            (tree / "etc/hosts").write_text("127.0.0.1 localhost lane\n")
            (tree / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
            for name in _OF_THE_HOST:  # how this machine reaches the registries
                if Path("/", name).exists():
                    shutil.copy2(Path("/", name), tree / name)
            for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd", "initrd.img-*")):
                (found,) = (tree / "boot").glob(pattern)
                shutil.copy2(found, directory / name)
            with (directory / "root.img").open("wb") as image:
                image.truncate(DISK_BYTES)
            run("mke2fs", "-q", "-t", "ext4", "-F", "-O", "^has_journal", "-d", tree, directory / "root.img")

    def _make_python(self, path: Path) -> None:
        library = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
        unused = (f"{library}/site-packages", f"{library}/test")  # the virtual environment has packages of its own
        _erofs(path, Path(sys.base_prefix), *[f"--exclude-path={each}" for each in unused])

    def _make_venv(self, path: Path) -> None:
        unused = sorted((CHECKOUT / ".venv").glob("lib/python3*/site-packages/ziglang"))
        _erofs(path, CHECKOUT / ".venv", *[f"--exclude-path={each.relative_to(CHECKOUT / '.venv')}" for each in unused])


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _venv_key() -> str:
    installed = sorted(path.name for path in (CHECKOUT / ".venv").glob("lib/python3*/site-packages/*.dist-info"))
    return _key(str(CHECKOUT), sys.version, *installed)


def run(*command: str | Path) -> None:
    """Run a tool of this machine.

    Raises:
        LaneError: it failed.
    """
    done = subprocess.run(["nice", "-n", "15", *command], capture_output=True, text=True)
    if done.returncode != 0:
        raise LaneError(f"{command[0]} failed: {done.stderr.strip()[-2000:]}")


def _erofs(path: Path, directory: Path, *options: str) -> None:
    run("mkfs.erofs", "--quiet", *options, path, directory)


class Machine:
    """One start of the machine; nothing that it writes to its disks is kept.

    Args:
        emulator: what emulates it.
        images: what it is made of.
        checkout: an archive from `pack_checkout`.
        directory: for its share and its console; a new one.
    """

    def __init__(self, emulator: Emulator, images: Images, checkout: Path, directory: Path) -> None:
        self._emulator = emulator
        self._images = images
        self._checkout = checkout
        self._directory = directory
        self.share = directory / "share"
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs = 0

    def start(self) -> float:
        """Start it, wait until it is up, and unpack the checkout there; return how many seconds that took.

        Raises:
            LaneError: it does not come up.
        """
        began = time.monotonic()
        (self.share / "jobs").mkdir(parents=True)
        shutil.copy2(self._checkout, self.share / "checkout.tar")
        with (self._directory / "qemu.log").open("wb") as log:
            command = ["setpriv", "--pdeathsig", "KILL", "--", "nice", "-n", "15", *self._command()]
            environment = self._emulator.environment
            self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not (self.share / "up").exists():
            if self._process.poll() is not None or time.monotonic() - began > UP_TIMEOUT_S:
                self.stop()
                raise LaneError(f"the emulated machine did not come up:\n{self.console_tail()}")
            time.sleep(0.5)
        code, said = self.run(self._set_up())
        if code != 0:
            self.stop()
            raise LaneError(f"the emulated machine could not be set up:\n{said}")
        return time.monotonic() - began

    def run(self, script: str, on_wait: Callable[[], None] = lambda: None) -> tuple[int, str]:
        """Run a script in it, as root, and return its exit code and what it printed.

        Args:
            script: for bash.
            on_wait: called again and again meanwhile.

        Raises:
            MachineDied: it ended, or stood still, before the script did.
        """
        self._jobs += 1
        place = self.share / "jobs" / f"job{self._jobs}"
        place.with_suffix(".new").write_text(script)
        place.with_suffix(".new").rename(place.with_suffix(".sh"))
        code = place.with_suffix(".rc")
        while not code.exists():
            if self._process is None or self._process.poll() is not None:
                raise MachineDied(self.console_tail())
            if time.time() - (self.share / "alive").stat().st_mtime > STILL_MAX_S:
                raise MachineDied(f"{self.console_tail()}\nit stood still, with the emulator at work")
            on_wait()
            time.sleep(0.5)
        return int(code.read_text()), place.with_suffix(".out").read_text(errors="replace")

    def stop(self) -> None:
        """End it; repeats are harmless."""
        if self._process is None:
            return
        if self._process.poll() is None:
            (self.share / "stop").touch()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def cpu_seconds(self) -> float:
        """Return how much processor time the emulator has used; 0 when it does not run."""
        with contextlib.suppress(OSError):
            return 0.0 if self._process is None else usage.cpu_seconds(self._process.pid)
        return 0.0

    def console_tail(self) -> str:
        """Return the last of what its kernel said, and QEMU."""
        said = ""
        for name in ("console.log", "qemu.log"):
            with contextlib.suppress(OSError):
                said += (self._directory / name).read_text(errors="replace")[-3000:]
        return said

    def _command(self) -> list[str]:
        root = self._images.root
        drives = []
        for image in (root / "root.img", *(image for image, _ in self._images.drives())):
            drives += ["-drive", f"file={image},format=raw,if=virtio,cache=unsafe,discard=unmap,snapshot=on"]
        return [
            *[*self._emulator.command, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
            *["-machine", "q35", "-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max,-la57"],
            *["-smp", str(CPUS), "-m", str(MEMORY_MIB)],
            *["-kernel", str(root / "vmlinuz"), "-initrd", str(root / "initrd"), "-append", _APPEND],
            *drives,
            *["-netdev", "user,id=net,net=10.77.0.0/24,ipv6=off", "-device", "virtio-net-pci,netdev=net"],
            *["-fsdev", f"local,id=share,path={self.share},security_model=none"],
            *["-device", "virtio-9p-pci,fsdev=share,mount_tag=share", "-device", "virtio-rng-pci"],
            *["-serial", f"file:{self._directory / 'console.log'}"],
        ]

    def _set_up(self) -> str:
        lines = ["set -e", f"mkdir -p {CHECKOUT}", f"tar -C {CHECKOUT} -xf {SHARE}/checkout.tar"]
        for number, (_, place) in enumerate(self._images.drives()):
            device = f"/dev/vd{chr(ord('b') + number)}"
            lines += [f"mkdir -p {place}", f"mount -t erofs -o ro {device} {place}"]
        lines.append(f"cp -a /lane/seed {CACHE}")  # where servers can share it as hard links
        return "\n".join([*lines, "[ -c /dev/kvm ]", "stat -c '%A %U:%G' /dev/kvm"])


def pack_checkout(path: Path) -> str:
    """Archive the checkout as it is now, without its history and what tools have left in it; return the code's name."""
    left_out = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", "node_modules"}

    def keep(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if left_out & set(Path(entry.name).parts) else entry

    with tarfile.open(path, "w") as archive:
        archive.add(CHECKOUT, arcname=".", filter=keep)
    return _name_of_code()


def _name_of_code() -> str:
    """Return a digest of what tests run: documents do not count, nor does what is compiled of the sources."""
    files = [path for part in ("agent", "src", "tests") for path in (CHECKOUT / part).rglob("*") if path.is_file()]
    made = {"__pycache__", "_native"}
    digest = hashlib.sha256()
    for path in sorted(path for path in files if not made & set(path.parts)):
        digest.update(str(path.relative_to(CHECKOUT)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
