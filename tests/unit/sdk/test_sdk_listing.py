"""Listings, made by this machine's own sh, find and stat."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from emberbox_sdk import listing
from emberbox_sdk.results import Change, Entry, FileEvent, Kind

ODD = "two\nlines  and 'quotes' // ünicode"


def script(text: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["/bin/sh", "-c", text, "sh", *map(str, arguments)], capture_output=True, timeout=60)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "f").write_bytes(b"12345")
    (tmp_path / "d" / "f").chmod(0o640)
    os.utime(tmp_path / "d" / "f", ns=(0, 1_500_000_000))
    (tmp_path / "l").symlink_to("nowhere")
    (tmp_path / ODD.replace("/", "|")).write_text("")
    os.mkfifo(tmp_path / "p")
    return tmp_path


def test_every_kind_of_entry_is_read(tree: Path) -> None:
    entries = {entry.path: entry for entry in listing.read_entries(script(listing.LIST, tree, 2).stdout)}
    kinds = {Path(path).relative_to(tree).as_posix(): entry.kind for path, entry in entries.items()}
    odd = ODD.replace("/", "|")
    wanted = {"d": Kind.DIRECTORY, "d/e": Kind.DIRECTORY, "d/f": Kind.FILE, "l": Kind.LINK, "p": Kind.OTHER}
    assert kinds == {**wanted, odd: Kind.FILE}
    found = entries[f"{tree}/d/f"]
    owner = (os.getuid(), os.getgid())
    assert (found.name, found.size, found.mode, found.uid, found.gid) == ("f", 5, 0o640, *owner)
    assert found.modified_at == pytest.approx(1.5)


def test_depth_counts_levels(tree: Path) -> None:
    names = {entry.name for entry in listing.read_entries(script(listing.LIST, tree, 1).stdout)}
    assert "d" in names
    assert "f" not in names


def test_an_empty_directory_has_no_entries(tmp_path: Path) -> None:
    assert listing.read_entries(script(listing.LIST, tmp_path, 1).stdout) == []


def test_stat_does_not_follow_links(tree: Path) -> None:
    (entry,) = listing.read_entries(script(listing.STAT, tree / "l").stdout)
    assert (entry.path, entry.kind) == (str(tree / "l"), Kind.LINK)


def test_what_is_not_there_has_its_own_exit_code(tree: Path) -> None:
    for text, *more in (
        (listing.LIST, "1"),
        (listing.STAT,),
        (listing.REMOVE,),
        (listing.RENAME, str(tree / "new")),
        (listing.WATCH, "1", "0.1"),
    ):
        assert script(text, tree / "missing", *more).returncode == listing.NOT_THERE, text
    assert script(listing.LIST, tree / "d" / "f", 1).returncode == listing.NOT_A_DIRECTORY


def test_names_are_moved_and_removed(tree: Path) -> None:
    assert script(listing.MAKE_DIRECTORY, tree / "n" / "m").returncode == 0
    assert script(listing.RENAME, tree / "d" / "f", tree / "n" / "m" / "-f").returncode == 0
    assert (tree / "n" / "m" / "-f").read_bytes() == b"12345"
    assert script(listing.REMOVE, tree / "n").returncode == 0
    assert not (tree / "n").exists()


@pytest.mark.parametrize(
    ("path", "normal"), [("a", "/a"), ("/a//b/", "/a/b"), ("//a/../b", "/b"), ("", "/"), ("/..", "/"), ("-x", "/-x")]
)
def test_paths_are_normalised(path: str, normal: str) -> None:
    assert listing.normalise(path) == normal


def entry(path: str, size: int = 0, kind: Kind = Kind.FILE) -> Entry:
    return Entry(path, kind, size, 0o644, 0, 0, 1.0)


def test_events_are_what_differs() -> None:
    before = [entry("/a"), entry("/b"), entry("/d", 1, Kind.DIRECTORY)]
    now = [entry("/b", 2), entry("/c"), entry("/d", 2, Kind.DIRECTORY)]
    assert listing.compare(before, now) == [
        FileEvent(Change.REMOVED, "/a"),
        FileEvent(Change.MODIFIED, "/b"),
        FileEvent(Change.CREATED, "/c"),
    ]
    assert listing.compare(now, now) == []
