"""The ladder of fixtures: server, images, a running microVM, a suspended one.

A test that asks for any of them runs real microVMs. Nothing here is ever skipped: a machine that cannot run them
fails, with the server's own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from support import engines
from support.aws import Clients
from support.guests import Gateway, Microvm
from support.images import (
    ALL_HOOKS,
    FOUR_PROCESSORS,
    READY_HOOK,
    Image,
    ImageMaker,
    example_files,
    probe_files,
    protocols_files,
)
from support.server import DOMAIN, Server, make_home, save, save_layers, seed_layers
from support.shell import ingress
from support.unfit import GVISOR, find_unfit, skip_unfit

# No test asserts how long something takes; neither does Hypothesis, whose own deadline is 200 ms an example.
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")

Launch = Callable[..., Microvm]


APART = (
    "tests/vm/test_vm_sandboxed_builds.py",
    "tests/vm/test_vm_restart.py",
    "tests/vm/test_vm_randomness.py",
    "tests/vm/test_vm_build_authorities.py",
    "tests/vm/test_vm_arm.py",
    "tests/vm/test_vm_dockerfile_reference.py",
    "tests/vm/test_vm_build_leftovers.py",
    "tests/vm/test_vm_e2b_templates.py",
    "tests/vm/test_vm_import.py",
    "tests/vm/test_vm_user_gvisor.py",
    "tests/vm/test_vm_names.py",
    "tests/vm/test_vm_chaos.py",
    "tests/vm/test_vm_full_disk.py",
    "tests/vm/test_vm_engines.py",
    "tests/vm/test_vm_stand_in.py",
    "tests/vm/test_vm_aws_names.py",
    "tests/conformance/test_conformance_quickstart.py",
    "tests/vm/test_vm_gvisor_attacks.py",
)
"""They have servers of their own, or images that nobody else needs; the longest first."""

WITH_CONFORMANCE = tuple(
    f"tests/vm/test_vm_{name}.py" for name in ("cage", "cp", "egress", "exec", "modules", "pool", "shell")
)
"""They need no image that tests/conformance does not need, and make the two groups last equally long."""


class Scheduling(LoadScopeScheduling):
    """Three at a time where they are not in each other's way.

    Those that share a server and its images in one process: most of tests/vm, and beside them tests/conformance with
    the rest, and tests/console. The others file by file: what takes long, the examples, and the unit tests at the end,
    which are short.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file in WITH_CONFORMANCE:
            return "tests/conformance"
        return file if _is_apart(file) else file.rpartition("/")[0]


def _is_apart(file: str) -> bool:
    return file.startswith(("tests/unit/", "tests/examples/")) or file in APART


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders, then with what takes long: what is short fills the gaps at the end."""

    def turn(item: pytest.Item) -> tuple[bool, bool, int]:
        file = item.nodeid.partition("::")[0]
        return _is_apart(file), file.startswith("tests/unit/"), APART.index(file) if file in APART else len(APART)

    items.sort(key=turn)
    if engines.NAME == "gvisor":
        skip_unfit(items, GVISOR, "not on gVisor")
        return
    for item, _ in find_unfit(items, GVISOR):
        item.add_marker(pytest.mark.not_on_gvisor)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Let pytest-xdist hand out the tests in that way."""
    return Scheduling(config, log)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server that all tests share, with a domain of its own; when it stops, nothing of it may be left."""
    server = Server(make_home(), domain=DOMAIN, e2b="on", daytona="on")
    seed_layers(server.home)
    with server.running():
        yield server


@pytest.fixture(scope="session")
def clients(server: Server) -> Clients:
    return Clients.of(server)


@pytest.fixture(scope="session")
def images(server: Server, clients: Clients) -> ImageMaker:
    return ImageMaker(clients, server.endpoints["region"])


@pytest.fixture(scope="session")
def gateway(server: Server, clients: Clients) -> Iterator[Gateway]:
    gateway = Gateway(server, clients)
    yield gateway
    gateway.close()


@pytest.fixture(scope="session")
def started_images(request: pytest.FixtureRequest, images: ImageMaker) -> dict[str, Image]:
    """The images that most tests use, their builds begun together, as far as any test that is run asks for them."""
    files = {"probe": (probe_files(), ALL_HOOKS), "flask": (example_files("flask"), READY_HOOK)}
    asked_for = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    return {
        name: images.start(name, content, hooks=hooks)
        for name, (content, hooks) in files.items()
        if f"{name}_image" in asked_for
    }


@pytest.fixture(scope="session")
def more_started_images(images: ImageMaker) -> dict[str, Image]:
    """The images that fewer tests use."""
    return {
        "express": images.start("express", example_files("express"), hooks=READY_HOOK),
        "protocols": images.start(
            "protocols", protocols_files(), hooks={**READY_HOOK, "port": 8080}, resources=FOUR_PROCESSORS
        ),
    }


@pytest.fixture(scope="session")
def probe_image(images: ImageMaker, started_images: dict[str, Image], server: Server) -> Image:
    image = images.wait_created(started_images["probe"])
    save(server.home)
    return image


@pytest.fixture(scope="session")
def flask_image(images: ImageMaker, started_images: dict[str, Image], server: Server) -> Image:
    return _wait_and_keep(images, started_images["flask"], server, example_files("flask"))


@pytest.fixture(scope="session")
def express_image(images: ImageMaker, more_started_images: dict[str, Image], server: Server) -> Image:
    return _wait_and_keep(images, more_started_images["express"], server, example_files("express"))


@pytest.fixture(scope="session")
def protocols_image(images: ImageMaker, more_started_images: dict[str, Image], server: Server) -> Image:
    return _wait_and_keep(images, more_started_images["protocols"], server, protocols_files())


def _wait_and_keep(images: ImageMaker, image: Image, server: Server, files: Mapping[str, str | bytes]) -> Image:
    """Wait for a build, and keep its layers for the next server that builds the same."""
    images.wait_created(image)
    save_layers(server.home, files["Dockerfile"])
    return image


@pytest.fixture
def launch(gateway: Gateway) -> Iterator[Launch]:
    """Launches microVMs and waits until they run; terminates them at the end."""
    launched: list[Microvm] = []

    def run(image: Image, *, wait: bool = True, **parameters: Any) -> Microvm:
        microvm = Microvm.launch(gateway, image, **parameters)
        launched.append(microvm)
        if wait:
            microvm.wait_state("RUNNING")
        return microvm

    yield run
    for microvm in launched:
        microvm.terminate()
    for microvm in launched:
        microvm.wait_ended()


@pytest.fixture
def microvm(launch: Launch, flask_image: Image) -> Microvm:
    """A running microVM of the Flask example."""
    return launch(flask_image)


@pytest.fixture
def probe(launch: Launch, probe_image: Image) -> Microvm:
    """A running microVM of the probe image, with every hook enabled."""
    return launch(probe_image)


@pytest.fixture(scope="session")
def shell_microvm(gateway: Gateway, probe_image: Image, server: Server) -> Iterator[Microvm]:
    """A running microVM of the probe image that lets shells and requests in, shared by all tests."""
    connectors = ingress(server.endpoints["region"], "SHELL_INGRESS", "HTTP_INGRESS")
    microvm = Microvm.launch(gateway, probe_image, ingressNetworkConnectors=connectors)
    microvm.wait_state("RUNNING")
    yield microvm
    microvm.terminate()
    microvm.wait_ended()


@pytest.fixture
def suspended_microvm(microvm: Microvm) -> Microvm:
    """A suspended microVM of the Flask example that has answered one request."""
    assert microvm.get()["count"] == 1
    microvm.suspend()
    return microvm


@pytest.fixture
def raw_image(images: ImageMaker) -> Iterator[Callable[..., Image]]:
    """Builds a special image from files; deletes it at the end."""
    built: list[Image] = []

    def build(name: str, files: dict[str, str | bytes], **parameters: Any) -> Image:
        image = images.start(name, files, **parameters)
        built.append(image)
        return images.wait_created(image)

    yield build
    for image in built:
        images.delete(image)
