"""Builds as the control plane sees them: what to build, where it is told, and who does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from emberbox.model.egress import EgressPolicy
from emberbox.model.hooks import Hook
from emberbox.model.iam.access import TemporaryCredentials
from emberbox.model.sizes import Size, SnapshotSizes


class LogStream(Protocol):
    """Takes lines."""

    def write(self, line: str) -> None:
        """Add a line; waits for nothing."""
        ...

    def write_all(self, lines: Sequence[str]) -> None:
        """Add lines; waits for nothing."""
        ...

    async def wait_for_room(self) -> None:
        """Wait while too many lines are not stored yet."""
        ...


class BuildLog(Protocol):
    """Where a build's lines go, each to a stream of its own by name."""

    def stream(self, name: str) -> LogStream:
        """Return a stream."""
        ...


def _no_credentials() -> None:
    return None


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What to build.

    Args:
        build_id: names scratch files, the container image and the log stream.
        image_id: whose version it is; the snapshot is kept under it.
        image_name: the image's name, for the guest's environment.
        image_arn: its ARN, for the same.
        version: the version to build.
        region: the region, for the same.
        artifact_uri: `s3://bucket/key` of the zip or of an image's archive, or `oci://registry/name:tag` of an image.
        readable_prefixes: the `s3://` prefixes that the build role may read; None for all of its account's buckets.
        account_id: whose image it is.
        size: the microVM's size.
        environment: variables of the image, over those of the Dockerfile.
        all_capabilities: additionalOsCapabilities ALL.
        ready: the hook to poll before the snapshot, None where it is not enabled.
        validate: the hook to poll in a trial microVM, None where it is not enabled.
        egress: what RUN steps and the build's microVMs may reach; None for public addresses.
        credentials: returns the build role's when the build's microVMs want them; None where it has none.
        notes: what the build's log says first.
        engine: the name of what its microVMs run on; empty is the server's own.
        on_engine: told of another engine where the Dockerfile asks for one by `FROM --platform`, and returns what the
            log says of that; None where the request has chosen.
    """

    build_id: str
    image_id: str
    image_name: str
    image_arn: str
    version: str
    region: str
    artifact_uri: str
    readable_prefixes: tuple[str, ...] | None
    account_id: str
    size: Size
    environment: Mapping[str, str]
    all_capabilities: bool
    ready: Hook | None
    validate: Hook | None
    egress: EgressPolicy | None = None
    credentials: Callable[[], TemporaryCredentials | None] = _no_credentials
    notes: tuple[str, ...] = ()
    engine: str = ""
    on_engine: Callable[[str], str] | None = None


class Builds(Protocol):
    """Builds image versions."""

    async def run(self, plan: BuildPlan, build_log: BuildLog) -> SnapshotSizes:
        """Build a version, and keep its snapshot on the machine; whatever fails, nothing half-made stays.

        Raises:
            BuildError: with the reason for the build's `stateReason`.
        """
        ...
