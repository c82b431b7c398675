"""What of layers is refused before anything unpacks them."""

from __future__ import annotations

import contextlib
import gzip
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberbox.images.oci import layers
from emberbox.images.oci.documents import LAYER, LAYER_GZIP
from emberbox.images.oci.layers import Budget, check_layer
from emberbox.model.errors import BuildError
from support.container_images import digest_of, entry, make_tar

LINK, HARD, CHAR, BLOCK, FIFO, DIR = (
    tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE,
)  # fmt: skip


def check(layer: bytes, directory: Path, media_type: str = LAYER, room: int = 1 << 30) -> Budget:
    path, budget = directory / "layer", Budget(room)
    path.write_bytes(layer)
    plain = layer if media_type == LAYER else gzip.decompress(layer)
    check_layer(path, media_type, digest_of(plain), budget)
    return budget


def test_what_layers_have_is_taken(tmp_path: Path) -> None:
    """Links are a matter of the image, also absolute ones and those that lead up from its root."""
    layer = make_tar(
        entry("./"), entry("/bin/sh", b"x"), entry("./a/b", b"y" * 5000), entry("a/" + "n" * 200 + "/" + "m" * 200),
        entry("a/c", type=HARD, linkname="./a/b"), entry("l", type=LINK, linkname="../../etc/passwd"),
        entry("dev/null", type=CHAR, devmajor=1, devminor=3), entry("dev/pts", type=DIR), entry("dev/log", type=FIFO),
        entry("setcap", pax_headers={"SCHILY.xattr.security.capability": "x", "SCHILY.xattr.user.a": "b"}),
        entry("a/.wh.b"), entry("a/.wh..wh..opq"), entry("a/..b"), entry("a/.wh..hidden"),
    )  # fmt: skip
    budget = check(layer, tmp_path)
    assert budget.unpacked_bytes == (1 << 30) - len(layer)
    assert budget.entries == layers.ENTRIES_MAX - 14
    parts = gzip.compress(layer[:1000]) + gzip.compress(layer[1000:])  # as eStargz and parallel tools pack them
    check(parts, tmp_path, LAYER_GZIP)


@pytest.mark.parametrize("layer", [b"", bytes(1024), bytes(10240)])
def test_an_empty_layer_is_taken(layer: bytes, tmp_path: Path) -> None:
    check(layer, tmp_path)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (entry("../out"), "a name that leads outside"),
        (entry("a/../../out"), "a name that leads outside"),
        (entry("/../out"), "a name that leads outside"),
        (entry("a", type=HARD, linkname="../etc/shadow"), "a hard link that leads outside"),
        (entry("a", type=HARD, linkname="/a/../../etc/shadow"), "a hard link that leads outside"),
        (entry("a", type=HARD, linkname="./"), "a hard link to its root"),
        (entry("a", type=LINK, linkname=""), "a link that no file can have"),
        (entry("a", type=LINK, linkname="x" * 5000), "a link that no file can have"),
        (entry("n" * 256), "a name that is too long"),
        (entry("n/" * 2048 + "n"), "a name that no file can have"),
        (entry("sda", type=BLOCK, devmajor=8), "outside of /dev, 'sda'"),
        (entry("devices/mem", type=CHAR, devmajor=1, devminor=1), "outside of /dev"),
        (entry("run/pipe", type=FIFO), "outside of /dev"),
        (entry("etc/shadow", type=CHAR), "a mark of the kernel's overlay"),
        (entry("dev/null", type=CHAR), "a mark of the kernel's overlay"),
        (entry("a/.wh."), "takes away what has no name"),
        (entry("a/.wh.."), "takes away what has no name"),
        (entry("a/.wh..."), "takes away what has no name"),
        (entry("a", type=b"Z"), "of a kind that is not taken"),
        (entry("a", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "99999999999"}), "a file with holes"),
        (
            entry("a", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/etc"}),
            "an attribute of the kernel's overlay",
        ),
        (entry("a", pax_headers={"comment": "x" * (2 << 20)}), "a header of more than 1048576 bytes"),
    ],
)
def test_what_must_not_be_in_a_layer_is_said(made: tuple[tarfile.TarInfo, bytes], said: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        check(make_tar(entry("first", b"x"), made), tmp_path)
    assert caught.value.reason == "ARCHIVE_INVALID"
    assert said in caught.value.detail


def test_what_comes_after_the_end_is_refused(tmp_path: Path) -> None:
    hidden = make_tar(entry("first")) + make_tar(entry("../second"))
    with pytest.raises(BuildError, match="goes on after its end"):
        check(hidden, tmp_path)


def test_a_layer_is_read_no_further_than_its_budget(tmp_path: Path) -> None:
    bomb = gzip.compress(make_tar(entry("a", bytes(64 << 20))), 1)
    with pytest.raises(BuildError, match="larger than the limit unpacked"):
        check(bomb, tmp_path, LAYER_GZIP, room=10 << 20)


def test_the_entries_of_all_layers_are_counted(tmp_path: Path) -> None:
    budget, layer = Budget(1 << 30, entries=3), make_tar(entry("a"), entry("b"))
    (tmp_path / "layer").write_bytes(layer)
    check_layer(tmp_path / "layer", LAYER, digest_of(layer), budget)
    with pytest.raises(BuildError, match="more than 1000000 files"):
        check_layer(tmp_path / "layer", LAYER, digest_of(layer), budget)


@given(at=st.integers(0, 3000), value=st.integers(0, 255), is_packed=st.booleans())
def test_damage_is_refused_in_words_or_harmless(
    at: int, value: int, is_packed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    layer = make_tar(entry("a", b"x" * 600, pax_headers={"comment": "y"}), entry("b" * 150))
    spoiled = bytearray(gzip.compress(layer) if is_packed else layer)
    spoiled[at % len(spoiled)] = value
    path = tmp_path_factory.mktemp("layer") / "layer"
    path.write_bytes(spoiled)
    with contextlib.suppress(BuildError):
        check_layer(path, LAYER_GZIP if is_packed else LAYER, digest_of(layer), Budget(1 << 20))
