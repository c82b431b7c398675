"""Images of gVisor guests that are built in sandboxes: the agent is in them, and gVisor can read every file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from support.aws import Clients
from support.guests import Gateway, Microvm
from support.images import ImageMaker, probe_files
from support.server import Server, make_home

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes of builds need networks of their own, which root makes"),
]

DOCKERFILE = """\
FROM emberbox/debian:12
RUN useradd --uid 4321 --create-home worker && rm /etc/issue && ln /etc/hostname /etc/hard
RUN rm -r /usr/share/perl5 && cp -a /var/lib/dpkg /copied && echo small > /srv/small
COPY --chown=worker probe.pl /srv/
USER worker
ENTRYPOINT ["perl", "/srv/probe.pl"]
"""


@pytest.fixture
def own() -> Iterator[Server]:
    with Server(make_home(), builds="auto", engine="gvisor").running() as server:
        yield server


def test_an_image_is_built_and_its_guests_run(own: Server) -> None:
    """What steps have made, changed and removed is so in the guest, over the base that is packed ahead.

    The server was asked to find out by itself where it builds.
    """
    clients = Clients.of(own)
    maker = ImageMaker(clients, own.endpoints["region"])
    image = maker.wait_created(maker.start("gvisor", probe_files(DOCKERFILE)))
    assert "Dockerfiles are built in gVisor sandboxes" in own.log_path.read_text()
    with contextlib.closing(Gateway(own, clients)) as gateway:
        microvm = Microvm.launch(gateway, image)
        microvm.wait_state("RUNNING")
        assert microvm.shell("id -un").strip() == "worker"
        assert microvm.shell("cat /srv/small").strip() == "small"
        assert microvm.shell_code("test -e /etc/issue") == 1
        assert microvm.shell_code("test -e /usr/share/perl5") == 1
        assert microvm.shell_code("diff -r /var/lib/dpkg/info /copied/info") == 0
        microvm.terminate()
        microvm.wait_ended()
