"""What the guest's kernel runs when it wants a module: the agent's own C code finds it, and what it needs, in order."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.compiling import compile_c

DRIVER = Path(__file__).with_name("agent_modprobe_driver.c")
DEPENDENCIES = """\
kernel/net/bridge.ko: kernel/net/stp.ko kernel/net/llc.ko
kernel/net/stp.ko: kernel/net/llc.ko
kernel/net/llc.ko:
kernel/net/br-netfilter.ko: kernel/net/bridge.ko kernel/net/stp.ko kernel/net/llc.ko
kernel/fs/there.ko:
kernel/fs/nfs.ko: kernel/fs/there.ko
kernel/fs/broken.ko:
kernel/fs/needs-broken.ko: kernel/fs/broken.ko
kernel/fs/gone.ko:
updates/vendor.ko.xz:
"""
ALIASES = """\
# Aliases extracted from modules themselves.
alias fs-nfs4 nfs
alias char-major-10-[0-9]* stp
alias twice-? llc
alias twice-* there
alias wants_it br_netfilter
"""
SOFT = """\
softdep br_netfilter pre: nfs absent post: fs-nfs4 twice_1
softdep llc something odd
softdep there pre: there
"""

Ask = Callable[..., tuple[int, list[str]]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(tmp_path_factory.mktemp("agent") / "modprobe", [DRIVER])


@pytest.fixture
def ask(program: Path, tmp_path: Path) -> Ask:
    modules = tmp_path / "lib/modules/6.1.0"
    for line in DEPENDENCIES.splitlines():
        path = modules / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.stem != "gone":
            path.touch()
    for name, text in (("dep", DEPENDENCIES), ("alias", ALIASES), ("softdep", SOFT)):
        (modules / f"modules.{name}").write_text(text)

    def asked(name: str, *, root: Path = tmp_path) -> tuple[int, list[str]]:
        command = [program, root, "/modprobe", "-q", "--", name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout.split()

    return asked


@pytest.mark.parametrize(
    ("name", "loaded"),
    [
        ("bridge", ["llc.ko", "stp.ko", "bridge.ko"]),
        ("fs-nfs4", ["there.ko", "nfs.ko"]),
        ("fs_nfs4", ["there.ko", "nfs.ko"]),
        ("char-major-10-200", ["llc.ko", "stp.ko"]),
        ("twice-1", ["llc.ko", "there.ko", "there.ko"]),
        ("vendor", ["vendor.ko.xz"]),
    ],
)
def test_it_is_found_by_name_and_alias_and_comes_after_what_it_needs(
    ask: Ask, name: str, loaded: list[str]
) -> None:  # fmt: skip
    """What is there already does no harm."""
    status, found = ask(name)
    assert status == 0
    assert [file for file in found if file != "there.ko"] == [file for file in loaded if file != "there.ko"]
    assert ("there.ko" in found) == ("there.ko" in loaded)


def test_soft_dependencies_come_before_and_after_and_may_be_missing(ask: Ask) -> None:
    status, found = ask("wants-it")
    assert status == 0
    place = found.index("br-netfilter.ko")
    assert "nfs.ko" in found[:place]
    assert "nfs.ko" in found[place:]
    assert "llc.ko" in found[place:]


@pytest.mark.parametrize(
    "name", ["absent", "gone", "broken", "needs-broken", "", "x" * 300, "../../etc/passwd", "char"]
)
def test_what_cannot_be_had_is_told_the_kernel(ask: Ask, name: str) -> None:
    status, found = ask(name)
    assert status == 1
    assert found in ([], ["broken.ko"])


def test_an_image_without_modules_has_none(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert ask("bridge", root=tmp_path / "empty") == (1, [])


def test_it_answers_to_the_kernels_call_only(program: Path, tmp_path: Path) -> None:
    for arguments in (["/init", "-q", "--", "x"], ["/modprobe", "x"], ["/modprobe"]):
        assert subprocess.run([program, tmp_path, *arguments, "", ""][:6], timeout=60).returncode in (1, 2)
