"""What a Dockerfile says is what runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import httpx
import pytest

from support.guests import Gateway, Microvm
from support.images import Image, ImageMaker, probe_files

pytestmark = pytest.mark.vm

DOCKERFILE = """\
ARG BASE=emberbox/debian:12
FROM ${BASE} AS maker
ARG WORD=default
RUN mkdir /made && echo "made with ${WORD}" > /made/word && echo secret > /made/not-copied

FROM ${BASE}
ARG WORD=argument
ENV GREETING="hello world" FROM_ARG=${WORD} OVERRIDDEN=dockerfile
RUN useradd --uid 4321 --create-home worker && groupadd --gid 999 extra && usermod -aG extra worker \\
 && install -d -o worker /data
COPY --from=maker /made/word /srv/word
COPY --chown=worker probe.pl /srv/
WORKDIR /srv/deeper/place
USER worker
HEALTHCHECK CMD false
EXPOSE 8080/tcp
ENTRYPOINT ["perl", "/srv/probe.pl"]
CMD ["one", "two words"]
"""


@pytest.fixture(scope="module")
def built(images: ImageMaker) -> Iterator[Image]:
    variables = {"OVERRIDDEN": "image", "ONLY_IMAGE": "yes"}
    image = images.start("dockerfile", probe_files(DOCKERFILE), environmentVariables=variables)
    yield images.wait_created(image)
    images.delete(image)


@pytest.fixture(scope="module")
def guest(gateway: Gateway, built: Image) -> Iterator[Microvm]:
    microvm = Microvm.launch(gateway, built)
    microvm.wait_state("RUNNING")
    yield microvm
    microvm.terminate()
    microvm.wait_ended()


def test_user_and_groups_are_honoured(guest: Microvm) -> None:
    """USER names the user; its supplementary groups come from the image."""
    assert guest.shell("id") == "uid=4321(worker) gid=4321(worker) groups=4321(worker),999(extra)\n"


def test_the_working_directory_is_honoured(guest: Microvm) -> None:
    """WORKDIR is where the application runs."""
    assert guest.shell("pwd").strip() == "/srv/deeper/place"


def test_entrypoint_and_cmd_are_joined(guest: Microvm) -> None:
    """ENTRYPOINT and CMD make one command line, each argument whole."""
    assert guest.shell("tr '\\0' '|' < /proc/$PPID/cmdline") == "perl|/srv/probe.pl|one|two words|"


def test_variables_come_from_the_dockerfile_and_the_image(guest: Microvm) -> None:
    """ENV and ARG are in the environment; environmentVariables of the image come on top."""
    variables = dict(line.split("=", 1) for line in guest.shell("env").splitlines() if "=" in line)
    wanted = {
        "GREETING": "hello world",
        "FROM_ARG": "argument",
        "OVERRIDDEN": "image",
        "ONLY_IMAGE": "yes",
        "HOME": "/home/worker",
    }
    assert {name: variables.get(name) for name in wanted} == wanted
    assert not [name for name in variables if "SECRET" in name or "ACCESS_KEY" in name]


def test_only_what_the_last_stage_copies_is_there(guest: Microvm) -> None:
    """A multi-stage build ends with the last stage's files."""
    assert guest.shell("cat /srv/word").strip() == "made with default"
    assert guest.shell_code("test -e /made") == 1


def test_the_application_has_no_more_rights_than_a_container(guest: Microvm) -> None:
    """An unprivileged user holds no capability, and /proc/sys is read-only."""
    effective = guest.shell("grep CapEff /proc/self/status").split()[1]
    assert int(effective, 16) == 0
    assert guest.shell_code("touch /root/x") != 0
    assert guest.shell_code("echo 1 > /proc/sys/kernel/panic") != 0


def test_the_root_file_system_is_writable_and_copy_on_write(guest: Microvm) -> None:
    """The application writes where its user may; the base lies read-only below."""
    assert guest.shell("echo mine > /home/worker/file && cat /home/worker/file").strip() == "mine"
    assert guest.shell("stat -f -c %T /").strip() == "overlayfs"


def test_all_capabilities_are_given_on_request_and_a_panic_ends_the_microvm(
    raw_image: Callable[..., Image], launch: Callable[..., Microvm]
) -> None:
    """With additionalOsCapabilities ALL root may mount, which it may not by default, and crash its own kernel.

    That harms itself alone: TERMINATED, with a reason that says what happened.
    """
    image = raw_image("capable", probe_files(), additionalOsCapabilities=["ALL"])
    microvm = launch(image)
    assert microvm.shell_code("mkdir -p /data/m && mount -t tmpfs none /data/m") == 0
    with contextlib.suppress(AssertionError, httpx.HTTPError):  # no answer comes any more
        microvm.shell("echo c > /proc/sysrq-trigger")
    assert "the guest's kernel panicked" in microvm.wait_ended()


def test_a_container_may_not_mount_by_default(probe: Microvm) -> None:
    """Without additionalOsCapabilities even root may not mount."""
    assert probe.shell_code("mkdir -p /data/m && mount -t tmpfs none /data/m") != 0


def test_without_all_capabilities_no_module_is_loaded(probe: Microvm) -> None:
    """Neither by root of the application nor by the kernel on behalf of anybody: it has no modules, and none to ask."""
    before = probe.shell("cat /proc/modules")
    assert probe.shell("cat /proc/sys/kernel/modprobe").strip() == "/sbin/modprobe"
    assert probe.shell_code("test -e /lib/modules/$(uname -r)") == 1
    assert probe.shell_code("perl -MSocket -e 'socket(my $s, PF_INET, SOCK_STREAM, 132) or exit 3'") == 3
    assert probe.shell("cat /proc/modules") == before
