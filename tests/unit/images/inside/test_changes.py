"""What layers change of a base; the layers are directories as overlay has them, merged by hand."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from emberbox.images.inside.changes import Changes, find_changes

Tree = dict[str, str | None]


def make(root: Path, files: Tree) -> Path:
    """Make files; None takes a name away, as overlay does."""
    root.mkdir()
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            os.mknod(path, stat.S_IFCHR, 0)
        else:
            path.write_text(content)
    return root


def compare(tmp_path: Path, base: Tree, layer: Tree, merged: Tree, *opaque: str) -> Changes | None:
    layers = [make(tmp_path / "layer", layer)]
    hidden = {tmp_path / "layer" / name for name in opaque}
    return find_changes(layers, make(tmp_path / "base", base), make(tmp_path / "merged", merged), hidden.__contains__)


def test_only_what_is_new_or_other_is_packed(tmp_path: Path) -> None:
    found = compare(tmp_path, {"a/x": "1", "b/y": "1"}, {"a/x": "2", "c/z": ""}, {"a/x": "2", "b/y": "1", "c/z": ""})
    assert found == Changes((".", "a", "a/x", "c", "c/z"), ())


def test_a_directory_that_lost_a_name_is_packed_as_a_whole(tmp_path: Path) -> None:
    base: Tree = {"a/gone": "", "a/stays": "", "a/d/deep": "", "b/y": ""}
    found = compare(tmp_path, base, {"a/gone": None}, {"a/stays": "", "a/d/deep": "", "b/y": ""})
    assert found == Changes((".", "a", "a/d", "a/d/deep", "a/stays"), ("a",))


def test_what_the_base_never_had_needs_no_replacement(tmp_path: Path) -> None:
    found = compare(tmp_path, {"a/x": ""}, {"a/made-and-removed": None}, {"a/x": ""})
    assert found == Changes((".", "a"), ())


def test_a_directory_that_was_made_anew_shows_nothing_of_the_base(tmp_path: Path) -> None:
    found = compare(tmp_path, {"a/x": ""}, {"a/new": ""}, {"a/new": ""}, "a")
    assert found == Changes((".", "a", "a/new"), ("a",))


def test_a_directory_in_place_of_a_file_replaces_where_it_is(tmp_path: Path) -> None:
    found = compare(tmp_path, {"d/a": "", "d/b": ""}, {"d/a/x": ""}, {"d/a/x": "", "d/b": ""})
    assert found == Changes((".", "d", "d/a", "d/a/x", "d/b"), ("d",))


def test_a_replaced_directory_in_another_one_counts_once(tmp_path: Path) -> None:
    base: Tree = {"a/gone": "", "a/b/gone": "", "a/b/c": ""}
    found = compare(tmp_path, base, {"a/gone": None, "a/b/gone": None}, {"a/b/c": ""})
    assert found == Changes((".", "a", "a/b", "a/b/c"), ("a",))


def test_what_a_later_layer_removed_is_not_packed(tmp_path: Path) -> None:
    lower = make(tmp_path / "lower", {"a/x": "", "n/y": ""})
    upper = make(tmp_path / "upper", {"n": None})
    found = find_changes([upper, lower], make(tmp_path / "base", {"a/z": ""}), make(tmp_path / "m", {"a/x": ""}))
    assert found == Changes((".", "a", "a/x"), ())


def test_links_lead_nowhere(tmp_path: Path) -> None:
    """A later layer's link in place of a directory: what that had is not there, whatever the link leads to."""
    lower = make(tmp_path / "lower", {"n/d/y": "", "n/z": ""})
    merged = make(tmp_path / "merged", {"a/x": ""})
    outside = make(tmp_path / "outside", {"d/y": "", "z": ""})
    (upper := make(tmp_path / "upper", {}) / "n").symlink_to(outside)
    (merged / "n").symlink_to(outside)
    found = find_changes([upper.parent, lower], make(tmp_path / "base", {"a/x": ""}), merged)
    assert found == Changes((".", "n"), ())


@pytest.mark.parametrize("layer", [{"gone": None}, {"a/x": ""}])
def test_when_the_root_itself_is_replaced_all_is_packed(tmp_path: Path, layer: Tree) -> None:
    assert compare(tmp_path, {"gone": "", "a": ""}, layer, {"a/x": ""}) is None
