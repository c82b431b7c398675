"""The modules that guests may load: which, what they need, and the lists by which they are found."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from emberbox.host.kernel_modules import (
    FORM,
    Module,
    ensure_modules,
    normalize,
    read_information,
    render_lists,
)
from emberbox.model.errors import HostError

RELEASE = "6.1.0-1-cloud-amd64"


def make_elf(information: bytes) -> bytes:
    """Return an ELF64 file with a section `.modinfo`, and one that says the same of something else."""
    names = b"\0.modinfo\0.rodata\0.shstrtab\0"
    contents = [b"\0alias=not-this\0", information, names]
    header_bytes, section = 64, struct.Struct("<IIQQQQIIQQ")
    table = header_bytes + sum(map(len, contents))
    header = struct.pack("<16s24xQ10xHHH", b"\x7fELF\2\1\1", table, section.size, 4, 3)
    assert len(header) == header_bytes
    sections, place = section.pack(*[0] * 10), header_bytes
    for name, content in zip((b".rodata", b".modinfo", b".shstrtab"), contents, strict=True):
        sections += section.pack(names.index(name), 1, 0, 0, place, len(content), 0, 0, 0, 0)
        place += len(content)
    return header + b"".join(contents) + sections


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "lib/modules" / RELEASE
    source.mkdir(parents=True)
    (source / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\nkernel/net/ipv4/tcp-cubic.ko\n")
    return source


def add(source: Path, path: str, *information: str) -> None:
    file = source / f"kernel/{path}.ko"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(make_elf(b"".join(line.encode() + b"\0" for line in ("license=GPL", *information))))


def test_a_file_says_what_it_needs_and_what_it_is_asked_for_by() -> None:
    found = list(read_information(make_elf(b"alias=fs-nfs\0depends=\0\0\0alias=a=b\0nonsense\0")))
    assert found == [("alias", "fs-nfs"), ("depends", ""), ("alias", "a=b")]


@pytest.mark.parametrize("content", [b"", b"\x7fELF", make_elf(b"alias=x\0")[:-300], bytes(100)])
def test_what_is_no_module_is_refused(content: bytes) -> None:
    with pytest.raises(HostError, match="cannot be read"):
        list(read_information(content))


def test_what_is_chosen_comes_with_what_it_needs_and_nothing_else(tmp_path: Path, source: Path) -> None:
    """Drivers of hardware that no guest has are left out, unless something needs them."""
    add(source, "net/bridge/bridge", "depends=stp,llc")
    add(source, "net/802/stp", "depends=llc")
    add(source, "net/llc/llc", "depends=")
    add(source, "fs/x/x-fs", "depends=odd_bus")
    add(source, "drivers/odd/odd-bus")
    add(source, "drivers/net/ethernet/card", "depends=llc")
    add(source, "drivers/scsi/disk")
    made = ensure_modules(tmp_path, RELEASE)
    files = {path.stem for path in made.rglob("*.ko")}
    assert files == {"bridge", "stp", "llc", "x-fs", "odd-bus"}
    assert (made / "kernel/net/llc/llc.ko").samefile(source / "kernel/net/llc/llc.ko")
    assert "kernel/net/bridge/bridge.ko: kernel/net/802/stp.ko kernel/net/llc/llc.ko" in (
        (made / "modules.dep").read_text().splitlines()
    )


def test_they_are_made_once(tmp_path: Path, source: Path) -> None:
    add(source, "fs/one")
    made = ensure_modules(tmp_path, RELEASE)
    first = (made / "modules.dep").stat().st_ino
    assert ensure_modules(tmp_path, RELEASE) == made == tmp_path / f"modules-{FORM}" / RELEASE
    assert (made / "modules.dep").stat().st_ino == first
    assert [path.name for path in tmp_path.iterdir() if "scratch" in path.name] == []


def test_builds_at_the_same_time_make_them_once(tmp_path: Path, source: Path) -> None:
    """What a server has left that was killed is in nobody's way."""
    for number in range(50):
        add(source, f"fs/module{number}")
    (tmp_path / "modules-scratch/kernel/fs").mkdir(parents=True)
    (tmp_path / "modules-scratch/kernel/fs/module0.ko").write_text("half")
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda _: ensure_modules(tmp_path, RELEASE), range(4)))
    assert len(made) == 1
    assert (made.pop() / "kernel/fs/module0.ko").samefile(source / "kernel/fs/module0.ko")
    assert not (tmp_path / "modules-scratch").exists()


def test_a_kernel_that_is_not_whole_is_refused_and_nothing_is_left(tmp_path: Path, source: Path) -> None:
    add(source, "fs/one", "depends=gone")
    with pytest.raises(HostError, match="module one needs gone, which is missing"):
        ensure_modules(tmp_path, RELEASE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lib"]


def test_the_lists_say_it_as_depmod_does() -> None:
    modules = {
        module.name: module
        for module in (
            Module("kernel/a-b.ko", aliases=("fs-a", "char-major-10-[0-9]*")),
            Module("kernel/c.ko", ("a_b",), wants=("pre: a_b",)),
        )
    }
    lists = render_lists(modules, "kernel/fs/ext4/ext4.ko\n")
    assert lists["modules.dep"] == b"kernel/a-b.ko:\nkernel/c.ko: kernel/a-b.ko\n"
    assert lists["modules.alias"] == b"alias fs-a a_b\nalias char-major-10-[0-9]* a_b\n"
    assert lists["modules.softdep"] == b"softdep c pre: a_b\n"
    assert lists["modules.builtin"] == b"kernel/fs/ext4/ext4.ko\n"
    assert {name for name in lists if name.endswith(".bin")} == {
        "modules.dep.bin", "modules.alias.bin", "modules.builtin.bin",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("alias", "normal"),
    [("fs-nfs4", "fs_nfs4"), ("char-major-10-[0-9]-x", "char_major_10_[0-9]_x"), ("a-[b", "a_[b"), ("", "")],
)
def test_dashes_are_underscores_but_for_ranges(alias: str, normal: str) -> None:
    assert normalize(alias) == normal
