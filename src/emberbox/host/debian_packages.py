"""Programs of other Debian releases or architectures: packages unpacked under the home, never installed.

apt does the work, with a configuration, sources, lists and a state of its own, so nothing changes in the machine's. Its
signature check is the whole trust: the archive's keyring signs the release, which holds the sums of the index, which
holds those of the packages.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emberbox import process
from emberbox.host.scratch import tool_environment
from emberbox.model.errors import HostError

DEFAULT_MIRROR = "http://deb.debian.org/debian"
"""For a machine whose own apt has no mirror of Debian's; what comes from it is signed all the same."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_DOWNLOAD_TIMEOUT_S = 1800
_EXTRACT_TIMEOUT_S = 300
_INDEX_FORMAT = "$(ORIGIN) $(COMPONENT) $(REPO_URI)"

_APT_CONFIGURATION = """\
Dir::Etc::sourcelist "{work}/sources.list";
Dir::Etc::sourceparts "{work}/none";
Dir::Etc::preferences "{work}/none/preferences";
Dir::Etc::preferencesparts "{work}/none";
Dir::Etc::trusted "{work}/none/trusted.gpg";
Dir::Etc::trustedparts "{work}/none";
Dir::State "{work}/state";
Dir::State::status "{work}/status";
Dir::Cache "{work}/cache";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::AllowInsecureRepositories "false";
#clear APT::Update;
{architecture}"""
"""What apt reads last: so the machine's settings hold (its proxy, say), but no source, key, pin or hook of its own."""

_APT_ARCHITECTURE = """\
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
"""


@dataclass(frozen=True, slots=True)
class Archive:
    """Where packages come from: a mirror, and the keys of who may sign there."""

    mirror: str
    keyring: Path = KEYRING

    def source_line(self, suite: str) -> str:
        """Return the line of sources.list(5) for the main component of a suite."""
        return f"deb [signed-by={self.keyring}] {self.mirror} {suite} main"


async def find_archive() -> Archive:
    """Return Debian's archive by the mirror that this machine's own apt uses.

    Raises:
        HostError: there is no apt, or Debian's keys are missing.
    """
    if not KEYRING.exists():
        raise HostError(f"{KEYRING} is missing; install Debian's package debian-archive-keyring")
    listed = await process.run(["apt-get", "indextargets", "--format", _INDEX_FORMAT, "Created-By: Packages"])
    for line in listed.stdout.splitlines():
        origin, _, rest = line.partition(" ")
        component, _, mirror = rest.partition(" ")
        if origin == "Debian" and component == "main":
            return Archive(mirror.rstrip("/"))
    return Archive(DEFAULT_MIRROR)


async def ensure_packages(directory: Path, suite: str, packages: Sequence[str], archive: Archive | None = None) -> Path:
    """Return the directory that holds the files of packages; fetch them when it is not there.

    Nothing that they depend on comes with them. Once fetched they stay as they are: to have newer ones, remove the
    directory.

    Args:
        directory: of these packages alone; it exists only when they are whole.
        suite: `trixie`, or `bookworm-backports`.
        packages: their names.
        archive: where they come from; by default Debian's.

    Raises:
        HostError: they cannot be downloaded, or are not signed by Debian.
    """
    if directory.exists():
        return directory
    work = directory.with_name(f".{directory.name}")
    shutil.rmtree(work, ignore_errors=True)  # of a server that was killed
    work.mkdir(parents=True)
    try:
        options = await open_suite(work, suite, archive or await find_archive())
        await download(work, packages, options)
        for package in sorted(work.glob("*.deb")):
            await extract(package, work / "unpacked")
        await process.run(["sync", "--file-system", work], timeout=600)
        (work / "unpacked").replace(directory)
    except process.CommandError as error:
        names = " and ".join(packages)
        raise HostError(
            f"Debian's {names} of {suite} cannot be fetched: {error}; "
            f"see to it that the machine reaches its mirror, or unpack the packages into {directory} with dpkg-deb -x"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return directory


async def open_suite(work: Path, suite: str, archive: Archive, architecture: str = "") -> tuple[str, ...]:
    """Read the index of a suite, and return the options with which apt's programs know it and nothing else.

    Args:
        work: an empty directory, where apt keeps it.
        suite: the suite.
        archive: where it comes from.
        architecture: whose packages, by Debian's name; empty: this machine's.

    Raises:
        CommandError: it cannot be had, or is not signed as it should be.
    """
    configuration = _configure(work, suite, archive, architecture)
    options = ("--config-file", str(configuration))
    command = ["apt-get", *options, "--quiet", "update", "--error-on=any"]
    await process.run(command, environment=tool_environment(work), timeout=_DOWNLOAD_TIMEOUT_S, enclosed=True)
    return options


async def download(directory: Path, packages: Sequence[str], options: Sequence[str] = ()) -> None:
    """Download packages into a directory by apt.

    Args:
        directory: holds apt's temporary files too.
        packages: their names.
        options: of apt-get; without any, they come from the machine's own sources.

    Raises:
        CommandError: they are not known, cannot be had, or are not what the index says.
    """
    command = ["apt-get", *options, "download", *packages]
    environment = tool_environment(directory)
    await process.run(command, directory=directory, environment=environment, timeout=_DOWNLOAD_TIMEOUT_S, enclosed=True)


async def extract(package: Path, destination: Path) -> None:
    """Unpack the files of a package; none of its scripts is run.

    Raises:
        CommandError: it is damaged, or the disk is full.
    """
    await process.run(["dpkg-deb", "--extract", package, destination], timeout=_EXTRACT_TIMEOUT_S)


def _configure(work: Path, suite: str, archive: Archive, architecture: str) -> Path:
    """Write a configuration of apt, and make what it names; return its file."""
    for name in ("none", "state/lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(f"{archive.source_line(suite)}\n")
    configuration = work / "apt.conf"
    other = _APT_ARCHITECTURE.format(architecture=architecture) if architecture else ""
    configuration.write_text(_APT_CONFIGURATION.format(work=work, architecture=other))
    return configuration
