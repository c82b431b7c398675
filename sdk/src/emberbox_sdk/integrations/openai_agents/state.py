"""What a session is made from, and what it is found again by: both go through JSON."""

from __future__ import annotations

from typing import Literal

from agents.sandbox.session.sandbox_client import BaseSandboxClientOptions
from agents.sandbox.session.sandbox_session_state import SandboxSessionState
from pydantic import Field

BACKEND_ID: Literal["emberbox"] = "emberbox"


class EmberboxSandboxClientOptions(BaseSandboxClientOptions):
    """What microVM a session gets.

    Attributes:
        type: names this backend.
        image: name or ARN of the image; Debian with Python when missing.
        version: of the image; the newest when missing.
        env: variables of every command; those of the manifest come over them.
        exposed_ports: what may be asked for by `resolve_exposed_port`.
        pause_on_exit: suspend the microVM at the end of a run, memory and processes and all, in place of ending it.
        suspend_after_idle_s: also suspend it when nobody has spoken to it for so long; what is asked next resumes it.
        max_s: how many seconds it lives at most, up to 28,800.
        egress: ARNs of network connectors; the internet when missing.
    """

    type: Literal["emberbox"] = BACKEND_ID
    image: str | None = None
    version: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    exposed_ports: tuple[int, ...] = ()
    pause_on_exit: bool = False
    suspend_after_idle_s: int | None = None
    max_s: int | None = None
    egress: tuple[str, ...] | None = None


class EmberboxSandboxSessionState(SandboxSessionState):
    """A session as it is written down.

    Attributes:
        type: names this backend.
        sandbox_id: of the microVM.
        options: what another one is made from, when it is not there any more.
    """

    type: Literal["emberbox"] = BACKEND_ID
    sandbox_id: str
    options: EmberboxSandboxClientOptions = Field(default_factory=EmberboxSandboxClientOptions)
