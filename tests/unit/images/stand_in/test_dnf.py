"""`dnf` where Debian stands for Amazon Linux: what apt is asked for in its place."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from emberbox.images.stand_in import PROGRAM, write_archive

Dnf = Callable[..., subprocess.CompletedProcess[str]]
INSTALL = "apt-get -q install -y --no-install-recommends"


@pytest.fixture
def dnf(tmp_path: Path) -> Dnf:
    """Run it with an apt that notes how it is called, and knows libffi-dev and gmock-dev."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/debian_Packages").touch()
    calls = tmp_path / "calls"
    for name, body in (
        ("apt-get", f'echo "apt-get $*" >> {calls}; case "$*" in *no-such*) exit 100;; esac'),
        ("apt-cache", 'case "$2" in libffi-dev|gmock-dev) exit 0;; esac; exit 100'),
    ):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    def run(*arguments: str, has_lists: bool = True) -> subprocess.CompletedProcess[str]:
        if not has_lists:
            (tmp_path / "lists/debian_Packages").unlink()
        environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "APT_LISTS": str(tmp_path / "lists")}
        done = subprocess.run(["sh", PROGRAM, *arguments], env=environment, text=True, capture_output=True)
        done.args = calls.read_text().splitlines() if calls.exists() else []
        return done

    return run


def test_all_names_are_in_the_archive_as_programs_of_root(tmp_path: Path) -> None:
    write_archive(tmp_path / "files.tar")
    with tarfile.open(tmp_path / "files.tar") as archive:
        entries = archive.getmembers()
    assert [(entry.name, entry.mode, entry.uid) for entry in entries] == [
        (f"usr/bin/{name}", 0o755, 0) for name in ("dnf", "microdnf", "yum")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("install -y gcc-c++ make", [f"{INSTALL} g++ make"]),
        ("-y install --setopt=install_weak_deps=0 --nodocs tar", [f"{INSTALL} tar"]),
        ("install -y --releasever 2023 --setopt x=y git.x86_64", [f"{INSTALL} git"]),
        ("install -y openssl-devel libffi-devel gmock-devel other-devel", [
            f"{INSTALL} libssl-dev libffi-dev gmock-dev other-dev"
        ]),
        ("install -y python3.11 python3.11-devel", [f"{INSTALL} python3 python3-dev"]),
        ("install -y shadow-utils procps-ng findutils which", [f"{INSTALL} passwd procps findutils debianutils"]),
        ("groupinstall -y development-tools", [f"{INSTALL} build-essential"]),
        ("group install -y development-tools", [f"{INSTALL} build-essential"]),
        ("install -y @development-tools", [f"{INSTALL} build-essential"]),
        ("swap -y curl-minimal curl-full", [f"{INSTALL} curl"]),
        ("update -y", ["apt-get -q update", "apt-get -q upgrade -y"]),
        ("upgrade -y openssl", [f"{INSTALL} --only-upgrade openssl"]),
        ("remove -y gcc-c++", ["apt-get -q purge -y g++"]),
        ("makecache", ["apt-get -q update"]),
    ],
)  # fmt: skip
def test_apt_is_asked_by_debians_names(given: str, asked: list[str], dnf: Dnf) -> None:
    done = dnf(*given.split())
    assert (done.returncode, done.args) == (0, asked), done.stderr


def test_lists_are_fetched_once_and_removed_by_clean(dnf: Dnf, tmp_path: Path) -> None:
    assert dnf("install", "-y", "tar", has_lists=False).args == ["apt-get -q update", f"{INSTALL} tar"]
    (tmp_path / "lists/again_Packages").touch()
    assert dnf("clean", "all").returncode == 0
    assert list((tmp_path / "lists").iterdir()) == []


def test_a_name_that_differs_is_told(dnf: Dnf) -> None:
    assert dnf("install", "gcc-c++").stdout == "NOTE: gcc-c++ is g++ on Debian\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("install -y no-such", "not all of these packages can be had"),
        ("install -y https://x.test/a.rpm", "https://x.test/a.rpm is an RPM"),
        ("install -y @graphical", "there is no group graphical"),
        ("install", "nothing to install is named"),
        ("install --installroot=/x tar", "--installroot is not possible"),
        ("config-manager --add-repo x", "'config-manager' has no counterpart here"),
        ("", "no command is given"),
    ],
)
def test_what_cannot_be_is_said_with_what_to_do(given: str, said: str, dnf: Dnf) -> None:
    done = dnf(*given.split())
    assert done.returncode == 1
    assert said in done.stderr
    assert "use apt-get, or let builds reach public.ecr.aws" in done.stderr
