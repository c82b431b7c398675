"""What runsc is told of a sandbox."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emberbox.host.runsc.bundle import (
    Bundle,
    DirectoryRoot,
    ErofsRoot,
    HostMount,
    MemoryMount,
    StoreMount,
    render,
    write_bundle,
)
from emberbox.host.runsc.command import create_line, find_version, run_line
from emberbox.host.runsc.network import Link, render_links
from emberbox.model.errors import HostError


def test_an_image_is_named_by_annotations_and_a_directory_by_its_path(tmp_path: Path) -> None:
    image = render(Bundle(["/agent"], ErofsRoot(tmp_path / "root.erofs"), {"A": "b"}))
    assert image["root"]["path"] == "rootfs"
    assert image["annotations"]["dev.gvisor.spec.rootfs.source"] == str(tmp_path / "root.erofs")
    assert image["annotations"]["dev.gvisor.spec.rootfs.overlay"] == "memory"
    assert image["process"]["env"] == ["A=b"]
    directory = render(Bundle(["/agent"], DirectoryRoot(tmp_path), {}, [HostMount(tmp_path / "in", "/in")]))
    assert directory["root"]["path"] == str(tmp_path)
    assert directory["annotations"] == {}
    assert directory["mounts"][-1]["options"] == ["rbind", "ro"]


def test_a_sandbox_never_has_a_namespace_of_the_hosts(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", Bundle(["/agent"], DirectoryRoot(tmp_path), {}))
    spaces = json.loads((tmp_path / "bundle" / "config.json").read_text())["linux"]["namespaces"]
    assert {space["type"] for space in spaces} == {"pid", "network", "ipc", "uts", "mount"}
    assert all("path" not in space for space in spaces)


def test_what_is_given_stands_in_place_of_the_usual(tmp_path: Path) -> None:
    mounts = [MemoryMount("/dev", 4096), StoreMount(tmp_path, "/store", 8192)]
    told = render(Bundle(["a"], DirectoryRoot(tmp_path), {}, mounts, limits={"RLIMIT_FSIZE": 5}, network=Path("/n")))
    assert [mount["destination"] for mount in told["mounts"]] == ["/proc", "/sys", "/dev", "/store"]
    assert told["mounts"][2]["options"] == ["mode=0755", "size=4096"]
    assert told["annotations"]["dev.gvisor.spec.mount.store.options"] == "rw,size=8192"
    assert told["process"]["rlimits"] == [{"type": "RLIMIT_FSIZE", "hard": 5, "soft": 5}]
    assert {"type": "network", "path": "/n"} in told["linux"]["namespaces"]


def test_one_without_a_network_is_told_so(tmp_path: Path) -> None:
    for has_network, flag in ((True, "--network=sandbox"), (False, "--network=none")):
        logs = tmp_path / "log", tmp_path / "panic"
        line = run_line(Path("/runsc"), tmp_path, tmp_path / "bundle", *logs, has_network=has_network)
        assert line.index(flag) < line.index("run")


def test_flags_stand_before_the_verb(tmp_path: Path) -> None:
    line = create_line(Path("/runsc"), tmp_path, tmp_path / "bundle", log_fd=7, options=["--debug"])
    assert line[0] == "/runsc"
    before, after = line[1 : line.index("create")], line[line.index("create") + 1 :]
    assert {"--platform=systrap", "--network=sandbox", "--log-fd=7", "--debug"} <= set(before)
    assert after == [f"--bundle={tmp_path / 'bundle'}", "vm"]


def test_a_link_has_go_s_forms() -> None:
    arguments, fds = render_links(Link(5, "10.0.2.15", 24, "10.0.2.2", "02:eb:00:00:00:01"))
    (link,) = arguments["FDBasedLinks"]
    assert fds == (5,)
    assert link["LinkAddress"] == "AusAAAAB"
    assert link["Routes"] == [{"Destination": {"IP": "10.0.2.0", "Mask": "////AA=="}, "Gateway": ""}]
    assert arguments["Defaultv4Gateway"]["Route"]["Gateway"] == "10.0.2.2"
    alone, none = render_links(None)
    assert "FDBasedLinks" not in alone
    assert none == ()


@pytest.mark.parametrize(
    ("says", "version"),
    [("runsc version 0.0~20240729.0", "20240729.0"), ("runsc version release-20251118.0", "20251118.0")],
)
async def test_a_version_is_a_day(tmp_path: Path, says: str, version: str) -> None:
    assert await find_version(_fake(tmp_path, says)) == version


@pytest.mark.parametrize(
    ("says", "told"), [("runsc version 0.0~20221219.0", "is the oldest"), ("something", "no version")]
)
async def test_one_that_is_too_old_is_refused(tmp_path: Path, says: str, told: str) -> None:
    with pytest.raises(HostError, match=told):
        await find_version(_fake(tmp_path, says))


def _fake(directory: Path, says: str) -> Path:
    program = directory / "runsc"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o700)
    return program
