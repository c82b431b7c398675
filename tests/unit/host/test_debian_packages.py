"""Packages of other Debian releases: fetched from an archive of the test's own, which it signs or does not."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest

from emberbox.host import debian_packages
from emberbox.host.debian_packages import Archive, ensure_packages, find_archive, open_suite
from emberbox.model.errors import HostError

SUITE = "someday"


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """An archive with the package `tool`, not signed yet."""
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/tool").write_text("#!/bin/sh\necho works\n")
    control = "Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.com>\nDescription: a tool\n"
    (tree / "DEBIAN/control").write_text(control)
    mirror = tmp_path / "mirror"
    (mirror / "pool").mkdir(parents=True)
    package = mirror / "pool/tool_1_all.deb"
    run("dpkg-deb", "--root-owner-group", "--build", tree, package)
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    entry = f"{control}Filename: pool/tool_1_all.deb\nSize: {package.stat().st_size}\nSHA256: {digest}\n"
    architecture = run("dpkg", "--print-architecture").strip()
    index = f"main/binary-{architecture}/Packages"
    suite = mirror / "dists" / SUITE
    (suite / index).parent.mkdir(parents=True)
    (suite / index).write_text(entry)
    (suite / "Release").write_text(
        f"Origin: Test\nSuite: {SUITE}\nCodename: {SUITE}\nDate: {formatdate(usegmt=True)}\n"
        f"Architectures: {architecture}\nComponents: main\n"
        f"SHA256:\n {hashlib.sha256(entry.encode()).hexdigest()} {len(entry)} {index}\n"
    )
    return mirror


@pytest.fixture
def sign(tmp_path: Path, mirror: Path) -> Callable[[], Archive]:
    """Sign the archive's release."""
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    base = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]

    def sign() -> Archive:
        run(*base, "--quick-generate-key", "test@example.com", "rsa2048", "sign", "never")
        release = mirror / "dists" / SUITE / "Release"
        run(*base, "--clearsign", "--output", str(release.with_name("InRelease")), str(release))
        keyring = tmp_path / "keys.gpg"
        run(*base, "--output", str(keyring), "--export")
        run("gpgconf", "--homedir", str(home), "--kill", "all")
        return Archive(f"file://{mirror}", keyring)

    return sign


async def test_signed_packages_are_unpacked_and_kept(tmp_path: Path, mirror: Path, sign: Callable[[], Archive]) -> None:
    archive, home = sign(), tmp_path / "home"
    found = await ensure_packages(home / "tool", SUITE, ["tool"], archive)
    assert (found / "usr/bin/tool").read_text().endswith("works\n")
    (mirror / "pool/tool_1_all.deb").unlink()
    assert await ensure_packages(home / "tool", SUITE, ["tool"], archive) == found
    assert [path.name for path in home.iterdir()] == ["tool"], "apt's own files are removed"


async def test_an_archive_without_a_signature_is_refused(
    tmp_path: Path, mirror: Path, sign: Callable[[], Archive]
) -> None:
    archive = sign()
    (mirror / "dists" / SUITE / "InRelease").unlink()
    await refuse(tmp_path / "home", archive, "is not signed")


async def test_another_ones_signature_is_refused(tmp_path: Path, sign: Callable[[], Archive]) -> None:
    archive = Archive(sign().mirror)
    await refuse(tmp_path / "home", archive, "NO_PUBKEY")


async def test_a_changed_package_is_refused(tmp_path: Path, mirror: Path, sign: Callable[[], Archive]) -> None:
    archive = sign()
    package = mirror / "pool/tool_1_all.deb"
    content = bytearray(package.read_bytes())
    content[-20] ^= 1
    package.write_bytes(content)
    await refuse(tmp_path / "home", archive, "Hash Sum mismatch")


async def refuse(home: Path, archive: Archive, why: str) -> None:
    with pytest.raises(HostError, match=f"(?s)tool of someday cannot be fetched.*{why}.*dpkg-deb -x"):
        await ensure_packages(home / "tool", SUITE, ["tool"], archive)
    assert list(home.iterdir()) == []


async def test_what_a_killed_server_left_half_done_is_no_obstacle(tmp_path: Path, sign: Callable[[], Archive]) -> None:
    left = tmp_path / "home/.tool/unpacked"
    left.mkdir(parents=True)
    (left / "half").touch()
    found = await ensure_packages(tmp_path / "home/tool", SUITE, ["tool"], sign())
    assert [path.name for path in found.iterdir()] == ["usr"]


async def test_the_mirror_is_the_one_of_the_machine() -> None:
    archive = await find_archive()
    assert archive.mirror.startswith(("http://", "https://", "file:", "mirror", "cdrom"))
    assert archive.source_line("trixie") == f"deb [signed-by={archive.keyring}] {archive.mirror} trixie main"


async def test_without_debians_keys_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_packages, "KEYRING", tmp_path / "none.gpg")
    with pytest.raises(HostError, match="install Debian's package debian-archive-keyring"):
        await find_archive()


async def test_packages_of_another_architecture_are_known_apart(
    tmp_path: Path, mirror: Path, sign: Callable[[], Archive]
) -> None:
    own = run("dpkg", "--print-architecture").strip()
    other = "arm64" if own != "arm64" else "amd64"
    suite = mirror / "dists" / SUITE
    entry = (suite / f"main/binary-{own}/Packages").read_text().replace("Version: 1", "Version: 2")
    index = f"main/binary-{other}/Packages"
    (suite / index).parent.mkdir()
    (suite / index).write_text(entry)
    release = (suite / "Release").read_text().replace(f"Architectures: {own}", f"Architectures: {own} {other}")
    (suite / "Release").write_text(f"{release} {hashlib.sha256(entry.encode()).hexdigest()} {len(entry)} {index}\n")
    (work := tmp_path / "work").mkdir()
    options = await open_suite(work, SUITE, sign(), other)
    assert "Candidate: 2" in run("apt-cache", *options, "policy", "tool")
