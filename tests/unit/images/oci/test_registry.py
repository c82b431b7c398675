"""Images of a registry: asked for as the specification says, with logins that nobody else gets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from emberbox.images.oci import registry as registries
from emberbox.images.oci.layers import Budget
from emberbox.images.oci.layout import write_layout
from emberbox.images.oci.registry import Access, Login, Registry
from emberbox.model.errors import BuildError
from emberbox.model.image_references import ImageReference, parse_reference
from support.container_images import (
    PASSWORD,
    TOKEN,
    USER,
    MadeImage,
    SmallRegistry,
    basic,
    digest_of,
    entry,
    make_tar,
    small_registry,
)

IMAGE = MadeImage([make_tar(entry("a", b"x"))])
OTHER = MadeImage([make_tar(entry("b"))], platform="linux/arm64")
PLAIN = Access(is_plain=True, is_direct=True)
KNOWN = replace(PLAIN, login=Login(USER, PASSWORD))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallRegistry]:
    monkeypatch.setattr(registries, "_TRY_AGAIN_S", 0.01)
    with small_registry() as running:
        running.push("1", IMAGE)
        yield running


def pull(registry: SmallRegistry, layout: Path, version: str = ":1", access: Access = PLAIN) -> None:
    reference = parse_reference(f"{registry.address}/x{version}")
    write_layout(Registry(reference, access), layout, "linux/amd64", 1 << 20, Budget(1 << 20), lambda _line: None)
    assert (layout / "blobs/sha256" / digest_of(IMAGE.blobs[0]).removeprefix("sha256:")).read_bytes() == IMAGE.blobs[0]


def failed(registry: SmallRegistry, layout: Path, version: str = ":1", access: Access = PLAIN) -> str:
    with pytest.raises(BuildError) as caught:
        pull(registry, layout, version, access)
    return str(caught.value)


def test_an_image_is_had_by_its_tag_and_by_its_digest(registry: SmallRegistry, tmp_path: Path) -> None:
    pull(registry, tmp_path / "tag")
    pull(registry, tmp_path / "digest", f"@{digest_of(IMAGE.manifest)}")


def test_of_several_platforms_the_right_one_is_taken(registry: SmallRegistry, tmp_path: Path) -> None:
    registry.push("all", OTHER, IMAGE)
    pull(registry, tmp_path / "layout", ":all")


@pytest.mark.parametrize("way", ["basic", "bearer"])
def test_a_login_is_given_when_it_is_asked_for(way: str, registry: SmallRegistry, tmp_path: Path) -> None:
    registry.wants = way
    assert "it asks for a login" in failed(registry, tmp_path / "none")
    wrong = replace(PLAIN, login=Login(USER, "wrong"))
    assert "it asks for a login" in failed(registry, tmp_path / "wrong", access=wrong)
    pull(registry, tmp_path / "layout", access=KNOWN)
    assert registry.asked[-1][1] == (basic() if way == "basic" else f"Bearer {TOKEN}")


def test_a_login_that_has_expired_is_made_anew(registry: SmallRegistry, tmp_path: Path) -> None:
    registry.wants = "bearer"
    there = Registry(parse_reference(f"{registry.address}/x:1"), KNOWN)
    there._authorization = "Bearer of yesterday"
    assert there.top().content == IMAGE.manifest


def test_a_login_is_not_given_where_a_registry_leads_to(registry: SmallRegistry, tmp_path: Path) -> None:
    registry.wants = "basic"
    with small_registry() as elsewhere:
        elsewhere.push("1", IMAGE)
        registry.blobs_elsewhere = elsewhere.address
        pull(registry, tmp_path / "layout", access=KNOWN)
        assert {given for _, given in elsewhere.asked} == {None}


def test_what_fails_in_passing_is_asked_for_again(registry: SmallRegistry, tmp_path: Path) -> None:
    registry.failures = registries.TRIES - 1
    pull(registry, tmp_path / "layout")
    registry.failures = registries.TRIES
    assert "it answered 503" in failed(registry, tmp_path / "other")


def test_what_is_not_there_is_said(registry: SmallRegistry, tmp_path: Path) -> None:
    assert "it has no such image; check name and tag" in failed(registry, tmp_path / "layout", ":2")


def test_a_blob_that_differs_from_its_digest_is_refused(registry: SmallRegistry, tmp_path: Path) -> None:
    digest = digest_of(IMAGE.blobs[0])
    registry.blobs[digest] = registry.blobs[digest][:-1] + b"x"
    assert "another content than its digest says" in failed(registry, tmp_path / "layout")


def test_a_manifest_that_differs_from_the_digest_asked_for_is_refused(registry: SmallRegistry, tmp_path: Path) -> None:
    digest = digest_of(OTHER.manifest)
    registry.documents[digest] = registry.documents["1"]
    assert "the registry sent another image than" in failed(registry, tmp_path / "layout", f"@{digest}")


def test_a_page_is_no_image(registry: SmallRegistry, tmp_path: Path) -> None:
    registry.documents["page"] = "text/html; charset=utf-8", b"<html>"
    assert "'text/html' is neither an index nor a manifest" in failed(registry, tmp_path / "layout", ":page")


def test_a_document_without_end_is_not_read(registry: SmallRegistry, tmp_path: Path) -> None:
    registry.documents["large"] = registry.documents["1"][0], b" " * (registries.DOCUMENT_BYTES_MAX + 1)
    assert "a document larger than" in failed(registry, tmp_path / "layout", ":large")


def test_a_registry_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "_TRY_AGAIN_S", 0.01)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        there = Registry(ImageReference(f"127.0.0.1:{unused.getsockname()[1]}", "x", "1"), PLAIN)
        with pytest.raises(BuildError, match=r"Connection refused.*EMBERBOX_REGISTRIES"):
            there.top()


def test_a_registry_without_tls_is_not_spoken_to_unless_it_is_named(registry: SmallRegistry, tmp_path: Path) -> None:
    assert "cannot be reached" in failed(registry, tmp_path / "layout", access=Access(is_direct=True))
