"""Where the Agents SDK gets its sandboxes from."""

from __future__ import annotations

import uuid

from agents.sandbox.manifest import Manifest
from agents.sandbox.session.base_sandbox_session import BaseSandboxSession
from agents.sandbox.session.dependencies import Dependencies
from agents.sandbox.session.manager import Instrumentation
from agents.sandbox.session.sandbox_client import BaseSandboxClient
from agents.sandbox.session.sandbox_session import SandboxSession
from agents.sandbox.session.sandbox_session_state import SandboxSessionState
from agents.sandbox.snapshot import SnapshotBase, SnapshotSpec, resolve_snapshot

from emberbox_sdk._async.ports import AsyncPort
from emberbox_sdk._async.sandbox import AsyncSandbox
from emberbox_sdk.config import Config
from emberbox_sdk.errors import NotFoundError, SandboxEndedError
from emberbox_sdk.integrations.openai_agents.session import EmberboxSandboxSession
from emberbox_sdk.integrations.openai_agents.state import (
    BACKEND_ID,
    EmberboxSandboxClientOptions,
    EmberboxSandboxSessionState,
)


class EmberboxSandboxClient(BaseSandboxClient[EmberboxSandboxClientOptions]):
    """MicroVMs for `SandboxRunConfig(client=...)`.

    Args:
        config: of the server; from the environment when missing.
        instrumentation: the framework's, for events.
        dependencies: the framework's, for snapshots elsewhere.
    """

    backend_id = BACKEND_ID
    supports_default_options = True

    def __init__(
        self,
        config: Config | None = None,
        *,
        instrumentation: Instrumentation | None = None,
        dependencies: Dependencies | None = None,
    ) -> None:
        self._config = config
        self._instrumentation = instrumentation if instrumentation is not None else Instrumentation()
        self._dependencies = dependencies

    async def create(
        self,
        *,
        snapshot: SnapshotSpec | SnapshotBase | None = None,
        manifest: Manifest | None = None,
        options: EmberboxSandboxClientOptions | None = None,
    ) -> SandboxSession:
        """Launch a microVM for a new session.

        Args:
            snapshot: where the workspace is written to at the end; nowhere when missing.
            manifest: what is in the workspace at the beginning.
            options: what microVM it is.

        Raises:
            EmberboxError: it cannot be launched.
        """
        options = options or EmberboxSandboxClientOptions()
        manifest = self._validate_manifest_for_create(Manifest() if manifest is None else manifest)
        session_id = uuid.uuid4()
        sandbox = await self._launch(options)
        state = EmberboxSandboxSessionState(
            session_id=session_id,
            snapshot=resolve_snapshot(snapshot, str(session_id)),
            manifest=manifest,
            exposed_ports=options.exposed_ports,
            sandbox_id=sandbox.id,
            options=options,
        )
        return self._wrap(EmberboxSandboxSession(state, sandbox, self._config))

    async def resume(self, state: SandboxSessionState) -> SandboxSession:
        """Return a session by what was written down of it.

        Its microVM goes on where it was. When that has ended there is another one, into which the framework puts the
        workspace again, from the session's snapshot or its manifest.

        Raises:
            EmberboxError: it is not known whether it has ended, or another one cannot be launched.
        """
        if not isinstance(state, EmberboxSandboxSessionState):
            raise TypeError(f"this is the state of another client's session: {type(state).__name__}")
        state.assert_path_grants_rebound()
        try:
            sandbox = await AsyncSandbox.connect(state.sandbox_id, config=self._config)
            found = True
        except (NotFoundError, SandboxEndedError):
            sandbox = await self._launch(state.options)
            found = False
            state.sandbox_id = sandbox.id
            state.workspace_root_ready = False
        session = EmberboxSandboxSession(state, sandbox, self._config)
        session._set_start_state_preserved(found)
        return self._wrap(session)

    async def delete(self, session: SandboxSession) -> SandboxSession:
        """End a session's microVM, unless it is to be paused: the framework calls this at the end of every run."""
        inner = _inner(session)
        if not inner.ended and not inner.state.options.pause_on_exit:
            await inner.end()
        return session

    async def end(self, session: SandboxSession) -> None:
        """End a session's microVM, also one that is paused."""
        await _inner(session).end()

    async def port(self, session: SandboxSession, port: int) -> AsyncPort:
        """Return a port with the headers that let requests in, which `resolve_exposed_port` has no place for."""
        return await _inner(session).sandbox.url(port)

    def deserialize_session_state(self, payload: dict[str, object]) -> SandboxSessionState:
        """Read what `serialize_session_state` has written."""
        return self._deserialize_session_state_payload(payload, EmberboxSandboxSessionState)

    async def _launch(self, options: EmberboxSandboxClientOptions) -> AsyncSandbox:
        return await AsyncSandbox.create(
            options.image,
            version=options.version,
            max_s=options.max_s,
            suspend_after_idle_s=options.suspend_after_idle_s,
            egress=options.egress,
            config=self._config,
        )

    def _wrap(self, session: BaseSandboxSession) -> SandboxSession:
        return self._wrap_session(session, instrumentation=self._instrumentation)


def _inner(session: SandboxSession) -> EmberboxSandboxSession:
    inner = session._inner
    if not isinstance(inner, EmberboxSandboxSession):
        raise TypeError(f"this is another client's session: {type(inner).__name__}")
    return inner
