"""The operator's authorities: builds and guests trust them, and nothing of a build's own result depends on them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberbox.edges.gateway.tls.certificates import Certificates, ensure_certificates
from emberbox.host.trust_stores import find_build_authorities
from emberbox.images.authorities import IN_IMAGE
from emberbox.images.step_runtime import IN_STEP
from support import trust_probe
from support.aws import Clients
from support.build_bench import BASE, build_bench, opened
from support.guests import Gateway, Microvm
from support.images import ImageMaker, probe_files
from support.server import Server, make_home
from support.waiting import wait_for

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes of builds need networks of their own, which root makes"),
]

BUILD_TIMEOUT_S = 1200.0
"""It installs Node and pip, which takes minutes on a busy machine."""

DOCKERFILE = f"""\
FROM emberbox/debian:12
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {trust_probe.PACKAGES}
COPY trust_probe.py server.pem probe.pl /
RUN python3 /trust_probe.py /server.pem && ! env -i "PATH=$PATH" python3 /trust_probe.py /server.pem
CMD ["perl", "/probe.pl"]
"""


def make_authority(directory: Path) -> Certificates:
    """Make an authority, and with it the certificate of a server on loopback."""
    return ensure_certificates(directory, ["127.0.0.1"])


@pytest.fixture(params=["sandbox", "host"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, Certificates]]:
    made = make_authority(tmp_path)
    server = Server(make_home(), builds=request.param, build_ca=str(made.authority_path))
    try:
        server.start()
        yield server, made
    finally:
        server.remove()


def told(said: str) -> list[str]:
    """Return the lines of a run that has ended."""
    return said.splitlines() if said.endswith("ended\n") else []


def test_steps_and_guests_trust_the_operators_authorities(own: tuple[Server, Certificates]) -> None:
    """curl, pip, requests, Node and Python's ssl fetch from a server whose authority only the operator knows."""
    server, made = own
    pair = made.certificate_path.read_bytes() + made.key_path.read_bytes()
    files = {**probe_files(DOCKERFILE), "trust_probe.py": Path(trust_probe.__file__).read_bytes(), "server.pem": pair}
    clients = Clients.of(server)
    maker = ImageMaker(clients, server.endpoints["region"])
    image = maker.start("trusting", files)
    maker.wait(image, BUILD_TIMEOUT_S)
    maker.wait_created(image)
    with contextlib.closing(Gateway(server, clients)) as gateway:
        microvm = Microvm.launch(gateway, image)
        microvm.wait_state("RUNNING")
        microvm.shell("(python3 /trust_probe.py /server.pem; echo ended) > /said 2>&1 &")
        said = wait_for("all clients have asked", lambda: told(microvm.shell("cat /said")))
        assert said == [*(f"{name} trusts" for name in ("ssl", *trust_probe.CLIENTS)), "ended"]
        microvm.terminate()
        microvm.wait_ended()


def find_holders(root: Path, text: str) -> list[str]:
    """Return the files below a directory that have a text in them."""
    return subprocess.run(["grep", "-rlF", text, root], capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("on_host", [False, True])
async def test_authorities_are_in_no_layer_and_run_no_step_again(tmp_path: Path, on_host: bool) -> None:
    """Steps see them; the image that comes of the steps is the same with others, and only what is packed has them."""
    texts = [find_build_authorities(str(make_authority(tmp_path / name).authority_path)) for name in "ab"]
    dockerfile = f'{BASE}RUN cat "$SSL_CERT_FILE" && test "$SSL_CERT_FILE" = {IN_STEP}\nCMD ["true"]\n'
    async with build_bench(cache_bytes=1 << 30) as bench:
        for number, text in enumerate(texts):
            bench.trust(text)
            built = await bench.build(dockerfile, on_host=on_host)
            assert built.error is None, built.text
            assert built.config is not None
            assert built.root is not None
            was_run_again = text.splitlines()[1] in built.lines
            assert was_run_again is (on_host or number == 0)
            assert "SSL_CERT_FILE" not in dict(built.config.environment)
            assert dict(built.root.environment)["SSL_CERT_FILE"] == IN_IMAGE
            with opened(built.packed) as root:
                assert (root / IN_IMAGE[1:]).read_text() == text
                assert not os.path.lexists(root / IN_STEP[1:])
                assert find_holders(root, text.splitlines()[1]) == [f"{root}{IN_IMAGE}"]
