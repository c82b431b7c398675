"""No two clones draw the same random numbers, not even from a process that had drawn before the snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.aws import Clients
from support.guests import Gateway, Microvm
from support.images import READY_HOOK, Image, ImageMaker, randomness_files
from support.waiting import wait_for

pytestmark = pytest.mark.vm

Launch = Callable[..., Microvm]
CLONES = 10
LANGUAGES = {"python", "node", "ruby", "php", "perl", "java"}
HOOKS = {"port": 8080, "microvmImageHooks": {**READY_HOOK["microvmImageHooks"], "readyTimeoutInSeconds": 300}}


@pytest.fixture(scope="module")
def image(images: ImageMaker) -> Iterator[Image]:
    """Long-lived processes of six languages, all of which have drawn before the snapshot."""
    image = images.build("randomness", randomness_files(), hooks=HOOKS)
    yield image
    images.delete(image)


@pytest.fixture
def fork(gateway: Gateway, clients: Clients) -> Iterator[Callable[[Microvm, int], list[Microvm]]]:
    """Forks a microVM and waits until the forks run; terminates them at the end."""
    forks: list[Microvm] = []

    def run(source: Microvm, count: int) -> list[Microvm]:
        answer = clients.emberbox.fork_microvm(microvmIdentifier=source.id, count=count)
        forks.extend(Microvm(item["microvmId"], item["endpoint"], gateway) for item in answer["items"])
        for microvm in forks:
            microvm.wait_state("RUNNING", timeout_s=120)
        return forks

    yield run
    for microvm in forks:
        microvm.terminate()
    for microvm in forks:
        microvm.wait_ended()


def draw(microvms: Sequence[Microvm]) -> list[dict[str, Any]]:
    """Let all of them draw, at the same time."""
    with ThreadPoolExecutor(len(microvms)) as threads:
        return list(threads.map(Microvm.get, microvms))


def pooled_images(clients: Clients) -> set[str]:
    """Return the images of which the warm pool has a microVM."""
    return {row["imageArn"] for row in clients.emberbox.describe_host()["pooledMicrovms"]}


def assert_distinct(answers: list[dict[str, Any]]) -> None:
    """Every generator gave a value of its own in each answer."""
    drawn = [answer["drawn"] for answer in answers]
    assert {name.split()[0] for name in drawn[0]} == LANGUAGES
    repeated = [name for name in drawn[0] if len({values[name] for values in drawn}) < len(drawn)]
    assert not repeated, f"the same in more than one microVM: {repeated}"


def test_launches_of_one_image_draw_different_numbers(launch: Launch, image: Image, clients: Clients) -> None:
    """Those from the warm pool too."""
    first = launch(image)
    wait_for("a microVM is prepared", lambda: image.arn in pooled_images(clients), 60)
    more = [launch(image, wait=False) for _ in range(CLONES - 1)]
    for microvm in more:
        microvm.wait_state("RUNNING", timeout_s=120)
    answers = draw([first, *more])
    assert_distinct([first.get("/before"), *answers])
    assert {answer["generation"] for answer in answers} != {1}, "AWS-LC is not told of the launch"


def test_forks_of_one_microvm_draw_different_numbers(launch: Launch, image: Image, fork: Callable[..., Any]) -> None:
    source = launch(image)
    (before,) = draw([source])
    forks = fork(source, CLONES)
    answers = draw([source, *forks])
    assert_distinct([before, *answers])
    assert all(answer["generation"] > before["generation"] for answer in answers[1:])


def test_a_microvm_draws_different_numbers_after_each_rollback(launch: Launch, image: Image, clients: Clients) -> None:
    microvm = launch(image)
    taken = clients.emberbox.snapshot_microvm(microvmIdentifier=microvm.id, status="INACTIVE")
    answers = draw([microvm])
    for _ in range(2):
        clients.emberbox.restore_microvm(microvmIdentifier=microvm.id, imageVersion=taken["imageVersion"])
        answers += draw([microvm])
    assert_distinct(answers)
