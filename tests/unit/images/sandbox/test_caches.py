"""What is kept of earlier builds, and which of it a build begins with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emberbox.images.sandbox.caches import CacheKey, LayerCaches

OF_ONE = CacheKey("000000000000", "seed", "one", b"FROM a\nRUN x")


@pytest.fixture
def caches(tmp_path: Path) -> LayerCaches:
    return LayerCaches(tmp_path / "caches", 100)


def keep(caches: LayerCaches, tmp_path: Path, key: CacheKey, text: str) -> None:
    (made := tmp_path / "made").write_text(text)
    caches.keep(key, made)
    made.unlink()


def begin(caches: LayerCaches, tmp_path: Path, key: CacheKey) -> str | None:
    """Return what a build would begin with."""
    used = tmp_path / "used"
    if not caches.hold(key, used):
        return None
    text = used.read_text()
    used.unlink()
    return text


def of(
    image: str, beginning: bytes = OF_ONE.beginning, account_id: str = "000000000000", seed_id: str = "seed"
) -> CacheKey:
    return CacheKey(account_id, seed_id, image, beginning)


@pytest.mark.parametrize(
    ("key", "begins"),
    [
        (of("one"), True),
        (of("one", b"FROM a\nRUN y"), True),
        (of("two"), True),
        (of("two", b"FROM a\nRUN y"), False),
        (of("one", account_id="111111111111"), False),
        (of("one", seed_id="other"), False),
    ],
)
def test_an_image_begins_with_its_own_or_with_what_began_alike(
    caches: LayerCaches, tmp_path: Path, key: CacheKey, begins: bool
) -> None:
    """Of its own account, and of the base image of today."""
    keep(caches, tmp_path, OF_ONE, "layers")
    assert begin(caches, tmp_path, key) == ("layers" if begins else None)


def test_images_that_are_built_at_once_keep_what_each_has(caches: LayerCaches, tmp_path: Path) -> None:
    """What began alike is the latest, for a new image; an image's own comes first."""
    keep(caches, tmp_path, of("one"), "of one")
    keep(caches, tmp_path, of("two"), "of two")
    found = [begin(caches, tmp_path, of(image)) for image in ("one", "two", "three")]
    assert found == ["of one", "of two", "of two"]


@pytest.mark.parametrize("text", ["", None])
def test_what_has_no_layers_takes_nothings_place(caches: LayerCaches, tmp_path: Path, text: str | None) -> None:
    keep(caches, tmp_path, OF_ONE, "layers")
    if text is not None:
        (tmp_path / "made").write_text(text)
    caches.keep(OF_ONE, tmp_path / "made")
    assert begin(caches, tmp_path, OF_ONE) == "layers"


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    """An archive with two names counts once; another account's has a limit of its own."""
    caches = LayerCaches(tmp_path / "caches", 120)
    for number, image in enumerate(("one", "two", "three")):
        keep(caches, tmp_path, of(image, image.encode()), image * 10)
        for path in (tmp_path / "caches").iterdir():
            if path.read_text() == image * 10:
                os.utime(path, (number, number))
    keep(caches, tmp_path, of("one", account_id="111111111111"), "x" * 100)
    assert begin(caches, tmp_path, of("one", b"one")) == "one" * 10  # and is the last that was used
    keep(caches, tmp_path, of("four", b"four"), "4" * 20)
    left = {path.read_text() for path in (tmp_path / "caches").glob("000000000000-*")}
    assert left == {"4" * 20, "one" * 10, "three" * 10}
    assert begin(caches, tmp_path, of("one", account_id="111111111111")) == "x" * 100


def test_one_that_is_larger_than_all_may_be_is_the_only_one(caches: LayerCaches, tmp_path: Path) -> None:
    """Its layers were within the limit, and an archive is a little larger."""
    keep(caches, tmp_path, OF_ONE, "layers")
    keep(caches, tmp_path, of("two", b"two"), "x" * 101)
    assert {path.read_text() for path in (tmp_path / "caches").iterdir()} == {"x" * 101}


def test_layers_of_an_earlier_base_image_go(caches: LayerCaches, tmp_path: Path) -> None:
    """What an earlier release has left too."""
    keep(caches, tmp_path, of("one", seed_id="earlier"), "earlier")
    (tmp_path / "caches/000000000000-seed.tar").write_text("an earlier release's")
    (tmp_path / "caches/000000000000-seed-1.tar.new").write_text("half done")
    keep(caches, tmp_path, OF_ONE, "layers")
    assert {path.read_text() for path in (tmp_path / "caches").iterdir()} == {"layers"}


def test_what_a_sandbox_could_not_begin_with_goes_under_all_its_names(caches: LayerCaches, tmp_path: Path) -> None:
    keep(caches, tmp_path, OF_ONE, "layers")
    keep(caches, tmp_path, of("two", b"two"), "others")
    assert caches.hold(of("three"), tmp_path / "used")
    caches.drop(tmp_path / "used")
    assert {path.read_text() for path in (tmp_path / "caches").iterdir()} == {"others"}
    caches.drop(tmp_path / "none")
