"""Artifacts: hostile zips, and every way that S3 can say no."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import stat
import struct
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from emberbox.images.artifact import UnpackLimits, fetch, unpack
from emberbox.model.errors import BuildError

LIMITS = UnpackLimits(files=50, file_bytes=1 << 20, total_bytes=2 << 20, ratio=100)
FILE, LINK, DIRECTORY = stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR


def entry(name: str, mode: int = FILE | 0o644, system: int = 3) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name
    info.external_attr = mode << 16
    info.create_system = system
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def make_zip(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], dockerfile: bool = True) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        if dockerfile:
            made.writestr(entry("Dockerfile"), b"FROM scratch\n")
        for info, content in entries:
            with contextlib.suppress(UserWarning):
                made.writestr(entry(info) if isinstance(info, str) else info, content)
    return path


def refuse(archive: Path, tmp_path: Path, reason: str = "ARCHIVE_INVALID", limits: UnpackLimits = LIMITS) -> str:
    """Check that an archive is refused with `reason` and leaves nothing; return the detail."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BuildError) as caught:
        unpack(archive, tmp_path / "out", limits)
    assert caught.value.reason == reason
    assert sorted(tmp_path.rglob("*")) == before
    assert caught.value.detail
    return caught.value.detail


def test_files_directories_and_their_permissions_come_out(tmp_path: Path) -> None:
    archive = make_zip(
        tmp_path / "a.zip",
        (entry("run.sh", FILE | 0o755), b"#!/bin/sh\n"),
        (entry("src/", DIRECTORY | 0o750), b""),
        ("src/deep/er/f.txt", b"x" * 100_000),
        (entry("locked/", DIRECTORY | 0o555), b""),
        (entry("locked/f", FILE | 0o444), b"f"),
        (entry("./dotted//g"), b"g"),
        ("ünïcödé", b"u"),
    )
    unpack(archive, tmp_path / "out", LIMITS)
    out = tmp_path / "out"
    assert (out / "Dockerfile").read_bytes() == b"FROM scratch\n"
    assert (out / "src/deep/er/f.txt").read_bytes() == b"x" * 100_000
    assert (out / "dotted/g").read_bytes() == b"g"
    assert (out / "ünïcödé").read_bytes() == b"u"
    modes = {name: stat.S_IMODE((out / name).stat().st_mode) for name in ("run.sh", "src", "locked/f", "Dockerfile")}
    assert modes == {"run.sh": 0o755, "src": 0o750, "locked/f": 0o644, "Dockerfile": 0o644}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "out"]


def test_a_zip_from_windows_has_usual_permissions(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", (entry("f", LINK | 0o7777, system=0), b"/etc/passwd"))
    unpack(archive, tmp_path / "out", LIMITS)
    assert (tmp_path / "out/f").read_bytes() == b"/etc/passwd"
    assert stat.S_IMODE((tmp_path / "out/f").lstat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("mode", "system"),
    [(0, 0), (0x20 >> 16, 0), (0, 3), (0o600, 3)],  # the last is what Python's `writestr` makes of a name
    ids=["Windows", "Windows with attributes", "Unix without a mode", "writestr"],
)
def test_programs_of_a_maker_without_modes_can_be_executed(tmp_path: Path, mode: int, system: int) -> None:
    archive = make_zip(
        tmp_path / "a.zip",
        (entry("start.sh", mode, system), b"#!/bin/sh\nexec true\n"),
        (entry("server", mode, system), b"\x7fELF\x02\x01"),
        (entry("text", mode, system), b"text # !/bin/sh"),
        (entry("empty", mode, system), b""),
    )
    unpack(archive, tmp_path / "out", LIMITS)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()}
    assert (modes["start.sh"], modes["server"], modes["text"], modes["empty"]) == (0o755, 0o755, 0o644, 0o644)


def test_a_mode_that_was_written_counts(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", (entry("start.sh", FILE | 0o644), b"#!/bin/sh\n"))
    unpack(archive, tmp_path / "out", LIMITS)
    assert stat.S_IMODE((tmp_path / "out/start.sh").stat().st_mode) == 0o644


@pytest.mark.parametrize("system", [0, 3])
def test_back_slashes_are_taken_for_slashes(tmp_path: Path, system: int) -> None:
    archive = make_zip(
        tmp_path / "a.zip",
        (entry("bin\\", 0, system), b""),
        (entry("bin\\start.sh", 0, system), b"#!/bin/sh\n"),
        (entry("bin\\sub\\x.txt", 0, system), b"x"),
        (entry("mixed\\a/b", 0, system), b"b"),
    )
    unpack(archive, tmp_path / "out", LIMITS)
    assert (tmp_path / "out/bin/start.sh").stat().st_mode & 0o111
    assert (tmp_path / "out/bin/sub/x.txt").read_bytes() == b"x"
    assert (tmp_path / "out/mixed/a/b").read_bytes() == b"b"


# --- zips as different tools and systems make them

DOCKERFILE = b'FROM emberbox/debian:12\nCOPY . .\nENTRYPOINT ["./start.sh"]\n'
SCRIPT = b"#!/bin/sh\nexec true\n"
Made = tuple[str, bytes, int, int]
"""Name, content, external attributes, and the system that made the entry."""
PLAIN, PROGRAM, FOLDER, ON_WINDOWS = (FILE | 0o644) << 16, (FILE | 0o755) << 16, (DIRECTORY | 0o755) << 16 | 0x10, 0x20
A_LINK = (LINK | 0o777) << 16
TOOLS: dict[str, tuple[Made, ...]] = {
    "plain": (("Dockerfile", DOCKERFILE, PLAIN, 3), ("start.sh", SCRIPT, PROGRAM, 3)),
    "Windows, no modes": (("Dockerfile", DOCKERFILE, ON_WINDOWS, 0), ("start.sh", SCRIPT, ON_WINDOWS, 0)),
    "Windows, back slashes": (
        ("Dockerfile", DOCKERFILE, ON_WINDOWS, 0), ("start.sh", SCRIPT, ON_WINDOWS, 0), ("bin\\x", b"x", ON_WINDOWS, 0),
    ),
    "dots before names": (
        ("./", b"", FOLDER, 3), ("./Dockerfile", DOCKERFILE, PLAIN, 3), ("./start.sh", SCRIPT, PROGRAM, 3),
    ),
    "directories without modes": (
        ("lib/", b"", 0, 3), ("lib/empty/", b"", FOLDER, 3), ("lib/a.txt", b"a", 0, 3),
        ("Dockerfile", DOCKERFILE, 0, 3), ("start.sh", SCRIPT, PROGRAM, 3),
    ),
    "links": (
        ("Dockerfile", DOCKERFILE, PLAIN, 3), ("real.sh", SCRIPT, PROGRAM, 3), ("start.sh", b"real.sh", A_LINK, 3),
        ("node_modules/.bin/x", b"../../real.sh", A_LINK, 3), ("dirlink", b"lib", A_LINK, 3), ("lib/f", b"f", PLAIN, 3),
        ("dangling", b"nowhere", A_LINK, 3),
    ),
    "an absolute link": (
        ("Dockerfile", DOCKERFILE, PLAIN, 3), ("start.sh", SCRIPT, PROGRAM, 3),
        ("venv/bin/python", b"/usr/bin/python3", A_LINK, 3),
    ),
    "macOS": (
        ("Dockerfile", DOCKERFILE, PLAIN, 3), ("__MACOSX/", b"", FOLDER, 3), (".DS_Store", b"\0\0", PLAIN, 3),
        ("__MACOSX/._Dockerfile", b"\0\5\x16\7", PLAIN, 3), ("start.sh", SCRIPT, PROGRAM, 3),
    ),
    "names in UTF-8": (
        ("Dockerfile", DOCKERFILE, PLAIN, 3), ("start.sh", SCRIPT, PROGRAM, 3), ("données/é✓.txt", b"x", PLAIN, 3),
        ("a b/c'd.txt", b"x", PLAIN, 3),
    ),
    "with a .dockerignore": (
        ("Dockerfile", DOCKERFILE, PLAIN, 3), (".dockerignore", b"*\n!start.sh\n", PLAIN, 3),
        ("start.sh", SCRIPT, PROGRAM, 3), ("secret.env", b"s", PLAIN, 3),
    ),
    "lines of Windows": (
        ("Dockerfile", DOCKERFILE.replace(b"\n", b"\r\n"), PLAIN, 3),
        ("start.sh", SCRIPT.replace(b"\n", b"\r\n"), PROGRAM, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("streamed", [False, True])
def test_zips_of_every_tool_are_unpacked_and_their_entry_point_can_be_executed(
    tmp_path: Path, tool: str, streamed: bool
) -> None:
    write_made(tmp_path / "a.zip", TOOLS[tool], streamed=streamed)
    unpack(tmp_path / "a.zip", tmp_path / "out", LIMITS)
    assert (tmp_path / "out/Dockerfile").read_bytes().startswith(b"FROM")
    assert (tmp_path / "out/start.sh").resolve().stat().st_mode & 0o111 == 0o111
    names = {name.replace("\\", "/").strip("/").removeprefix("./") for name, *_ in TOOLS[tool]} - {"."}
    for name in names:
        assert (tmp_path / "out" / name).is_symlink() or (tmp_path / "out" / name).exists()


@pytest.mark.parametrize(
    ("made", "compression", "reason"),
    [
        ((("proj-main/", b"", FOLDER, 3), ("proj-main/Dockerfile", DOCKERFILE, PLAIN, 3)), 8, "DOCKERFILE_NOT_FOUND"),
        ((("dockerfile", DOCKERFILE, PLAIN, 3),), 8, "DOCKERFILE_NOT_FOUND"),
        ((("Dockerfile", DOCKERFILE, PLAIN, 3),), zipfile.ZIP_LZMA, "INVALID"),
    ],
)
def test_zips_that_no_service_takes_are_refused_with_advice(
    tmp_path: Path, made: tuple[Made, ...], compression: int, reason: str
) -> None:
    write_made(tmp_path / "a.zip", made, compression=compression)
    refuse(tmp_path / "a.zip", tmp_path, f"ARCHIVE_{reason}")


class Unseekable(io.RawIOBase):
    """Where a tool that streams writes: sizes follow the entries."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.content += data
        return len(data)


def write_made(path: Path, made: tuple[Made, ...], *, streamed: bool = False, compression: int = 8) -> None:
    sink = Unseekable() if streamed else io.BytesIO()
    with zipfile.ZipFile(cast("IO[bytes]", sink), "w", compression) as archive:
        for name, content, attributes, system in made:
            info = entry(name)
            info.create_system, info.external_attr, info.compress_type = system, attributes, compression
            with archive.open(info, "w", force_zip64=streamed) as file:
                file.write(content)
    path.write_bytes(sink.content if isinstance(sink, Unseekable) else sink.getvalue())


def test_setuid_setgid_and_sticky_bits_are_dropped(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", (entry("f", FILE | 0o7755), b""), (entry("d/", DIRECTORY | 0o7777), b""))
    unpack(archive, tmp_path / "out", LIMITS)
    assert stat.S_IMODE((tmp_path / "out/f").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "out/d").stat().st_mode) == 0o777


def test_an_empty_destination_is_filled_and_a_full_one_is_left_alone(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip")
    (tmp_path / "out").mkdir()
    unpack(archive, tmp_path / "out", LIMITS)
    (tmp_path / "out/mine").touch()
    with pytest.raises(OSError, match="not empty"):
        unpack(archive, tmp_path / "out", LIMITS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "out"]
    assert (tmp_path / "out/mine").exists()


@pytest.mark.parametrize(
    "name",
    [
        "/etc/cron.d/x",
        "../x",
        "a/../../x",
        "a/..",
        "..",
        "C:/x",
        "c:x",
        "..\\x",
        "a\\..\\..\\x",
        "\\\\server\\share",
        "\\x",
        "n" * 256,
        "d/" * 1200 + "f",
    ],
)
def test_a_name_that_is_no_plain_relative_path_is_refused(tmp_path: Path, name: str) -> None:
    refuse(make_zip(tmp_path / "a.zip", (name, b"x")), tmp_path)


def test_a_name_with_a_nul_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", ("good.txt#../evil", b"x"))
    archive.write_bytes(archive.read_bytes().replace(b"good.txt#", b"good.txt\0"))
    refuse(archive, tmp_path)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("l", ".."),
        ("l", "../../x"),
        ("a/b/l", "../../../x"),
        ("l", ""),
        ("l", "a\0b"),
        ("l", "x" * 5000),
    ],
)
def test_a_link_that_leads_out_is_refused(tmp_path: Path, link: str, target: str) -> None:
    refuse(make_zip(tmp_path / "a.zip", (entry(link, LINK | 0o777), target.encode())), tmp_path)


def test_links_that_lead_out_only_together_are_refused(tmp_path: Path) -> None:
    archive = make_zip(
        tmp_path / "a.zip",
        ("a/b/c/f", b""),
        (entry("a/b/c/up", LINK | 0o777), b"../../.."),  # the root: inside
        (entry("out", LINK | 0o777), b"a/b/c/up/../x"),  # a/b/c/x by its text, outside by the kernel
    )
    assert "'out'" in refuse(archive, tmp_path)


def test_absolute_links_are_paths_in_the_image_and_are_followed_by_nobody_here(tmp_path: Path) -> None:
    """As a virtual environment has them; also where others lead through them."""
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "f").write_text("the host's")
    archive = make_zip(
        tmp_path / "a.zip",
        (entry("venv/bin/python", LINK | 0o777), b"/usr/bin/python3"),
        (entry("venv/bin/python3", LINK | 0o777), b"python"),
        (entry("here", LINK | 0o777), bytes(secret)),
        (entry("through", LINK | 0o777), b"here/deeper/x"),
    )
    unpack(archive, tmp_path / "out", LIMITS)
    out = tmp_path / "out"
    assert (out / "venv/bin/python").readlink() == Path("/usr/bin/python3")
    assert (out / "here").readlink() == secret
    assert (out / "through").is_symlink()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o700
    assert [path.name for path in secret.iterdir()] == ["f"]


@pytest.mark.parametrize(
    "step",
    [
        b"RUN --mount=type=bind,source=here,target=/x cat /x/f",
        b"RUN --Mou\\\nnt=type=bind,source=here,target=/x cat /x/f",
        b"RUN --mou\\\n  # a comment\n\nnt=source=here,target=/x cat /x/f",
        b"RUN --mo\\unt=source=here,target=/x cat /x/f",
        b"# escape=`\nRUN --m`\nount=source=here,target=/x cat /x/f",
    ],
)
def test_absolute_links_are_refused_where_a_build_step_may_mount_what_they_lead_to(tmp_path: Path, step: bytes) -> None:
    archive = make_zip(
        tmp_path / "a.zip",
        ("Dockerfile", b"FROM emberbox/debian:12\n" + step + b"\n"),
        (entry("here", LINK | 0o777), b"/etc"),
        dockerfile=False,
    )
    assert "do without --mount" in refuse(archive, tmp_path)


def test_a_dockerfile_has_a_size_of_its_own(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", ("Dockerfile", b"#" * (1 << 20) + b"#"), dockerfile=False)
    limits = UnpackLimits(total_bytes=8 << 20, file_bytes=8 << 20)
    assert "'Dockerfile' is larger than 1048576 bytes" in refuse(archive, tmp_path, limits=limits)


def test_nothing_is_written_through_an_absolute_link(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    links = (entry("d", LINK | 0o777), bytes(tmp_path / "host"))
    assert "inside 'd'" in refuse(make_zip(tmp_path / "a.zip", links, ("d/f", b"evil")), tmp_path)
    assert "twice" in refuse(make_zip(tmp_path / "b.zip", links, (entry("d/", DIRECTORY | 0o777), b"")), tmp_path)


@pytest.mark.parametrize("name", [".dockerignore", ".containerignore", "Containerfile"])
@pytest.mark.parametrize("target", [b"/etc/shadow", b"Dockerfile"])
def test_what_buildah_reads_as_root_is_no_link(tmp_path: Path, name: str, target: bytes) -> None:
    assert "is a link" in refuse(make_zip(tmp_path / "a.zip", (entry(name, LINK | 0o777), target)), tmp_path)


def test_links_that_stay_inside_come_out(tmp_path: Path) -> None:
    archive = make_zip(
        tmp_path / "a.zip",
        (entry("first", LINK | 0o777), b"a/../a/f"),
        ("a/f", b"content"),
        (entry("a/up", LINK | 0o777), b".."),
        (entry("chain", LINK | 0o777), b"a/up/first"),
        (entry("dangling", LINK | 0o777), b"a/missing"),
        (entry("loop", LINK | 0o777), b"loop"),
    )
    unpack(archive, tmp_path / "out", LIMITS)
    assert (tmp_path / "out/chain").read_bytes() == b"content"
    assert (tmp_path / "out/dangling").readlink() == Path("a/missing")


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", (entry("d", LINK | 0o777), b"e"), ("e/f", b""), ("d/f", b"evil"))
    assert "inside 'd'" in refuse(archive, tmp_path)


def test_a_file_cannot_be_a_directory_too(tmp_path: Path) -> None:
    refuse(make_zip(tmp_path / "a.zip", ("d/f", b""), ("d", b"")), tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("again", ["f", "./f", "f/"])
def test_a_name_that_comes_twice_is_refused(tmp_path: Path, again: str) -> None:
    mode = DIRECTORY if again.endswith("/") else FILE
    assert "twice" in refuse(make_zip(tmp_path / "a.zip", ("f", b"1"), (entry(again, mode | 0o755), b"")), tmp_path)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, 0o130000])
def test_devices_pipes_and_sockets_are_refused(tmp_path: Path, kind: int) -> None:
    refuse(make_zip(tmp_path / "a.zip", (entry("x", kind | 0o666), b"")), tmp_path)


@pytest.mark.parametrize(("name", "kind"), [("d", DIRECTORY), ("l/", LINK)])
def test_a_name_and_a_mode_that_disagree_are_refused(tmp_path: Path, name: str, kind: int) -> None:
    refuse(make_zip(tmp_path / "a.zip", (entry(name, kind | 0o755), b"")), tmp_path)


def test_too_many_entries_are_refused(tmp_path: Path) -> None:
    refuse(make_zip(tmp_path / "a.zip", *((f"f{i}", b"") for i in range(50))), tmp_path)
    unpack(make_zip(tmp_path / "b.zip", *((f"f{i}", b"") for i in range(49))), tmp_path / "out", LIMITS)


def test_a_list_of_contents_that_would_fill_the_memory_is_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_zip(tmp_path / "a.zip", *((f"{i:05}" + "n" * 200, b"") for i in range(5000)))
    made: list[Any] = []
    monkeypatch.setattr(zipfile.ZipInfo, "_decodeExtra", lambda *_: made.append(1))
    assert "too many entries" in refuse(archive, tmp_path)
    assert made == []


def test_a_file_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    refuse(make_zip(tmp_path / "a.zip", ("f", os.urandom((1 << 20) + 1))), tmp_path)


def test_files_larger_than_the_limit_together_are_refused(tmp_path: Path) -> None:
    contents = [(f"f{i}", os.urandom(700_000)) for i in range(3)]
    refuse(make_zip(tmp_path / "a.zip", *contents), tmp_path)


def test_a_size_that_lies_is_not_believed(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", ("f", b"z" * (3 << 20)))
    size = struct.pack("<I", 3 << 20)
    archive.write_bytes(archive.read_bytes().replace(size, struct.pack("<I", 10)))
    refuse(archive, tmp_path)


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    roomy = UnpackLimits(files=50, file_bytes=1 << 30, total_bytes=1 << 30, ratio=100)
    archive = make_zip(tmp_path / "a.zip", ("zeros", bytes(17 << 20)))
    assert "larger than 16777216 bytes" in refuse(archive, tmp_path, limits=roomy)
    fine = make_zip(tmp_path / "b.zip", ("zeros", bytes(15 << 20)))
    unpack(fine, tmp_path / "out", roomy)


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", ("secret", b"x"))
    raw = bytearray(archive.read_bytes())
    raw[raw.rindex(b"PK\1\2") + 8] |= 1
    archive.write_bytes(raw)
    assert "encrypted" in refuse(archive, tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(tmp_path: Path, method: int) -> None:
    info = entry("f")
    info.compress_type = method
    assert "deflate" in refuse(make_zip(tmp_path / "a.zip", (info, b"x" * 1000)), tmp_path)


def test_damage_anywhere_is_refused_or_harmless(tmp_path: Path) -> None:
    good = make_zip(tmp_path / "good.zip", ("f", b"hello " * 500), ("d/g", b"g")).read_bytes()
    archive = tmp_path / "a.zip"
    refused, count = set(), 0
    for i in range(0, len(good), 3):
        archive.write_bytes(good[:i] + bytes([good[i] ^ 0xFF]) + good[i + 1 :])
        try:
            unpack(archive, tmp_path / "out", LIMITS)
        except BuildError as error:
            refused.add(error.reason)
            count += 1
        else:
            for file in (tmp_path / "out").rglob("*"):
                assert file.resolve().is_relative_to(tmp_path / "out")
            shutil.rmtree(tmp_path / "out")
    assert count > 20
    assert refused == {"ARCHIVE_INVALID", "ARCHIVE_DOCKERFILE_NOT_FOUND"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "good.zip"]


@pytest.mark.parametrize("content", [b"", b"PK", b"\x1f\x8b\x08 a tarball", b"x" * 100_000])
def test_something_that_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    refuse(tmp_path / "a.zip", tmp_path)


@pytest.mark.parametrize("instead", ["", "app/Dockerfile", "dockerfile", "Dockerfile/", "link"])
def test_a_zip_without_a_dockerfile_at_its_root_is_refused(tmp_path: Path, instead: str) -> None:
    entries: list[tuple[str | zipfile.ZipInfo, bytes]] = [("f", b"")]
    if instead == "Dockerfile/":
        entries.append((entry(instead, DIRECTORY | 0o755), b""))
    elif instead == "link":
        entries.append((entry("Dockerfile", LINK | 0o777), b"f"))
    elif instead:
        entries.append((instead, b""))
    archive = make_zip(tmp_path / "a.zip", *entries, dockerfile=False)
    refuse(archive, tmp_path, "ARCHIVE_DOCKERFILE_NOT_FOUND")


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "a.zip", ("d/f", b"x"))
    real = os.fchmod

    def full(handle: int, mode: int) -> None:
        real(handle, mode)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    refuse(archive, tmp_path, "DISK_STORAGE_FULL")


class Body:
    """A botocore body: chunks, then the end or an error."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.closed = False

    def iter_chunks(self, _size: int) -> Iterator[bytes]:
        return self.chunks

    def close(self) -> None:
        self.closed = True


class Client:
    """S3 with one object, or with one error."""

    def __init__(self, content: Iterator[bytes] | None = None, error: Exception | None = None) -> None:
        self.body = Body(content or iter([b"a", b"b"]))
        self.error = error
        self.asked: list[tuple[str, str]] = []

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803  # botocore's names
        self.asked.append((Bucket, Key))
        if self.error is not None:
            raise self.error
        return {"Body": self.body}


def s3_error(code: str, status: int) -> ClientError:
    metadata: Any = {"HTTPStatusCode": status}
    return ClientError({"Error": {"Code": code, "Message": ""}, "ResponseMetadata": metadata}, "GetObject")


async def test_an_object_is_fetched_whole(tmp_path: Path) -> None:
    client = Client(iter([b"one", b"two"]))
    await fetch(client, "s3://bucket/some/key with spaces.zip", tmp_path / "a.zip", 6)
    assert client.asked == [("bucket", "some/key with spaces.zip")]
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]
    assert (tmp_path / "a.zip").read_bytes() == b"onetwo"
    assert client.body.closed


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (s3_error("NoSuchKey", 404), "S3_NO_SUCH_KEY"),
        (s3_error("NoSuchBucket", 404), "S3_NO_SUCH_BUCKET"),
        (s3_error("AccessDenied", 403), "S3_ACCESS_DENIED"),
        (s3_error("SignatureDoesNotMatch", 403), "S3_ACCESS_DENIED"),
        (s3_error("SomethingNew", 403), "S3_ACCESS_DENIED"),
        (s3_error("InvalidObjectState", 403), "S3_INVALID_OBJECT"),
        (s3_error("PermanentRedirect", 301), "S3_CROSS_REGION_ACCESS_DENIED"),
        (s3_error("InternalError", 500), "INTERNAL_PLATFORM_ERROR"),
        (NoCredentialsError(), "S3_ACCESS_DENIED"),
        (EndpointConnectionError(endpoint_url="http://s3"), "INTERNAL_PLATFORM_ERROR"),
    ],
    ids=str,
)
async def test_an_error_of_s3_becomes_the_builds_reason(tmp_path: Path, error: Exception, reason: str) -> None:
    with pytest.raises(BuildError) as caught:
        await fetch(Client(error=error), "s3://bucket/key", tmp_path / "a.zip", 10)
    assert caught.value.reason == reason
    assert "s3://bucket/key: " in caught.value.detail
    assert list(tmp_path.iterdir()) == []


async def test_an_object_larger_than_the_limit_is_refused_while_it_comes(tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    with pytest.raises(BuildError, match="larger than 5000 bytes") as caught:
        await fetch(Client(endless()), "s3://bucket/key", tmp_path / "a.zip", 5000)
    assert caught.value.reason == "ARCHIVE_INVALID"
    assert list(tmp_path.iterdir()) == []


async def test_a_connection_that_breaks_leaves_no_half_file(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise EndpointConnectionError(endpoint_url="http://s3")

    with pytest.raises(BuildError, match="INTERNAL_PLATFORM_ERROR"):
        await fetch(Client(broken()), "s3://bucket/key", tmp_path / "a.zip", 5000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["https://bucket/key", "s3://bucket", "s3://bucket/", "s3:///key", ""])
async def test_a_uri_that_is_not_of_s3_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(BuildError):
        await fetch(Client(), uri, tmp_path / "a.zip", 10)


async def test_a_cancelled_fetch_ends_its_thread_and_leaves_nothing(tmp_path: Path) -> None:
    started, ended = threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        try:
            while True:
                started.set()
                ended.wait(0.01)
                yield b"x"
        finally:
            ended.set()

    client = Client(slow())
    task = asyncio.create_task(fetch(client, "s3://bucket/key", tmp_path / "a.zip", 1 << 30))
    await asyncio.to_thread(started.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(60):
        while not client.body.closed or list(tmp_path.iterdir()):  # noqa: ASYNC110  # a thread's work
            await asyncio.sleep(0.01)


def test_zips_of_other_makers_with_data_in_front_still_open(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", ("f", b"x"))
    buffer = io.BytesIO(b"#!/bin/sh\n" + archive.read_bytes())
    archive.write_bytes(buffer.getvalue())
    unpack(archive, tmp_path / "out", LIMITS)
    assert (tmp_path / "out/f").read_bytes() == b"x"
