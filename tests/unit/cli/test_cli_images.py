"""`emberbox images import`: what is taken for a file, what for a name, and what is sent of a directory."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from emberbox.cli.images import archive_of, find_architecture, find_uri, read_environment
from emberbox.model.errors import HostError
from support.container_images import MadeImage, docker_archive, entry, make_tar


def test_what_is_there_is_a_file_and_the_rest_a_name(tmp_path: Path) -> None:
    (tmp_path / "python").touch()
    assert find_uri(str(tmp_path / "python")) is None
    assert find_uri("python:3.12") == "oci://docker.io/library/python:3.12"
    for name in ("ghcr.io/a/b", "docker://ghcr.io/a/b", "oci://ghcr.io/a/b:latest"):
        assert find_uri(name) == "oci://ghcr.io/a/b:latest"


@pytest.mark.parametrize("name", ["./missing.tar", "/tmp/missing.tar", "a b", ""])
def test_what_is_neither_is_said(name: str) -> None:
    with pytest.raises(HostError, match="is neither a file here nor an image of a registry"):
        find_uri(name or "/tmp/no/such/file")


def test_an_archive_is_sent_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(docker_archive(MadeImage([make_tar(entry("a"))])))
    with archive_of(tmp_path / "image.tar") as archive:
        assert archive == tmp_path / "image.tar"


def test_of_a_directory_the_layout_is_sent_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    for name in ("index.json", "oci-layout", "notes.txt", "blobs/sha256/00"):
        (tmp_path / name).write_text(name)
    with archive_of(tmp_path) as archive, tarfile.open(archive) as opened:
        assert set(opened.getnames()) == {"index.json", "oci-layout", "blobs", "blobs/sha256", "blobs/sha256/00"}
    assert not archive.exists()


def test_what_is_no_archive_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "app.zip").write_bytes(b"PK\x03\x04")
    for path, said in ((tmp_path / "app.zip", "is neither a tar of an OCI layout"), (tmp_path, "it has no index.json")):
        with pytest.raises(HostError, match=said), archive_of(path):
            pass


def test_variables_are_read() -> None:
    assert read_environment(["A=b=c", "D="]) == {"A": "b=c", "D": ""}
    with pytest.raises(HostError, match="--env A: it is NAME=VALUE"):
        read_environment(["A"])


def test_platforms_are_read() -> None:
    assert [find_architecture(f"linux/{one}") for one in ("amd64", "arm64")] == ["X86_64", "ARM_64"]
    with pytest.raises(HostError, match=r"--platform linux/riscv64: it is linux/amd64 or linux/arm64"):
        find_architecture("linux/riscv64")
