"""What saved state is tied to, and which engine a server takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from emberbox.host.space import DiskSpace
from emberbox.machine.engines import count_saved, find_saved_names
from emberbox.machine.guests import GuestHost
from emberbox.model.errors import HostError, VmmError
from emberbox.time_limits import limit_s
from emberbox.vmm.base import MachineShape
from emberbox.vmm.engine import Engine, Processor
from emberbox.vmm.qemu.choice import choose_engine
from emberbox.vmm.qemu.driver import CAPABILITIES
from emberbox.vmm.qemu.probe import KvmProbe
from support.server import Server, make_home
from support.snapshots import image_snapshot, suspended_state

EPYC = Processor("AuthenticAMD", 25, 1, "AMD EPYC 7763", ("avx2", "sse2", "svm"))
KVM = Engine("QEMU", "7.2.22", "kvm", EPYC)
TCG = Engine("QEMU", "7.2.22", "tcg")


@pytest.mark.parametrize("engine", [KVM, TCG])
def test_an_engine_comes_back_from_its_json(engine: Engine) -> None:
    assert Engine.from_json(engine.to_json()) == engine


@pytest.mark.parametrize(
    ("present", "saved"),
    [
        (KVM, KVM),
        (TCG, TCG),
        (KVM, None),
        (KVM, replace(KVM, version="7.2.9")),  # a bug fix of Debian's
        (KVM, replace(KVM, processor=replace(EPYC, features=("avx2",)))),  # newer microcode tells of more
        (KVM, replace(KVM, processor=replace(EPYC, name="AMD EPYC 7713"))),
    ],
)
def test_the_same_engine_or_one_that_can_do_more_loads_it(present: Engine, saved: Engine | None) -> None:
    assert present.obstacle(saved) is None


@pytest.mark.parametrize(
    ("present", "saved", "words"),
    [
        (TCG, KVM, ["QEMU 7.2.22 with KVM on AMD EPYC 7763", "software emulation", "EMBERBOX_ACCELERATOR=kvm"]),
        (KVM, TCG, ["QEMU 7.2.22 with software emulation", "with KVM", "EMBERBOX_ACCELERATOR=tcg"]),
        (replace(KVM, version="10.0.2"), KVM, ["QEMU 7.2.22", "QEMU 10.0.2", "install QEMU 7.2"]),
        (
            replace(KVM, processor=replace(EPYC, family=26, name="AMD EPYC 9965")),
            KVM,
            ["AMD EPYC 7763", "AMD EPYC 9965", "family 25", "family 26", "go back to a machine"],
        ),
        (replace(KVM, processor=replace(EPYC, features=("sse2", "svm"))), KVM, ["lost avx2", "microcode"]),
        (replace(KVM, processor=replace(EPYC, vendor="GenuineIntel")), KVM, ["AuthenticAMD", "GenuineIntel"]),
    ],
)
def test_another_engine_is_refused_with_both_named_and_a_way_out(
    present: Engine, saved: Engine, words: list[str]
) -> None:
    told = present.obstacle(saved)
    assert told is not None
    assert all(word in told for word in [*words, "build the image again"]), told


def test_of_many_lost_features_some_are_named() -> None:
    saved = replace(KVM, processor=replace(EPYC, features=tuple(f"f{number:02}" for number in range(30))))
    told = KVM.obstacle(saved)
    assert told is not None
    assert "f00, f01" in told
    assert "and 22 more" in told


class Driver:
    """A driver that must not be asked to start anything."""

    engine = TCG
    capabilities = CAPABILITIES


async def test_nothing_is_started_or_copied_for_state_of_another_engine(tmp_path: Path) -> None:
    guests = GuestHost(Driver(), None, None, None, DiskSpace(tmp_path))  # type: ignore[arg-type]
    snapshot = image_snapshot(tmp_path, MachineShape(1, 512), KVM)
    state = suspended_state(tmp_path, (), KVM)
    with pytest.raises(VmmError, match="with KVM"):
        await guests.launch(snapshot, tmp_path, None, lambda *_: None)  # type: ignore[arg-type]
    with pytest.raises(VmmError, match="with KVM"):
        await guests.prepare(snapshot, tmp_path)
    with pytest.raises(VmmError, match="with KVM"):
        await guests.resume(image_snapshot(tmp_path, MachineShape(1, 512), TCG), state, lambda *_: None)
    assert not list(tmp_path.iterdir())


def publish(directory: Path, engine: Engine | None) -> None:
    directory.mkdir(parents=True)
    for name in ("root.erofs", "disk", "memory", "devices"):
        (directory / name).write_bytes(b"x")
    image_snapshot(directory, MachineShape(1, 512), engine).publish()


def test_what_a_home_holds_is_counted_by_accelerator(tmp_path: Path) -> None:
    publish(tmp_path / "images/one/1.0", KVM)
    publish(tmp_path / "images/one/2.0", TCG)
    publish(tmp_path / "images/two/1.0", None)
    publish(tmp_path / "images/arm/1.0", replace(TCG, vmm="QEMU-ARM64"))  # it says nothing of the machine's own guests
    publish(tmp_path / "microvms/fork/base", KVM)
    suspended = tmp_path / "microvms/suspended"
    suspended.mkdir()
    for name in ("disk", "devices.saved"):
        (suspended / name).write_bytes(b"x")
    suspended_state(suspended, (), KVM).publish()
    (tmp_path / "images/three/1.0").mkdir(parents=True)
    (tmp_path / "images/three/1.0/snapshot.json").write_text("damaged")
    assert count_saved(tmp_path) == Counter(kvm=3, tcg=1)
    assert count_saved(tmp_path / "missing") == Counter()
    assert find_saved_names(tmp_path) == {"qemu", "qemu-arm64"}


WORKS, FAILS = KvmProbe(KVM), KvmProbe(None, "the module is not loaded")


@pytest.mark.parametrize(
    ("wanted", "probe", "saved", "chosen"),
    [
        ("auto", WORKS, {}, "kvm"),
        ("auto", FAILS, {}, "tcg"),
        ("auto", WORKS, {"kvm": 2}, "kvm"),
        ("auto", WORKS, {"kvm": 1, "tcg": 5}, "kvm"),
        ("auto", WORKS, {"tcg": 5}, "tcg"),  # it stays with what it has
        ("auto", FAILS, {"tcg": 5}, "tcg"),
        ("kvm", WORKS, {"tcg": 5}, "kvm"),
        ("tcg", None, {"kvm": 5}, "tcg"),
    ],
)
def test_auto_takes_kvm_where_it_works_and_never_changes_over_silently(
    wanted: str, probe: KvmProbe | None, saved: dict[str, int], chosen: str
) -> None:
    assert choose_engine(wanted, "7.2.22", probe, Counter(saved)).accelerator == chosen


@pytest.mark.parametrize(("wanted", "saved"), [("kvm", {}), ("kvm", {"tcg": 1}), ("auto", {"kvm": 3})])
def test_without_kvm_a_server_that_needs_it_does_not_start(wanted: str, saved: dict[str, int]) -> None:
    with pytest.raises(HostError) as caught:
        choose_engine(wanted, "7.2.22", FAILS, Counter(saved))
    assert all(
        word in str(caught.value)
        for word in ("the module is not loaded", "EMBERBOX_ACCELERATOR=tcg", "emberbox doctor")
    )


@pytest.mark.parametrize("wanted", ["kvm", "auto"])
def test_a_server_that_needs_kvm_and_has_none_ends_at_its_start_and_says_what_to_do(
    tmp_path: Path, wanted: str
) -> None:
    qemu = tmp_path / "qemu-system-x86_64"
    version = '[ "$1" != --version ] || { echo QEMU emulator version 7.2.22; exit 0; }'
    qemu.write_text(f"#!/bin/sh\n{version}\necho failed to initialize kvm >&2\nexit 1\n")
    qemu.chmod(0o755)
    server = Server(make_home(), engine="qemu", accelerator=wanted, network="user")
    try:
        publish(server.home / "images/one/1.0", KVM)
        server.environment["PATH"] = f"{tmp_path}:{server.environment['PATH']}"
        assert server.launch().wait(limit_s(60)) != 0
        said = server.log_tail()
    finally:
        server.remove()
    assert "KVM does not work here" in said
    assert "EMBERBOX_ACCELERATOR=tcg" in said
    assert "Traceback" not in said
