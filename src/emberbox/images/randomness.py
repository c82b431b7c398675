"""What an image gets so that the microVMs of one snapshot draw different random numbers: OpenSSL asks the kernel.

The kernel's generator is seeded anew before any process of a launch, fork or rollback runs. OpenSSL 3 keeps one of its
own in each process, so each `openssl.cnf` that a library of the image reads is told of a provider that asks the kernel
(agent/openssl_random.c). docs/decisions/0022-random-numbers.md says why, docs/randomness.md who is reached by it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

DIRECTORY = "/usr/lib/emberbox"
LIBRARY = f"{DIRECTORY}/openssl_random.so"
MARK = "# Added by Emberbox: random numbers of OpenSSL 3 come from the kernel (docs/randomness.md)"
PROGRAM_SECTIONS = ("openssl_conf", "nodejs_conf")
"""Where a program finds what to set up: all of them in the first, Node in the second, by default."""

_CONFIGURATION = "openssl.cnf"
_NAMED = re.compile(rb'OPENSSLDIR: "(/[A-Za-z0-9._/+@-]{1,512})"')
_SECTION = re.compile(r"[A-Za-z0-9._-]+")
_SINCE_VERSION_3 = b'MODULESDIR: "'
_PROGRAM_BYTES = range(1 << 17, 1 << 30)
_CONFIGURATION_BYTES_MAX = 1 << 20
_LINKS_MAX = 40
_INCLUDES_MAX = 100
_ON = ("1", "yes", "YES", "true", "TRUE", "on", "ON")

Sections = dict[str, dict[str, str]]
"""What a configuration says: by section, by name."""

Reader = Callable[[str], list[str]]
"""Returns the texts that `.include` of a path takes in."""


@dataclass(frozen=True, slots=True)
class AddedFile:
    """A file that an image gets, with the mode and the owner that it shall have there."""

    path: str
    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Additions:
    """What to add to an image, the variables of its processes among it, and what a reader of the log should know."""

    files: tuple[AddedFile, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def find_additions(
    root: Path, named: str | None, library: bytes, directories: Collection[str] | None = None
) -> Additions:  # fmt: skip
    """Find out what an image needs; one without OpenSSL 3 needs nothing.

    Args:
        root: the image's files. Links in it are followed as the guest would, never out of it.
        named: the image's own `OPENSSL_CONF`, None where it sets none.
        library: the provider.
        directories: what `find_openssl` finds, where that is known; more do no harm.

    Raises:
        OSError: a file that was there cannot be read any more.
    """
    directories = find_openssl(root) if directories is None else directories
    if not directories:
        return Additions()
    paths = {found for place in directories if (found := resolve(root, f"{place}/{_CONFIGURATION}"))}
    chosen = resolve(root, named) if named and named.startswith("/") else None
    present = {path for path in paths | {chosen} if path and (root / path[1:]).is_file()}
    paths = {path for path in paths | present if path in present or not (root / path[1:]).exists()}
    # It comes with Debian's package `openssl`, perhaps later: dpkg would stop and ask if it found one there.
    held = {"/etc/ssl/openssl.cnf"} & paths - present if (root / "var/lib/dpkg").is_dir() else set()
    files = [AddedFile(LIBRARY, library)]
    notes: list[str] = []
    for path in sorted(paths - held):
        files += _extend(root, path, notes)
    environment: tuple[tuple[str, str], ...] = ()
    if held and (present or named):
        notes.append(
            f"NOTE: OpenSSL's random numbers repeat in a program that reads {min(held)}, which is missing: "
            "add `RUN apt-get install -y openssl`"
        )
    elif held:
        own = f"{DIRECTORY}/{_CONFIGURATION}"
        text = f".include = {min(held)}\n{_reference(own)}"
        files += [AddedFile(own, text.encode()), _included(own, {"default": {}})]
        environment = (("OPENSSL_CONF", own),)
    return Additions(tuple(files), environment, tuple(notes))


# --- the files of the image


def find_openssl(root: Path) -> set[str]:
    """Return the directories in which the copies of OpenSSL 3 in an image look for their configuration.

    Each copy names its own, also where it is linked into a program as in Node's official one.
    """
    return {directory for path in _programs(root) for directory in _named_directories(path)}


def _programs(root: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size in _PROGRAM_BYTES:
                yield path


def _named_directories(path: Path) -> set[str]:
    try:
        with path.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                return set()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(_SINCE_VERSION_3) < 0:
                    return set()
                return {os.path.normpath(found.decode()) for found in _NAMED.findall(content)}
    except PermissionError:  # seen by another user than root, it may be a set-user-id program that only runs
        return set()


def resolve(root: Path, path: str) -> str | None:
    """Return the path without links that a path in the image leads to, None where it leads nowhere.

    The last part need not exist. Another user than root may not see it all.
    """
    try:
        return _resolve(root, path)
    except PermissionError:
        return None


def _resolve(root: Path, path: str) -> str | None:
    done, todo, links = PurePosixPath("/"), list(reversed(PurePosixPath(path).parts)), 0
    while todo:
        part = todo.pop()
        if part in ("/", "."):
            continue
        if part == "..":
            done = done.parent
            continue
        here = root / str(done / part)[1:]
        if not here.is_symlink():
            if todo and here.exists() and not here.is_dir():
                return None
            done /= part
            continue
        links += 1
        if links > _LINKS_MAX:
            return None
        target = PurePosixPath(os.readlink(here))  # noqa: PTH115 - not resolved by the host's root
        done = PurePosixPath("/") if target.is_absolute() else done
        todo += reversed(target.parts)
    return str(done)


def _extend(root: Path, path: str, notes: list[str]) -> list[AddedFile]:
    """Return a configuration that refers to ours, and ours."""
    file = root / path[1:]
    text, mode, uid, gid = "", 0o644, 0, 0
    if file.is_file():
        status = file.stat()
        if not os.access(file, os.R_OK) or status.st_size > _CONFIGURATION_BYTES_MAX:
            notes.append(f"NOTE: {path} cannot be read; OpenSSL's random numbers repeat (docs/randomness.md)")
            return []
        text = file.read_text(errors="surrogateescape")
        mode = stat.S_IMODE(status.st_mode)
        if os.geteuid() == 0:  # the owner that another user sees is one of that user's own namespace
            uid, gid = status.st_uid, status.st_gid
    if MARK in text:
        return []  # the image was made of a microVM's files
    try:
        left = iter(range(_INCLUDES_MAX))
        included = _included(path, parse(text, lambda name: list(_read_included(root, name, left))))
    except ValueError as error:
        notes.append(f"NOTE: {path}: {error}; OpenSSL's random numbers repeat (docs/randomness.md)")
        return []
    if text and not text.endswith("\n"):
        text += "\n"
    content = (text + _reference(path)).encode(errors="surrogateescape")
    return [AddedFile(path, content, mode, uid, gid), included]


def _read_included(root: Path, name: str, left: Iterator[int]) -> Iterator[str]:
    """Give the texts that `.include` of a file, or of a directory, takes in, as long as there are some left to read."""
    known = name.startswith("/") and next(left, None) is not None
    found = resolve(root, name) if known else None
    if not found:
        return
    path = root / found[1:]
    is_directory = path.is_dir() and os.access(path, os.R_OK)
    for file in sorted(path.glob("*.c*nf")) if is_directory else [path]:
        if next(left, None) is not None and file.is_file() and not file.is_symlink() and os.access(file, os.R_OK):
            yield file.read_bytes()[:_CONFIGURATION_BYTES_MAX].decode(errors="surrogateescape")


# --- the text of a configuration (config(5ssl))


def parse(text: str, read: Reader) -> Sections:
    """Read which sections a configuration has, and what they say, as far as section names need it."""
    sections: Sections = {"default": {}}
    _parse_into(sections, "default", text, read)
    return sections


def _parse_into(sections: Sections, section: str, text: str, read: Reader) -> str:
    for written in re.sub(r"\\\r?\n", "", text).splitlines():
        line = written.partition("#")[0].strip()
        if line.startswith("[") and "]" in line:
            section = line[1:].partition("]")[0].strip()
            sections.setdefault(section, {})
        elif included := re.fullmatch(r"\.include\s*=?\s*(.+)", line):
            for more in read(included[1].strip()):
                section = _parse_into(sections, section, more, read)
        elif "=" in line:
            name, _, value = (part.strip() for part in line.partition("="))
            elsewhere, _, name = name.rpartition("::")
            sections.setdefault(elsewhere or section, {})[name] = value.strip("\"'")
    return section


def render(sections: Sections, library: str = LIBRARY) -> str:
    """Return what to add to a configuration, to whose own settings everything else is left.

    A name that OpenSSL finds a second time counts, and a section that it finds again is gone on with.

    Args:
        sections: what the configuration says.
        library: where the provider is.

    Raises:
        ValueError: the configuration names a section by a variable.
    """
    added: Sections = {"default": {}}
    for program in PROGRAM_SECTIONS:
        start = _section(sections["default"], program, f"emberbox_{program}")
        settings = sections.get(start, {})
        providers = _section(settings, "providers", f"{start}_providers")
        generator = _section(settings, "random", f"{start}_random")
        added["default"][program] = start
        added[start] = {"providers": providers, "random": generator}
        added[providers] = _activate_default(sections, providers, added) | {"emberbox": "emberbox_provider"}
        wanted = {"random": "CTR-DRBG", "properties": "?provider=emberbox"}
        said = sections.get(generator, {})
        added[generator] = {name: value for name, value in wanted.items() if name not in said}
    added["emberbox_provider"] = {"module": library, "soft_load": "yes", "activate": "yes"}
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items())
        for name, settings in added.items()
        if settings
    )


def _section(settings: dict[str, str], name: str, otherwise: str) -> str:
    section = settings.get(name) or otherwise
    if not _SECTION.fullmatch(section):
        raise ValueError(f"{name} is {section!r}, not the plain name of a section")
    return section


def _activate_default(sections: Sections, providers: str, added: Sections) -> dict[str, str]:
    """OpenSSL takes its default provider by itself only where no other is activated. Ours is: so it has to be said."""
    listed = sections.get(providers, {})
    if any(sections.get(name, {}).get("activate", "") in _ON for name in listed.values()):
        return {}
    default = _section(listed, "default", "emberbox_default")
    added[default] = {"activate": "yes"}
    return {"default": default}


def _reference(path: str) -> str:
    """Return the lines that lead from a configuration to ours, for OpenSSL 3 only.

    OpenSSL 1.1.1 and LibreSSL read the same file, know no providers and may end a program that names some (Node 16
    does). They do not know the pragma either: for them `$emberbox` is a variable and the file's name one that nothing
    has, which is no error, while for OpenSSL 3 it is a part of the name.
    """
    return (
        f"\n{MARK}\n[default]\nemberbox = 0\n.pragma = dollarid:on\n"
        f".include = {_included_path(path)}\n.pragma = dollarid:off\n"
    )


def _included_path(path: str) -> str:
    return f"{DIRECTORY}/openssl$emberbox-{hashlib.sha256(path.encode(errors='surrogateescape')).hexdigest()[:12]}.cnf"


def _included(path: str, sections: Sections) -> AddedFile:
    return AddedFile(_included_path(path), f"# What Emberbox adds to {path}\n{render(sections)}".encode())
