"""Lifecycle hooks: HTTP POSTs to the application (AWS Lambda developer guide, "Lifecycle hooks"; dossier, 3.4 and 5).

Build hooks (`/ready`, `/validate`) are polled: 503 and a refused connection mean "not yet". Runtime hooks are called
once, and only 200 is success.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid

from emberbox.guest import http
from emberbox.guest.agent import Agent
from emberbox.model.errors import BuildError, GuestError
from emberbox.model.hooks import Hook, HookFailedError

BASE_PATH = "/aws/lambda-microvms/runtime/v1"
POLL_INTERVAL_S = 0.25
_OK, _NOT_YET = 200, 503


async def call_build_hook(agent: Agent, hook: Hook) -> None:
    """Call `/ready` or `/validate` until it answers 200.

    Raises:
        BuildError: it answered with another error, or not in time.
    """
    deadline = time.monotonic() + hook.timeout_s
    while (left := deadline - time.monotonic()) > 0:
        status = await _try_build_hook(agent, hook, left)
        if status == _OK:
            return
        if status not in (None, _NOT_YET):
            kind = "server error (HTTP 5xx)" if status >= 500 else "client error (HTTP 4xx)"
            raise BuildError(
                f"{hook.title} hook check failed: the application returned a {kind} response",
                f"POST {BASE_PATH}/{hook.name} on port {hook.port} answered {status}; "
                "answer 503 while you are not ready and 200 when you are",
            )
        await asyncio.sleep(min(POLL_INTERVAL_S, left))
    raise BuildError(
        f"{hook.title} hook invocation timed out after {iso_duration(hook.timeout_s)}",
        f"POST {BASE_PATH}/{hook.name} on port {hook.port} did not answer 200 within {hook.timeout_s} s; "
        "check hooks.port, or raise the hook's timeout",
    )


async def _try_build_hook(agent: Agent, hook: Hook, left: float) -> int | None:
    """Return the answer's status, None when there was no answer."""
    headers = {"user-agent": "emberbox", "x-amzn-requestid": str(uuid.uuid4())}
    try:
        return (await http.post(agent, hook.port, f"{BASE_PATH}/{hook.name}", b"", headers, left)).status
    except (ConnectionRefusedError, TimeoutError, GuestError):
        return None


async def call_hook(agent: Agent, hook: Hook, payload: dict[str, str] | None = None) -> None:
    """Call a runtime hook once.

    Args:
        agent: the guest's.
        hook: which.
        payload: sent as JSON; None sends an empty body.

    Raises:
        HookFailedError: the answer was not 200, or did not come in time.
    """
    body = b"" if payload is None else json.dumps(payload).encode()
    headers = {} if payload is None else {"content-type": "application/json"}
    try:
        answer = await http.post(agent, hook.port, f"{BASE_PATH}/{hook.name}", body, headers, hook.timeout_s)
    except TimeoutError:
        duration = iso_duration(hook.timeout_s)
        raise HookFailedError(f"{hook.title} lifecycle hook timed out after {duration}. {_ADVICE}") from None
    except (OSError, GuestError) as error:
        raise HookFailedError(f"{hook.title} lifecycle hook failed: {error}. {_ADVICE}") from error
    if answer.status != _OK:
        raise HookFailedError(f"{hook.title} lifecycle hook returned HTTP status {answer.status}. {_ADVICE}")


_ADVICE = "Please check your hook endpoint and application logs for more details."


def iso_duration(seconds: int) -> str:
    """Return an ISO 8601 duration as AWS writes it: PT30S, PT5M, PT1H1M."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    parts = [f"{hours}H" if hours else "", f"{minutes}M" if minutes else "", f"{left}S" if left else ""]
    return "PT" + ("".join(parts) or "0S")
