"""Dockerfiles in sandboxes: what builds there, and what a Dockerfile that means harm gets from it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from emberbox.host.cgroups import name_prefix
from support import host
from support.build_bench import BASE, LIMITS, OTHER, BuildBench, build_bench, opened

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes of builds need networks of their own, which root makes"),
]

END = 'CMD ["sleep", "infinity"]\n'
AWS = "public.ecr.aws/lambda/microvms:al2023-minimal"


@pytest.fixture
async def bench() -> AsyncIterator[BuildBench]:
    async with build_bench() as bench:
        yield bench
        assert host.processes_of(bench.home) == []


@pytest.fixture
async def caching() -> AsyncIterator[BuildBench]:
    async with build_bench(cache_bytes=1 << 30) as bench:
        yield bench


DOCKERFILE_OF_TODAY = f"""\
# syntax=docker/dockerfile:1
FROM --platform=linux/arm64 emberbox/debian:12 AS maker
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN if false | true; then exit 3; fi; echo $BASH_VERSION > /bash
RUN <<EOT
set -e
mkdir -p /srv/www
echo one > /srv/www/a
EOT
COPY --chmod=640 <<EOT /srv/www/index.html
hello from a heredoc
EOT
ADD archive.tar /unpacked/
FROM emberbox/debian:12
COPY --link --from=maker /srv/www /www
COPY --link --from=maker /bash /bash
COPY --chmod=755 --chown=33 one /x/one
RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --mount=type=bind,source=one,target=/one \\
    --mount=type=secret,id=absent touch /c/x /t/x && cp /one /copied
RUN --network=none ! ls /sys/class/net | grep -q eth
RUN rm /usr/bin/curl /etc/issue && mkdir /gone && rmdir /gone && ln -s one /x/link && ln /www/a /www/hard
HEALTHCHECK CMD false
USER www-data
{END}"""


async def test_a_dockerfile_of_today_builds(bench: BuildBench) -> None:
    """What BuildKit's reference has, in one file; and the files are what they should be."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("inside"))
    built = await bench.build(DOCKERFILE_OF_TODAY, {"archive.tar": buffer.getvalue(), "one": b"1"})
    assert built.error is None, built.text
    assert built.config is not None
    assert built.config.arguments == ("sleep", "infinity")
    assert built.root is not None
    assert (built.root.user.uid, built.root.user.home) == (33, "/var/www")
    for note in ("# syntax=docker/dockerfile:1 is not fetched", "--platform=linux/arm64 is ignored", "HEALTHCHECK has"):
        assert note in built.text
    with opened(built.packed) as root:
        assert (root / "www/index.html").read_text() == "hello from a heredoc\n"
        assert (root / "www/index.html").stat().st_mode & 0o777 == 0o640
        assert (root / "x/one").stat().st_uid == 33
        assert (root / "www/hard").stat().st_ino == (root / "www/a").stat().st_ino
        assert (root / "copied").read_text() == "1"
        assert [name for name in ("gone", "usr/bin/curl", "etc/issue") if (root / name).exists()] == []
        assert (root / "usr/bin/perl").stat().st_mode & 0o111
        assert (root / "etc/shadow").stat().st_mode & 0o777 == 0o640
        assert [path for path in root.rglob("*") if path.name.startswith(".wh.")] == []


@pytest.mark.parametrize(
    "dockerfile",
    [
        f"FROM --platform=linux/arm64 {AWS}\n{END}",
        f"FROM {AWS}@sha256:{'05cb9b38' * 8}\n{END}",
        f"\ufeff{BASE}# comment\r\nENV A=1 \\\r\n    B=2\r\nRUN test $A$B = 12\r\n{END}",
        f"{BASE}ADD --checksum=sha256:{'0' * 64} http://192.0.2.1/x /x\n",
    ],
)
async def test_names_and_encodings(bench: BuildBench, dockerfile: str) -> None:
    """Bases of another platform, pinned ones, files of Windows editors; what cannot be had fails with a word on it.

    The host's builder takes the same names.
    """
    built = await bench.build(dockerfile)
    if "ADD" in dockerfile:
        assert built.error is not None
        assert "192.0.2.1" in built.text
        return
    assert built.error is None, built.text
    on_host = await bench.build(dockerfile, on_host=True)
    assert on_host.error is None, on_host.text


@pytest.mark.parametrize("on_host", [False, True])
async def test_modules_are_packed_where_links_of_the_image_lead(
    on_host: bool, bench: BuildBench, tmp_path: Path
) -> None:
    """Also where one names an absolute path; nothing is written outside of the image."""
    modules = tmp_path / "6.1.0-x"
    (modules / "kernel/net").mkdir(parents=True)
    (modules / "kernel/net/one.ko").write_bytes(b"a module")
    (modules / "modules.dep").write_text("kernel/net/one.ko:\n")
    place = f"/srv/of-{tmp_path.name}"
    dockerfile = f"{BASE}RUN mkdir {place} && ln -s {place} /lib/modules\n{END}"
    built = await bench.build(dockerfile, on_host=on_host, modules=modules)
    assert built.error is None, built.text
    assert not Path(place).exists()
    with opened(built.packed) as root:
        packed = root / place[1:] / "6.1.0-x"
        assert {str(path.relative_to(packed)) for path in packed.rglob("*") if path.is_file()} == {
            "kernel/net/one.ko", "modules.dep",
        }  # fmt: skip
        assert (packed / "kernel/net/one.ko").read_bytes() == b"a module"
        status = (packed / "kernel/net/one.ko").stat()
        assert (status.st_uid, status.st_mode & 0o777) == (0, 0o644)
        assert (packed / "kernel").stat().st_mode & 0o777 == 0o755


async def test_no_way_out_of_a_build_leads_to_the_host(bench: BuildBench) -> None:
    """Each once led to the host's files, or would have: a link of an earlier stage, a name of a cache, processes."""
    canary = bench.home / "canary"
    canary.write_text("a secret of the host")
    built = await bench.build(f"""\
FROM emberbox/debian:12 AS base
RUN ln -s / /rootdir
FROM emberbox/debian:12
RUN --mount=type=bind,from=base,source=/rootdir,destination=/exploit,rw \\
    cat /exploit{canary}; echo x > /exploit{bench.home}/written; cat {canary}; cat /proc/[0-9]*/root{canary}; true
RUN --mount=type=cache,id=../../../..{bench.home}/cache,target=/c echo x > /c/marker
RUN mknod /dev/disk b 254 0 && cat /dev/disk | head -c 10 | xxd; unshare -Urm id; mount -t tmpfs t /mnt; \\
    ls /proc | grep -c '^[0-9]'; cat /proc/cmdline /proc/version; dmesg | head -3; true
{END}""")
    assert built.error is None, built.text
    assert "a secret of the host" not in built.text
    assert sorted(path.name for path in bench.home.iterdir() if path.name in ("written", "cache")) == []
    assert Path("/proc/version").read_text().split()[2] not in built.text, "not the host's kernel"


@pytest.mark.parametrize("base", ["oci:/srv/oci:x", "dir:/srv", "docker-archive:/srv/x", "containers-storage:x", "f8f"])
async def test_a_base_is_a_name_of_an_image(bench: BuildBench, base: str) -> None:
    """A path of the host is none, and neither is the beginning of a layer's number."""
    built = await bench.build(f"FROM {base}\n{END}")
    assert built.error is not None
    assert built.error.reason == "CONTAINER_BUILD_FAILED"


async def test_a_network_like_a_microvms(bench: BuildBench) -> None:
    """The host, other microVMs and the cloud's own addresses are out of reach."""
    tries = "; ".join(
        f"timeout 5 bash -c 'exec 3<>/dev/tcp/{address}' && echo REACHED-IT"
        for address in (f"{host.outer_address()}/22", "10.213.0.0/22", "169.254.169.254/80", "127.0.0.1/9070")
    )
    built = await bench.build(f"{BASE}RUN {tries}; echo tried-all\n{END}")
    assert built.error is None, built.text
    assert "tried-all" in built.lines
    assert "REACHED-IT" not in built.lines


async def test_a_full_disk_is_the_builds_own() -> None:
    """A step that writes without end fails; the host's disk has lost no more than the limit, and gets it back."""
    async with build_bench(replace(LIMITS, disk_bytes=1 << 30)) as bench:
        built = await bench.build(f"{BASE}RUN cat /dev/zero > /big\n{END}")
        assert built.error is not None
        assert built.error.reason == "DISK_STORAGE_FULL"
        assert "EMBERBOX_BUILD_DISK_BYTES" in built.error.detail


async def test_memory_without_end_ends_the_build() -> None:
    async with build_bench(replace(LIMITS, memory_bytes=700 << 20)) as bench:
        grow = "perl -e 'my @a; while (1) { push @a, q(x) x (32 << 20) }'"
        built = await bench.build(f"{BASE}RUN {grow}\n{END}")
        assert built.error is not None
        assert "more than 700 MiB of memory" in built.error.detail
        assert host.processes_of(bench.home) == []


async def test_a_fork_bomb_harms_the_build_alone() -> None:
    """It is ended when it has too many processes; none is left on the host, and no control group."""
    async with build_bench(replace(LIMITS, processes=100)) as bench:
        built = await bench.build(f"{BASE}RUN for i in $(seq 5000); do sleep 1000 & done; wait\n{END}")
        assert built.error is not None, built.text
        assert "100 processes at once" in built.error.detail
        assert host.processes_of(bench.home) == []
        assert groups_of(bench) == []


def groups_of(bench: BuildBench) -> list[Path]:
    """Return the control groups of its builds."""
    found = (Path(top, name) for top, below, _ in os.walk("/sys/fs/cgroup") for name in below)  # some go meanwhile
    return [path for path in found if path.name.startswith(name_prefix(bench.home))]


async def test_many_processes_do_no_harm() -> None:
    """As many as a parallel compilation has, on a small disk too."""
    async with build_bench(replace(LIMITS, disk_bytes=2 << 30)) as bench:
        built = await bench.build(f"{BASE}RUN for i in $(seq 500); do sleep 30 & done; wait; echo all-there\n{END}")
        assert built.error is None, built.text
        assert "all-there" in built.lines


async def test_apt_is_as_quick_as_in_dockers_images_and_still_checks_signatures(bench: BuildBench) -> None:
    steps = """\
RUN apt-get update && ls /var/lib/apt/lists && apt-cache policy python3-flask
RUN rm -r /var/lib/apt/lists/* /etc/apt/trusted.gpg.d/* && ! apt-get update
"""
    built = await bench.build(BASE + steps + END)
    assert built.error is None, built.text
    assert re.search(r"bookworm_main_binary-amd64_Packages\.lz4$", built.text, re.MULTILINE)
    assert not re.search(r"Translation-", built.text)
    assert re.search(r"NO_PUBKEY|not signed", built.text), built.text


async def test_processor_time_is_bounded() -> None:
    """The kernel holds up a build that wants more processors than it may have, and the host's others go on."""
    async with build_bench(replace(LIMITS, processors=0.3)) as bench:
        busy = "for i in 1 2 3; do timeout 5 sh -c 'while :; do :; done' & done; wait; true"
        building = asyncio.create_task(bench.build(f"{BASE}RUN {busy}\n{END}"))
        held_up = 0
        while not building.done():
            held_up = max([held_up, *map(throttled, groups_of(bench))])
            await asyncio.sleep(0.2)
        assert (await building).error is None
        assert held_up > 0


def throttled(group: Path) -> int:
    """Return how often a control group was held up."""
    with contextlib.suppress(OSError):  # its build has ended, or it is one of another controller
        for line in (group / "cpu.stat").read_text().splitlines():
            if line.startswith("nr_throttled "):
                return int(line.split()[1])
    return 0


async def test_a_build_that_takes_too_long_is_ended() -> None:
    async with build_bench(replace(LIMITS, timeout_s=40)) as bench:
        built = await bench.build(f"{BASE}RUN sleep 1000\n{END}")
        assert built.error is not None
        assert "did not finish within" in built.error.detail
        assert host.processes_of(bench.home) == []


async def test_layers_are_kept_for_the_account_and_for_nobody_else(caching: BuildBench) -> None:
    """The second build of an account runs no step again; another account's runs all, and sees no cache of the first."""
    step = "RUN --mount=type=cache,target=/shared cat /shared/left || true; echo of-the-first > /shared/left\n"
    first = await caching.build(f"{BASE}{step}{END}")
    assert first.error is None, first.text
    assert "CACHED" not in first.text
    again = await caching.build(f"{BASE}{step}{END}")
    assert "CACHED" in again.text
    shared = await caching.build(f"{BASE}RUN --mount=type=cache,target=/shared cat /shared/left; true\n{END}")
    assert "of-the-first" in shared.lines
    number = next(found[1] for line in first.lines if (found := re.search(r"writing image sha256:(\w{12})", line)))
    stolen = await caching.build(f"FROM {number}\n{END}", account=OTHER)
    assert stolen.error is not None, "an image of another account was built upon"
    other = await caching.build(f"{BASE}{step}{END}", account=OTHER)
    assert other.error is None, other.text
    assert "CACHED" not in other.text
    assert "of-the-first" not in other.lines
