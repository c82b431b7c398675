"""Lifecycle hooks: what is called again, what fails at once, and in which words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from emberbox.guest.agent import Agent
from emberbox.guest.http import Answer
from emberbox.machine import hooks
from emberbox.machine.hooks import call_build_hook, call_hook, iso_duration
from emberbox.model.errors import BuildError, GuestError
from emberbox.model.hooks import Hook, HookFailedError

AGENT = cast("Agent", None)
ADVICE = "Please check your hook endpoint and application logs for more details."

Script = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Answers calls in turn with statuses or exceptions, the last one for ever; returns the calls."""
    monkeypatch.setattr(hooks, "POLL_INTERVAL_S", 0.001)

    def play(*answers: int | Exception) -> list[tuple[Any, ...]]:
        left, calls = list(answers), []

        async def post(
            agent: object, port: int, path: str, body: bytes, headers: dict[str, str], timeout: float
        ) -> Answer:
            calls.append((port, path, body, headers))
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            return Answer(answer, b"")

        monkeypatch.setattr(hooks.http, "post", post)
        return calls

    return play


async def test_ready_is_polled_until_it_is_200(script: Script) -> None:
    calls = script(ConnectionRefusedError(), 503, GuestError("reset"), 503, 200)
    await call_build_hook(AGENT, Hook("ready", 9000, 5))
    assert len(calls) == 5
    port, path, body, headers = calls[0]
    assert (port, path, body) == (9000, "/aws/lambda-microvms/runtime/v1/ready", b"")
    assert headers["x-amzn-requestid"] != calls[1][3]["x-amzn-requestid"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, "server error (HTTP 5xx)"), (502, "server error (HTTP 5xx)"), (404, "client error (HTTP 4xx)")],
)
async def test_another_error_fails_the_build_at_once(script: Script, status: int, kind: str) -> None:
    calls = script(status)
    with pytest.raises(BuildError) as caught:
        await call_build_hook(AGENT, Hook("ready", 9000, 5))
    assert caught.value.reason == f"Ready hook check failed: the application returned a {kind} response"
    assert len(calls) == 1


@pytest.mark.parametrize("answer", [503, ConnectionRefusedError(), TimeoutError()])
async def test_a_hook_that_is_never_ready_times_out(script: Script, answer: int | Exception) -> None:
    script(answer)
    with pytest.raises(BuildError) as caught:
        await call_build_hook(AGENT, Hook("validate", 9000, 1))
    assert caught.value.reason == "Validate hook invocation timed out after PT1S"
    assert "check hooks.port" in caught.value.detail


async def test_a_runtime_hook_is_called_once_with_its_payload(script: Script) -> None:
    calls = script(200)
    await call_hook(AGENT, Hook("run", 9000, 1), {"microvmId": "m", "runHookPayload": "ü"})
    ((_, path, body, headers),) = calls
    assert path.endswith("/run")
    assert json.loads(body) == {"microvmId": "m", "runHookPayload": "ü"}
    assert headers == {"content-type": "application/json"}


async def test_a_hook_without_payload_has_an_empty_body(script: Script) -> None:
    calls = script(200)
    await call_hook(AGENT, Hook("suspend", 9000, 1))
    assert calls[0][2:] == (b"", {})


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (500, f"Run lifecycle hook returned HTTP status 500. {ADVICE}"),
        (503, f"Run lifecycle hook returned HTTP status 503. {ADVICE}"),
        (204, f"Run lifecycle hook returned HTTP status 204. {ADVICE}"),
        (TimeoutError(), f"Run lifecycle hook timed out after PT1M. {ADVICE}"),
        (GuestError("gone"), f"Run lifecycle hook failed: gone. {ADVICE}"),
    ],
)
async def test_a_runtime_hook_fails_in_awss_words(script: Script, answer: int | Exception, text: str) -> None:
    calls = script(answer)
    with pytest.raises(HookFailedError) as caught:
        await call_hook(AGENT, Hook("run", 9000, 60))
    assert str(caught.value) == text
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "PT0S"), (30, "PT30S"), (300, "PT5M"), (90, "PT1M30S"), (3600, "PT1H"), (3661, "PT1H1M1S")],
)
def test_durations_are_iso(seconds: int, text: str) -> None:
    assert iso_duration(seconds) == text
