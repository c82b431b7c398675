"""The doctor's checks, on this machine and on what a poorer one looks like."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from emberbox import doctor
from emberbox.doctor import Tool
from emberbox.host.cgroups import Place
from emberbox.settings import load


@pytest.fixture
def no_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which nothing is found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def write_tool(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(("version", "ok"), [((3, 11, 0), True), ((3, 14, 1), True), ((3, 10, 12), False)])
async def test_python_must_be_recent(version: tuple[int, ...], ok: bool) -> None:
    assert (await doctor.check_python(version)).ok is ok


async def test_machines_of_two_kinds_will_do() -> None:
    assert await doctor.check_architecture("x86_64") == doctor.Check(
        "architecture", ok=True, detail="x86_64", remedy="guests run on x86_64 and aarch64 machines only"
    )
    arm = await doctor.check_architecture("aarch64")
    assert arm.ok
    assert "nothing has been tried" in arm.detail
    assert not (await doctor.check_architecture("riscv64")).ok


@pytest.mark.parametrize(("chosen", "told"), [("host", "built for x86_64"), ("refuse", "refused")])
async def test_what_becomes_of_arm_images_is_told(tmp_path: Path, chosen: str, told: str) -> None:
    check = await doctor.check_arm64(load({}, home=tmp_path, arm64=chosen))
    assert check.ok
    assert told in check.detail
    assert "EMBERBOX_ARM64" in check.detail


async def test_on_an_arm_machine_it_is_the_other_way_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.platform, "machine", lambda: "aarch64")
    check = await doctor.check_arm64(load({}, home=tmp_path))
    assert (check.name, check.ok) == ("X86_64 images", True)
    assert "built for aarch64" in check.detail


async def test_emulated_arm_is_said_to_be_slow_and_no_boundary(tmp_path: Path) -> None:
    check = await doctor.check_arm64(load({}, home=tmp_path, arm64="emulate", builds="host"))
    assert check.ok
    assert "emulated: slow, and no security boundary" in check.detail
    assert "QEMU" in check.detail
    for builds in ("auto", "sandbox"):
        refused = await doctor.check_arm64(load({}, home=tmp_path, arm64="emulate", builds=builds))
        assert not refused.ok
        assert "EMBERBOX_BUILDS=host" in refused.remedy


async def test_a_missing_qemu_is_required_with_a_remedy(no_tools: Path) -> None:
    check = await doctor.check_qemu()
    assert not check.ok
    assert check.required
    assert "apt-get install" in check.remedy


@pytest.mark.parametrize(("version", "ok"), [("7.2.22", True), ("10.0.1", True), ("5.2.0", False)])
async def test_qemu_must_be_new_enough(no_tools: Path, version: str, ok: bool) -> None:
    write_tool(no_tools, "qemu-system-x86_64", f"echo 'QEMU emulator version {version} (Debian 1:9.9)'")
    assert (await doctor.check_qemu()).ok is ok


async def test_a_tool_that_runs_is_ok_with_its_version(no_tools: Path) -> None:
    write_tool(no_tools, "thing", "echo thing v1.28.3 >&2")
    check = await doctor.check_tool(Tool("thing", ("--version",), "things", "does things"))
    assert (check.ok, check.detail) == (True, "1.28.3 (does things)")


async def test_a_tool_that_is_broken_is_told_from_one_that_is_missing(no_tools: Path) -> None:
    write_tool(no_tools, "thing", "echo 'no such library' >&2; exit 3")
    broken = await doctor.check_tool(Tool("thing", (), "things", "does things"))
    missing = await doctor.check_tool(Tool("other", (), "others", "does others"))
    assert (broken.ok, missing.ok) == (False, False)
    assert "no such library" in broken.detail
    assert missing.detail == "not installed (does others)"


async def test_without_kvm_the_doctor_says_what_emulation_is_not(no_tools: Path) -> None:
    settings = load({"EMBERBOX_HOME": str(no_tools), "EMBERBOX_ACCELERATOR": "tcg"})
    check = await doctor.check_accelerator(settings)
    assert not check.ok
    assert not check.required
    assert "not a security boundary" in check.remedy


async def test_kvm_is_required_where_it_is_asked_for(no_tools: Path) -> None:
    settings = load({"EMBERBOX_HOME": str(no_tools), "EMBERBOX_ACCELERATOR": "kvm"})
    check = await doctor.check_accelerator(settings)  # there is no QEMU on this PATH
    assert (check.ok, check.required) == (False, True)


async def test_a_kernel_that_apt_does_not_know_has_a_remedy(no_tools: Path) -> None:
    write_tool(no_tools, "apt-cache", "exit 100")
    check = await doctor.check_kernel(no_tools)
    assert not check.ok
    assert "apt-get update" in check.remedy


async def test_a_kernel_that_is_unpacked_is_enough(no_tools: Path) -> None:
    (no_tools / "kernel" / "boot").mkdir(parents=True)
    (no_tools / "kernel" / "boot" / "vmlinuz-6.1.0-test").touch()
    check = await doctor.check_kernel(no_tools)
    assert (check.ok, check.detail) == (True, "6.1.0-test")


@pytest.mark.parametrize(("kilobytes", "ok"), [(24_000_000, True), (500_000, False)])
async def test_memory_is_what_is_available(tmp_path: Path, kilobytes: int, ok: bool) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:       99999999 kB\nMemAvailable:   {kilobytes} kB\n")
    assert (await doctor.check_memory(meminfo)).ok is ok


async def test_disk_space_is_that_of_the_home_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "not" / "made" / "yet"
    monkeypatch.setattr(doctor, "DISK_MIN_BYTES", 1)
    assert (await doctor.check_disk(home)).ok
    monkeypatch.setattr(doctor, "DISK_MIN_BYTES", 1 << 60)
    assert not (await doctor.check_disk(home)).ok
    assert not home.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes to another user")
async def test_the_vmm_users_are_tried() -> None:
    assert (await doctor.check_vmm_user(1_900_000_000)).ok
    beyond = await doctor.check_vmm_user(2**32 - 10)  # the last id of the range does not exist
    assert not beyond.ok
    assert "EMBERBOX_UID_BASE" in beyond.remedy


async def test_networks_are_required_only_where_tap_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find_obstacle() -> str:
        return "no device"

    monkeypatch.setattr(doctor, "find_obstacle", find_obstacle)
    for name, required in (("auto", False), ("tap", True)):
        check = await doctor.check_network(load({"EMBERBOX_HOME": str(tmp_path), "EMBERBOX_NETWORK": name}))
        assert (check.ok, check.required) == (False, required)


async def test_the_whole_examination_names_each_check_once(tmp_path: Path) -> None:
    checks = await doctor.examine(load({"EMBERBOX_HOME": str(tmp_path), "EMBERBOX_ACCELERATOR": "tcg"}))
    names = [check.name for check in checks]
    assert len(names) == len(set(names))
    assert {"QEMU", "buildah", "envoy", "compiled pieces", "disk"} <= set(names)
    assert all(check.remedy for check in checks if not check.ok)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)", (7, 2, 22)),
        ("mke2fs 1.47.0 (5-Feb-2023)", (1, 47, 0)),
        ("none", ()),
    ],
)
def test_versions_are_read_as_numbers(text: str, version: tuple[int, ...]) -> None:
    assert doctor.parse_version(text) == version


async def test_names_of_endpoints_that_do_not_resolve_have_a_remedy(tmp_path: Path) -> None:
    check = await doctor.check_name(load({"EMBERBOX_HOME": str(tmp_path), "EMBERBOX_DOMAIN": "ember.invalid"}))
    assert (check.ok, check.required) == (False, False)
    assert "doctor.lambda-microvm.us-east-1.ember.invalid does not resolve" in check.detail
    assert "*.lambda-microvm.us-east-1.ember.invalid" in check.remedy


async def test_trust_is_looked_at_only_where_a_server_runs(tmp_path: Path) -> None:
    settings = load({"EMBERBOX_HOME": str(tmp_path)})
    assert await doctor.check_trust(settings) == []
    (tmp_path / "runtime").mkdir()
    endpoints = tmp_path / "runtime" / "endpoints.json"
    endpoints.write_text(json.dumps({"gateway": "127.0.0.1:1", "pid": os.getpid()}))
    checks = await doctor.check_trust(settings)
    assert "trust of Python" in {check.name for check in checks}
    assert not any(check.ok or check.required for check in checks)
    assert all("emberbox env" in check.remedy for check in checks)
    endpoints.write_text("{")
    assert await doctor.check_trust(settings) == []


def found(name: str, *, ok: bool) -> doctor.Check:
    return doctor.Check(name, ok=ok, detail="")


@pytest.mark.parametrize(
    ("engine", "kvm", "gvisor", "boundary"),
    [
        ("auto", True, True, "processor"),
        ("auto", False, True, "user-space kernel"),
        ("auto", False, False, "none"),
        ("gvisor", True, True, "user-space kernel"),
        ("qemu", False, True, "none"),
    ],
)
def test_the_boundary_in_force_is_told(tmp_path: Path, engine: str, kvm: bool, gvisor: bool, boundary: str) -> None:
    settings = load({}, home=tmp_path, engine=engine)
    check = doctor.check_boundary(settings, found("KVM", ok=kvm), found("gVisor", ok=gvisor))
    assert check.detail.startswith(f"{boundary}: ")
    assert check.ok is (boundary != "none")
    assert not check.required


@pytest.mark.parametrize(
    ("engine", "accelerator", "kvm", "gvisor", "told"),
    [
        ("qemu", "auto", False, True, "emberbox:engine=gvisor: user-space kernel"),
        ("qemu", "auto", False, False, ""),
        ("gvisor", "auto", True, True, "emberbox:engine=qemu: processor"),
        ("gvisor", "auto", False, True, ""),
        ("gvisor", "tcg", False, True, "emberbox:engine=qemu: none"),
    ],
)
def test_the_boundary_of_images_that_ask_for_the_other_engine_is_told(
    tmp_path: Path, engine: str, accelerator: str, kvm: bool, gvisor: bool, told: str
) -> None:
    settings = load({}, home=tmp_path, engine=engine, accelerator=accelerator)
    detail = doctor.check_boundary(settings, found("KVM", ok=kvm), found("gVisor", ok=gvisor)).detail
    assert detail.endswith(told)
    assert bool(told) == ("emberbox:engine" in detail)


async def test_gvisor_is_not_fetched_by_the_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    check = await doctor.check_gvisor(load({}, home=tmp_path))
    assert (check.ok, check.required) == (True, False)
    assert "not tried" in check.detail
    assert list(tmp_path.iterdir()) == []


async def test_gvisor_that_does_not_work_is_missing_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    write_tool(tmp_path, "runsc", "echo runsc version 0.0~20221219.0")
    for engine, required in (("gvisor", True), ("auto", False)):
        settings = load({}, home=tmp_path, engine=engine, runsc=str(tmp_path / "runsc"))
        check = await doctor.check_gvisor(settings)
        assert (check.ok, check.required) == (False, required)
        assert "is the oldest that works" in check.detail


def test_gvisor_without_networks_counts_where_it_is_asked_for_only(tmp_path: Path) -> None:
    for engine, boundary in (("auto", "none"), ("gvisor", "user-space kernel")):
        settings, works = load({}, home=tmp_path, engine=engine), found("gVisor", ok=True)
        check = doctor.check_boundary(settings, found("KVM", ok=False), works, has_networks=False)
        assert check.detail.startswith(f"{boundary}: ")


@pytest.mark.parametrize(("uid", "lost"), [(0, False), (1000, True)])
async def test_what_an_ordinary_user_has_less_of_gvisor_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, lost: bool
) -> None:
    async def works(_driver: object) -> str:
        return ""

    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(doctor, "try_driver", works)
    write_tool(tmp_path, "runsc", "echo runsc version 0.0~20240729.0")
    check = await doctor.check_gvisor(load({}, home=tmp_path, runsc=str(tmp_path / "runsc")))
    assert check.ok
    assert ("guests reach NOTHING outside" in check.detail) is lost


@pytest.mark.parametrize("there", [True, False])
def test_what_limits_sandboxes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    places = [Place(tmp_path, ("memory", "cpu", "pids") if there else ("pids",), unified=True)]
    monkeypatch.setattr(doctor, "find_places", lambda: places)
    check = doctor.check_limits(load({}, home=tmp_path))
    assert check.ok is there
    assert ("a guest's memory, processors" in check.detail) is not there
    assert "Delegate=yes" in check.remedy


@pytest.mark.parametrize(("builds", "required"), [("auto", False), ("sandbox", True)])
async def test_why_dockerfiles_are_built_on_the_host_is_told(tmp_path: Path, builds: str, required: bool) -> None:
    """Sandboxes need networks of their own; who asks for nothing else is warned only."""
    settings = load({}, home=tmp_path, builds=builds, network="user")
    check = await doctor.check_builds(settings, await doctor.find_lack_of_networks(settings))
    assert not check.ok
    assert check.required is required
    assert "sandboxes need root" in check.detail
    assert ("as trusted as this server" in check.detail) is not required
    assert "EMBERBOX_BUILDS=host" in check.remedy


async def test_builds_that_were_put_on_the_host_are_no_problem(tmp_path: Path) -> None:
    check = await doctor.check_builds(load({}, home=tmp_path, builds="host"), "")
    assert check.ok
    assert "as trusted as this server" in check.detail
