"""Ray: microVMs behind `ray.experimental.sandbox`, which Ray calls alpha (docs/frameworks.md).

Ray 2.60's own `create()` and its actor `Sandbox` make gVisor's runtime themselves and take no other, so an actor makes
`EmberboxSandboxRuntime`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, cast

from emberbox_sdk._sync.client import Client
from emberbox_sdk._sync.sandbox import Sandbox
from emberbox_sdk.config import Config
from emberbox_sdk.errors import DeadlineError, EmberboxError, NotFoundError, SandboxEndedError
from emberbox_sdk.integrations import shared
from emberbox_sdk.results import CommandResult, State

with shared.framework("ray"):
    from ray.experimental.sandbox.backend.base import BaseSandboxBackend, ExecResult, SandboxStatus
    from ray.experimental.sandbox.config import DOCKER_DEFAULT_CAPABILITIES, SandboxConfig
    from ray.experimental.sandbox.exceptions import (
        SandboxCreationError,
        SandboxError,
        SandboxExecError,
        SandboxNotFoundError,
        SandboxTimeoutError,
    )
    from ray.experimental.sandbox.runtime import SandboxRuntime

DEFAULT_IMAGE: Final = "default"
"""Names the image that `Sandbox.create()` has without one: Debian with Python."""

LIFE_S_MAX: Final = 28_800
SHELL: Final = "/bin/bash"
PUBLIC: Final[Mapping[str, Sequence[str] | None]] = {"public": None}

STATUSES: Final = {
    State.PENDING: SandboxStatus.PENDING,
    State.RUNNING: SandboxStatus.RUNNING,
    State.SUSPENDING: SandboxStatus.PENDING,
    State.SUSPENDED: SandboxStatus.PENDING,
    State.TERMINATING: SandboxStatus.TERMINATED,
    State.TERMINATED: SandboxStatus.TERMINATED,
}


@dataclass(frozen=True, slots=True)
class _Known:
    """A sandbox with what its configuration says of each command."""

    sandbox: Sandbox
    env: Mapping[str, str]
    workdir: str | None
    shell: str

    def run(self, program: Sequence[str], **more: Any) -> CommandResult:
        """Run a program as `Sandbox.run` does, with the configuration's directory and variables beneath those given.

        Raises:
            SandboxTimeoutError, SandboxNotFoundError, SandboxExecError: in place of the SDK's errors.
        """
        more["env"] = {**self.env, **(more.get("env") or {})}
        more["cwd"] = more.get("cwd") or self.workdir
        try:
            return self.sandbox.run(program, **more)
        except DeadlineError as error:
            raise SandboxTimeoutError(str(error)) from error
        except (NotFoundError, SandboxEndedError) as error:
            raise SandboxNotFoundError(str(error)) from error
        except EmberboxError as error:
            raise SandboxExecError(str(error)) from error


class EmberboxSandboxBackend(BaseSandboxBackend):
    """MicroVMs as Ray's sandboxes; a context manager that ends those that it created.

    An id is the microVM's: a backend takes those of others, too, without their environment and directory.

    Args:
        connectors: ARNs of the network connectors for each of Ray's network modes that may be asked for; None is the
            internet. Without it there is `public` alone. One that lets nothing pass is for `none`, which Ray takes
            where no mode is named (docs/network.md says how to make it).
        config: of the server; from the environment when missing.
    """

    def __init__(
        self, connectors: Mapping[str, Sequence[str] | None] = PUBLIC, *, config: Config | None = None
    ) -> None:
        super().__init__(image_manager=_NoImages())
        self._connectors = connectors
        self._client = Client(config)
        self._known: dict[str, _Known] = {}
        self._created: set[str] = set()

    def sandbox(self, sandbox_id: str) -> Sandbox:
        """Return the SDK's object for a sandbox: to suspend, resume, fork and roll it back, and for its ports.

        Raises:
            SandboxNotFoundError: there is none, or it has ended.
        """
        return self._find(sandbox_id).sandbox

    # --- what Ray asks for

    def create_sandbox(self, config: SandboxConfig) -> str:
        """Launch a microVM of the image that is named.

        Its root can always be written to, whatever `readonly` says, for nobody else has it.

        Raises:
            SandboxCreationError: it failed, or something is asked for that a microVM does not have.
            SandboxTimeoutError: it does not run in time.
        """
        _refuse_what_is_missing(config)
        if config.network not in self._connectors:
            raise SandboxCreationError(
                f"network={config.network!r} has no network connector here; "
                "give the backend one in `connectors`, or take network='public' for the internet"
            )
        ttl_s = config.ttl_seconds if config.ttl_seconds and config.ttl_seconds > 0 else None
        try:
            sandbox = Sandbox.create(
                None if config.image == DEFAULT_IMAGE else config.image,
                max_s=None if ttl_s is None else min(ttl_s, LIFE_S_MAX),
                egress=self._connectors[config.network],
                timeout_s=config.timeout_seconds,
                client=self._client,
            )
        except DeadlineError as error:
            raise SandboxTimeoutError(str(error)) from error
        except EmberboxError as error:
            raise SandboxCreationError(str(error)) from error
        self._created.add(sandbox.id)
        self._known[sandbox.id] = _Known(sandbox, dict(config.env), config.workdir, config.shell)
        if config.workdir:
            self._make_workdir(sandbox, config.workdir)
        return sandbox.id

    def delete_sandbox(self, sandbox_id: str) -> None:
        """End a microVM; one that is not there any more is no error."""
        try:
            sandbox = self._find(sandbox_id).sandbox
            sandbox.terminate()
            sandbox.close()
        except SandboxNotFoundError:
            pass
        except EmberboxError as error:
            raise SandboxError(str(error)) from error
        self._known.pop(sandbox_id, None)
        self._created.discard(sandbox_id)

    def exec_command(
        self,
        sandbox_id: str,
        command: str | list[str],
        timeout: float | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        shell: str | None = None,
        user: str | None = None,
    ) -> ExecResult:
        """Run a command to its end. Of each output 10 MiB are kept, and a last line on stderr says where that was cut.

        Args:
            sandbox_id: which one.
            command: a line for the shell, or program and arguments.
            timeout: how many seconds it may take; then it is ended.
            cwd: directory; the configuration's when missing, else the application's.
            env: variables beside the configuration's.
            shell: in place of the configuration's.
            user: whose rights it has; the application's when missing.

        Raises:
            SandboxTimeoutError, SandboxNotFoundError, SandboxExecError: as they say.
        """
        known = self._find(sandbox_id)
        program = [shell or known.shell, "-c", command] if isinstance(command, str) else command
        began = time.monotonic()
        result = known.run(program, cwd=cwd, env=env, user=user, timeout_s=timeout, keep_bytes=shared.OUTPUT_BYTES)
        errors = result.stderr
        if result.truncated:
            errors = shared.with_last_line(errors, f"emberbox: output was cut after {shared.OUTPUT_BYTES} bytes")
        return ExecResult(result.exit_code, result.stdout, errors, time.monotonic() - began)

    def write_file(self, sandbox_id: str, path: str, content: str | bytes, append: bool = False) -> None:
        """Write a file, as the application's user; missing directories are made.

        Raises:
            SandboxError: it cannot be written; the text says why.
        """
        data = content.encode() if isinstance(content, str) else content
        result = self._find(sandbox_id).run(
            shared.writing(path, append=append), stdin=shared.as_input(data), env=shared.PLAIN_WORDS
        )
        if not result.ok:
            raise SandboxError(f"Failed to write file '{path}': {result.stderr.strip()}")

    def read_file(self, sandbox_id: str, path: str) -> bytes:
        """Return what is in a file.

        Raises:
            SandboxError: there is none, or it is larger than 256 MiB.
        """
        result = self._find(sandbox_id).run(
            ["cat", "--", path], env=shared.PLAIN_WORDS, errors="surrogateescape", keep_bytes=shared.FILE_BYTES_MAX
        )
        if not result.ok:
            raise SandboxError(f"File not found or read error '{path}': {result.stderr.strip()}")
        if result.truncated:
            raise SandboxError(f"'{path}': {shared.too_large(shared.FILE_BYTES_MAX)}")
        return result.stdout.encode(errors="surrogateescape")

    def get_status(self, sandbox_id: str) -> SandboxStatus:
        """Return how a microVM is; one that is suspended is PENDING, and what nobody knows is TERMINATED.

        Raises:
            SandboxError: the server does not say.
        """
        try:
            return STATUSES[self._find(sandbox_id).sandbox.info().state]
        except (SandboxNotFoundError, NotFoundError):
            return SandboxStatus.TERMINATED
        except EmberboxError as error:
            raise SandboxError(str(error)) from error

    # --- its end

    def close(self) -> None:
        """End the microVMs that this backend created, and let go of the server."""
        with ExitStack() as stack:  # which goes on when one fails
            stack.callback(self._client.close)
            for sandbox_id in list(self._created):
                stack.callback(self.delete_sandbox, sandbox_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- how

    def _find(self, sandbox_id: str) -> _Known:
        known = self._known.get(sandbox_id)
        if known is None:
            try:
                known = _Known(Sandbox.connect(sandbox_id, client=self._client), {}, None, SHELL)
            except (NotFoundError, SandboxEndedError) as error:
                raise SandboxNotFoundError(str(error)) from error
            except EmberboxError as error:
                raise SandboxError(str(error)) from error
            self._known[sandbox_id] = known
        return known

    def _make_workdir(self, sandbox: Sandbox, workdir: str) -> None:
        try:
            sandbox.run(shared.making_directory(workdir), user="0", cwd="/", check=True)
        except EmberboxError as error:
            self.delete_sandbox(sandbox.id)
            raise SandboxCreationError(f"workdir {workdir!r}: {error}") from error


class EmberboxSandboxRuntime(SandboxRuntime):
    """Ray's runtime over microVMs, with all that it has: time to live, copies of files, asynchronous calls.

    Args:
        backend: where sandboxes are; one of its own when missing.

    Attributes:
        microvms: that backend.
    """

    def __init__(self, backend: EmberboxSandboxBackend | None = None) -> None:
        super().__init__()
        self.microvms = backend or EmberboxSandboxBackend()
        # Ray writes gVisor's class where it means any BaseSandboxBackend, and calls nothing more of it.
        self._backend = cast("Any", self.microvms)
        self._image_manager = cast("Any", self.microvms.image_manager)

    def close(self) -> None:
        """End the microVMs that this runtime created."""
        self.microvms.close()


class _NoImages:
    """Where Ray fetches a container image before it creates a sandbox; Emberbox has built its own before."""

    def pull_image(self, image: str, timeout_seconds: float = 120.0, instance_id: str | None = None) -> str:  # noqa: ARG002
        """Return the directory of an image: there is none."""
        return ""


def _refuse_what_is_missing(config: SandboxConfig) -> None:
    """Refuse what a microVM does not have, rather than run without it.

    Raises:
        SandboxCreationError: the text says what to do.
    """
    built = "an image has it from when it was built; leave it out, and take an image of the size that is needed"
    docker = "commands have the image's own, as Docker gives them; leave it out"
    connector = "a network connector says where names are asked for; leave it out"
    wrong = {
        "cpu": (bool(config.cpu), built),
        "memory": (bool(config.memory), built),
        "dns": (config.dns is not None, connector),
        "capabilities": (config.capabilities not in (None, DOCKER_DEFAULT_CAPABILITIES), docker),
        "_oci_spec_transform_fn": (config._oci_spec_transform_fn is not None, "there is no OCI bundle; leave it out"),
    }
    for name, (asked, hint) in wrong.items():
        if asked:
            raise SandboxCreationError(f"{name} is not for a microVM to choose: {hint}")
