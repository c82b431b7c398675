"""The modules that guests with all capabilities may load, as their `/lib/modules/<release>`: files, and lists of them.

The kernel's package has no such lists; where it is installed, `depmod` makes them. It is not installed, and the host
may have no `depmod`.
"""

from __future__ import annotations

import os
import shutil
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from emberbox.host.module_index import render_index
from emberbox.model.errors import HostError

CHOSEN = (
    "kernel/arch/arm64/crypto/",
    "kernel/arch/x86/crypto/",
    "kernel/crypto/",
    "kernel/drivers/block/",
    "kernel/drivers/md/",
    "kernel/drivers/net/",
    "kernel/fs/",
    "kernel/lib/",
    "kernel/net/",
)
LEFT_OUT = ("kernel/drivers/net/ethernet/", "kernel/drivers/net/hyperv/", "kernel/drivers/net/wwan/")
"""A guest's hardware is known: these drive none that it has."""

FORM = 1
"""Changes when what is made here does."""

_MAKING = threading.Lock()
_SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
_ANY = str.maketrans("-", "_")


@dataclass(frozen=True, slots=True)
class Module:
    """A module.

    Args:
        path: below `/lib/modules/<release>`.
        needs: the modules that it cannot do without.
        aliases: what else it is asked for by; patterns.
        wants: what is to be there before or after it, as `modprobe.d(5)` has a `softdep`.
    """

    path: str
    needs: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name, in which all dashes are underscores."""
        return Path(self.path).stem.translate(_ANY)


def ensure_modules(directory: Path, release: str) -> Path:
    """Return the directory that guests have as `/lib/modules/<release>`; make it when it is not there.

    Its files are those of the unpacked kernel by another name, so it takes no room to speak of.

    Args:
        directory: has the unpacked kernel.
        release: the kernel's.

    Raises:
        HostError: the unpacked kernel is not whole.
        OSError: it cannot be written.
    """
    made = directory / f"modules-{FORM}" / release
    with _MAKING:
        if not made.is_dir():
            _make(directory / "lib/modules" / release, made, directory / "modules-scratch")
    return made


def _make(source: Path, made: Path, scratch: Path) -> None:
    chosen = _choose({module.name: module for module in (_read(source, path) for path in _find(source))})
    shutil.rmtree(scratch, ignore_errors=True)  # of a server that was killed
    try:
        for module in chosen.values():
            (scratch / module.path).parent.mkdir(parents=True, exist_ok=True)
            os.link(source / module.path, scratch / module.path)
        built_in = (source / "modules.builtin").read_text()
        for name, content in render_lists(chosen, built_in).items():
            (scratch / name).write_bytes(content)
        made.parent.mkdir(exist_ok=True)
        scratch.replace(made)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _find(source: Path) -> list[str]:
    return sorted(str(path.relative_to(source)) for path in source.rglob("*.ko"))


def _choose(modules: Mapping[str, Module]) -> dict[str, Module]:
    """Return what is chosen and all that it needs, each after what it needs."""
    chosen: dict[str, Module] = {}

    def visit(module: Module) -> None:
        if module.name in chosen:
            return
        for name in module.needs:
            if name not in modules:
                raise HostError(f"the guest kernel's module {module.name} needs {name}, which is missing")
            visit(modules[name])
        chosen[module.name] = module

    for module in modules.values():
        if module.path.startswith(CHOSEN) and not module.path.startswith(LEFT_OUT):
            visit(module)
    return chosen


def render_lists(modules: Mapping[str, Module], built_in: str) -> dict[str, bytes]:
    """Return the files by which modules are found: texts for the agent and BusyBox, indexes for kmod.

    Args:
        modules: by name, each after what it needs.
        built_in: the file `modules.builtin`: the modules that the kernel has in it.
    """
    depends = {name: _dependencies(name, modules) for name in modules}
    aliases = [(alias, name) for name, module in modules.items() for alias in module.aliases]
    softly = [f"softdep {name} {wanted}" for name, module in modules.items() for wanted in module.wants]
    names = [Path(line).stem.translate(_ANY) for line in built_in.split()]
    return {
        "modules.builtin": built_in.encode(),
        "modules.builtin.bin": render_index((name, "") for name in names),
        "modules.dep": _lines(depends.values()),
        "modules.dep.bin": render_index(depends.items()),
        "modules.alias": _lines(f"alias {alias} {name}" for alias, name in aliases),
        "modules.alias.bin": render_index((normalize(alias), name) for alias, name in aliases),
        "modules.softdep": _lines(softly),
    }


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _dependencies(name: str, modules: Mapping[str, Module]) -> str:
    """Return the line of modules.dep(5): the file, and all that it needs, of which the last is loaded first."""
    needed: dict[str, None] = {}

    def visit(module: Module) -> None:
        for other in module.needs:
            visit(modules[other])
            needed[modules[other].path] = None

    visit(modules[name])
    return " ".join([f"{modules[name].path}:", *reversed(needed)])


def normalize(alias: str) -> str:
    """Return an alias with underscores for dashes, but for those that mean a range of characters."""
    parts = alias.split("[")
    done = [parts[0].translate(_ANY)]
    for part in parts[1:]:
        inside, bracket, after = part.partition("]")
        done.append(f"{inside}{bracket}{after.translate(_ANY)}")
    return "[".join(done)


# --- what a module's file says of itself


def _read(source: Path, path: str) -> Module:
    found: dict[str, list[str]] = {}
    for key, text in read_information((source / path).read_bytes()):
        found.setdefault(key, []).append(text)
    needs = [name.translate(_ANY) for text in found.get("depends", ()) for name in text.split(",") if name]
    return Module(path, tuple(needs), tuple(found.get("alias", ())), tuple(found.get("softdep", ())))


def read_information(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield the pairs `name=text` of a module's section `.modinfo` (ELF64, little endian).

    Raises:
        HostError: it is no such file.
    """
    try:
        for entry in _section(content, b".modinfo").split(b"\0"):
            key, equals, text = entry.decode().partition("=")
            if equals:
                yield key, text
    except (struct.error, ValueError, IndexError) as error:
        raise HostError(f"a module of the guest kernel cannot be read: {error}") from error


def _section(content: bytes, name: bytes) -> bytes:
    (table,) = struct.unpack_from("<Q", content, 40)  # e_shoff
    size, count, names = struct.unpack_from("<HHH", content, 58)  # e_shentsize, e_shnum, e_shstrndx
    sections = [_SECTION.unpack_from(content, table + index * size) for index in range(count)]
    start = sections[names][4]
    for section in sections:
        begin = start + section[0]
        if content[begin : content.index(b"\0", begin)] == name:
            return content[section[4] : section[4] + section[5]]
    return b""
