"""Images of archives and registries: taken as they should be, and refused with words where they are not."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emberbox.images.oci.archives import is_image_archive, opened
from emberbox.images.oci.documents import Source
from emberbox.images.oci.layers import Budget
from emberbox.images.oci.layout import write_layout
from emberbox.model.errors import BuildError
from support.container_images import (
    INDEX,
    LAYER,
    MANIFEST,
    MadeImage,
    describe,
    digest_of,
    docker_archive,
    entry,
    make_index,
    make_tar,
    oci_archive,
)

FILES = make_tar(entry("bin/", type=tarfile.DIRTYPE), entry("bin/true", b"#!"))
IMAGE = MadeImage([FILES, make_tar(entry("etc/.wh.gone"), entry("var/.wh..wh..opq"))])
ROOM = 1 << 30


def write(source: Source, layout: Path, packed: int = ROOM, unpacked: int = ROOM) -> list[str]:
    lines: list[str] = []
    write_layout(source, layout, "linux/amd64", packed, Budget(unpacked), lines.append)
    return lines


def take(archive: bytes, directory: Path, **limits: int) -> list[str]:
    """Take an archive; return the lines of the log."""
    path = directory / "archive"
    path.write_bytes(archive)
    assert is_image_archive(path)
    with opened(path, directory / "unpacked", limits.get("unpacked", ROOM)) as source:
        return write(source, directory / "layout", **limits)


def refused(archive: bytes, directory: Path, **limits: int) -> str:
    with pytest.raises(BuildError) as caught:
        take(archive, directory, **limits)
    assert caught.value.reason == "ARCHIVE_INVALID"
    return caught.value.detail


def layers_of(layout: Path) -> list[bytes]:
    """Return the layers of a layout as Docker finds them; they are the same as the OCI index leads to."""
    (named,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = json.loads(blob(layout, named["digest"]))
    contents = [blob(layout, one["digest"]) for one in manifest["layers"]]
    (told,) = json.loads((layout / "manifest.json").read_text())
    assert [(layout / name).read_bytes() for name in told["Layers"]] == contents
    assert (layout / told["Config"]).read_bytes() == blob(layout, manifest["config"]["digest"])
    return contents


def blob(layout: Path, digest: str) -> bytes:
    content = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
    assert digest_of(content) == digest
    return content


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("make", [oci_archive, docker_archive])
def test_an_archive_becomes_a_layout(make: Callable[[MadeImage], bytes], is_packed: bool, tmp_path: Path) -> None:
    image = MadeImage(IMAGE.layers, is_packed=is_packed and make is oci_archive)
    lines = take(gzip.compress(make(image)) if is_packed else make(image), tmp_path)
    assert layers_of(tmp_path / "layout") == image.blobs
    assert "2 layers" in lines[0]


def test_a_layer_that_is_there_twice_is_written_once(tmp_path: Path) -> None:
    take(docker_archive(MadeImage([FILES, FILES], is_packed=False)), tmp_path)
    assert layers_of(tmp_path / "layout") == [FILES, FILES]


def test_of_several_platforms_the_right_one_is_taken(tmp_path: Path) -> None:
    other = MadeImage([FILES], platform="linux/arm64")
    take(oci_archive(other, IMAGE, index=make_index(other, IMAGE)), tmp_path)
    assert layers_of(tmp_path / "layout") == IMAGE.blobs


def test_an_index_may_lead_to_another(tmp_path: Path) -> None:
    inner = make_index(IMAGE)
    outer = json.dumps({"schemaVersion": 2, "manifests": [describe(INDEX, inner)]}).encode()
    take(oci_archive(IMAGE, spoil=lambda blobs: blobs.update({digest_of(inner): inner}), index=outer), tmp_path)
    assert layers_of(tmp_path / "layout") == IMAGE.blobs


def test_what_has_no_effect_is_said(tmp_path: Path) -> None:
    settings = {"Cmd": ["/x"], "StopSignal": "SIGQUIT", "Healthcheck": {"Test": ["NONE"]}}
    assert take(oci_archive(MadeImage([FILES], settings)), tmp_path)[1:3] == [
        "NOTE: HEALTHCHECK has no effect on a microVM",
        "NOTE: STOPSIGNAL has no effect on a microVM",
    ]


def test_nothing_to_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="CONTAINER_BUILD_FAILED: the image has neither ENTRYPOINT nor CMD"):
        take(oci_archive(MadeImage([FILES], {"Env": []})), tmp_path)


def test_a_blob_of_another_content_is_refused(tmp_path: Path) -> None:
    for number, digest in enumerate(IMAGE.all_blobs()):
        directory = tmp_path / str(number)
        directory.mkdir()
        spoiled = oci_archive(
            IMAGE, spoil=lambda blobs, digest=digest: blobs.update({digest: b"x" + blobs[digest][1:]})
        )
        assert "another content than its digest says" in refused(spoiled, directory)


def test_a_missing_blob_is_refused(tmp_path: Path) -> None:
    spoiled = oci_archive(IMAGE, spoil=lambda blobs: blobs.pop(digest_of(IMAGE.blobs[0])))
    assert "there is no file 'blobs/sha256/" in refused(spoiled, tmp_path)


def test_a_blob_larger_than_said_is_refused_before_all_of_it_is_read(tmp_path: Path) -> None:
    digest = digest_of(IMAGE.blobs[0])
    spoiled = oci_archive(IMAGE, spoil=lambda blobs: blobs.update({digest: blobs[digest] + b"x"}))
    assert "is larger than" in refused(spoiled, tmp_path)


def text(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (oci_archive(MadeImage([FILES], platform="linux/arm64")), "it is for linux/arm64, and this machine runs"),
        (oci_archive(MadeImage([FILES], platform="")), "does not say for which platform it is"),
        (
            oci_archive(IMAGE, index=make_index(MadeImage([FILES], platform="linux/arm64"))),
            "there is no image for linux/amd64 in it, but for linux/arm64, unknown/unknown",
        ),
        (oci_archive(IMAGE, MadeImage([FILES])), "it has several images"),
        (docker_archive(IMAGE, MadeImage([FILES])), "it has 2 images"),
        (oci_archive(MadeImage([FILES], layer_type=f"{LAYER}+zstd")), "push it once more with its layers compressed"),
        (oci_archive(MadeImage([FILES], layer_type="text/plain")), "'text/plain', which is not taken"),
        (oci_archive(MadeImage([FILES], layer_type=LAYER)), "a layer is not intact"),
        (oci_archive(IMAGE, index=text({"schemaVersion": 2, "manifests": [describe("a/b", b"")]})), "'a/b' is neither"),
        (oci_archive(IMAGE, index=text({"schemaVersion": 1, "manifests": []})), "schemaVersion of the index is 1"),
        (oci_archive(IMAGE, index=b"{"), "the index is no JSON"),
        (oci_archive(IMAGE, index=b"[" * 100_000), "the index is no JSON"),
        (oci_archive(IMAGE, index=text({"schemaVersion": 2})), "manifests of the index is no JSON array"),
        (
            oci_archive(
                IMAGE, index=text({"schemaVersion": 2, "manifests": [{**describe(MANIFEST, b""), "size": -1}]})
            ),
            "a size that is no number of bytes",
        ),
        (
            oci_archive(IMAGE, index=text({"schemaVersion": 2, "manifests": [{"digest": "sha256:../../x"}]})),
            "not sha256: and 64 hexadecimal digits",
        ),
        (oci_archive(MadeImage([FILES], {"Cmd": "/bin/sh"})), "Cmd of the config is no JSON array"),
        (oci_archive(MadeImage([FILES], {"Cmd": ["a\0b"]})), "where a text is wanted"),
        (oci_archive(MadeImage([FILES], {"Cmd": ["a"], "User": 7})), "User of the config has 7"),
        (oci_archive(MadeImage([FILES], {"Cmd": ["a"], "ExposedPorts": {"99999/tcp": {}}})), "which is no port"),
        (oci_archive(MadeImage([FILES], diff_ids=[])), "it has 1 layers, but its config knows 0"),
        (oci_archive(MadeImage([FILES] * 126)), "more than 125 layers"),
        (docker_archive(MadeImage([FILES] * 126)), "more than 125 layers"),
        (oci_archive(MadeImage([FILES], diff_ids=[digest_of(b"")])), "but the config says sha256:e3b0"),
        (make_tar(entry("Dockerfile", b"FROM x")), "with their Dockerfile are sent as a zip"),
        (b"\x1f\x8bnot really", "no intact archive"),
        (gzip.compress(oci_archive(IMAGE))[:-9], "no intact archive"),
        (oci_archive(IMAGE)[:2000], "no intact archive"),
    ],
)
def test_what_is_not_as_it_should_be_is_said(archive: bytes, said: str, tmp_path: Path) -> None:
    assert said in refused(archive, tmp_path)


def test_what_is_too_large_is_refused(tmp_path: Path) -> None:
    image = MadeImage([make_tar(entry("big", bytes(1 << 20)))])
    for number, (archive, limits, said) in enumerate(
        (
            (oci_archive(image), {"packed": 100}, "EMBERBOX_ARTIFACT_MAX_BYTES"),
            (oci_archive(image), {"unpacked": 1 << 20}, "EMBERBOX_ARTIFACT_MAX_UNPACKED_BYTES"),
            (gzip.compress(docker_archive(image)), {"unpacked": 1 << 20}, "EMBERBOX_ARTIFACT_MAX_UNPACKED_BYTES"),
            (oci_archive(MadeImage([*image.layers, FILES])), {"unpacked": (1 << 20) + 12000}, "the limit unpacked"),
        )
    ):
        directory = tmp_path / str(number)
        directory.mkdir()
        assert said in refused(archive, directory, **limits)


def test_an_archive_of_many_files_is_not_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(10_001):
            archive.addfile(tarfile.TarInfo(str(number)))
    assert "more than 10000 files" in refused(buffer.getvalue(), tmp_path)


def test_a_zip_is_no_archive_of_an_image(tmp_path: Path) -> None:
    (tmp_path / "zip").write_bytes(b"PK\x03\x04" + bytes(1000))
    (tmp_path / "short").write_bytes(b"this is no zip")
    assert not is_image_archive(tmp_path / "zip")
    assert not is_image_archive(tmp_path / "short")
