# Made by sdk/make_sync.py from _async/images.py; do not edit.
"""Images: from a directory or a Dockerfile in one call, with progress."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from emberbox_sdk import artifacts, wire
from emberbox_sdk._sync import platform
from emberbox_sdk._sync.client import Client
from emberbox_sdk.artifacts import Artifact
from emberbox_sdk.config import Config
from emberbox_sdk.errors import BuildError, ConfigurationError, ConflictError, DeadlineError, NotFoundError

OnProgress = Callable[[str], None]

BUILD_S: Final = 1800.0
POLL_S: Final = 0.5
LOG_LINES: Final = 30
ROLE: Final = "emberbox-build"
MEMORY_MIB: Final = 512
FIRST: Final = "1.0"


@dataclass(frozen=True, slots=True)
class Image:
    """An image that sandboxes are created from.

    Attributes:
        name: of the image.
        arn: its full name.
        version: the newest that can be launched.
    """

    name: str
    arn: str
    version: str

    @classmethod
    def build(
        cls,
        source: str | Path | None = None,
        *,
        dockerfile: str | None = None,
        name: str | None = None,
        memory_mib: int = MEMORY_MIB,
        environment: Mapping[str, str] | None = None,
        hooks: Mapping[str, Any] | None = None,
        timeout_s: float = BUILD_S,
        on_progress: OnProgress | None = None,
        client: Client | None = None,
        config: Config | None = None,
    ) -> Image:
        """Build an image, or return the one that was built from the same before.

        Args:
            source: a directory with a Dockerfile and what it copies.
            dockerfile: the text of a Dockerfile, in place of the directory's or without any directory.
            name: of the image. An image that has it already gets a further version where something has changed.
                Without a name, one is made from the contents.
            memory_mib: what sandboxes have.
            environment: variables of the application.
            hooks: as CreateMicrovmImage takes them: `{"port": 9000, "microvmImageHooks": {"ready": "ENABLED"}}`.
            timeout_s: how long it may take.
            on_progress: called with each line of the build; without it they go to standard error, on a terminal.
            client: the server; a new connection when missing.
            config: of that; from the environment when missing.

        Raises:
            BuildError: it failed; the last lines of the log are in the error.
            DeadlineError: it took longer; the build goes on.
        """
        artifact = artifacts.pack(None if source is None else Path(source), dockerfile)
        variables = dict(environment or {})
        chosen = name or artifacts.name_of(artifact, memory_mib, variables, dict(hooks or {}))
        say = on_progress or (_tell if sys.stderr.isatty() else _ignore)
        with _shared(client, config) as used:
            build = _Build(used, chosen, artifact, say, timeout_s, named_by_contents=name is None)
            built = build.run(
                {
                    "baseImageArn": f"arn:aws:lambda:{used.config.region}:aws:microvm-image:debian12-1",
                    "buildRoleArn": f"arn:aws:iam::{used.config.account_id}:role/{ROLE}",
                    "resources": [{"minimumMemoryInMiB": memory_mib}],
                    "environmentVariables": variables or None,
                    "hooks": None if hooks is None else dict(hooks),
                }
            )
        return built if name else replace(built, version=FIRST)  # later ones are checkpoints of somebody's

    @classmethod
    def default(
        cls, *, on_progress: OnProgress | None = None, client: Client | None = None, config: Config | None = None
    ) -> Image:
        """Return the image that sandboxes have when none is named: Debian with Python. It is built the first time."""
        return cls.build(dockerfile=artifacts.DEFAULT_DOCKERFILE, on_progress=on_progress, client=client, config=config)

    @classmethod
    def get(cls, name: str, *, client: Client | None = None, config: Config | None = None) -> Image:
        """Return an image by its name or ARN.

        Raises:
            NotFoundError: there is none, or none that can be launched.
        """
        with _shared(client, config) as used:
            return _read(used.call(wire.get_image(used.find_image(name))))

    def delete(self, *, client: Client | None = None, config: Config | None = None) -> None:
        """Delete the image with all its versions.

        Raises:
            ApiError: sandboxes of it have not ended yet.
        """
        with _shared(client, config) as used:
            used.call(wire.delete_image(self.arn))
            used.forget_image(self.name)


class _Build:
    """One build: uploaded, begun, and followed to its end."""

    def __init__(
        self,
        client: Client,
        name: str,
        artifact: Artifact,
        say: OnProgress,
        timeout_s: float,
        *,
        named_by_contents: bool,
    ) -> None:
        self._client = client
        self._name = name
        self._artifact = artifact
        self._say = say
        self._deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._named_by_contents = named_by_contents
        self._log: list[str] = []
        self._since_ms = 0
        self._seen: set[str] = set()

    def run(self, members: wire.Members) -> Image:
        bucket = f"emberbox-sdk-{self._client.config.account_id}"
        uri = f"s3://{bucket}/{self._artifact.key}"
        found = self._find()
        if found is not None and self._is_built_from(found, uri, members):
            return _read(found) if is_settled(found) else self._follow(found["imageArn"])
        self._upload(bucket)
        asked = {**members, "codeArtifact": {"uri": uri}}
        if found is None:
            self._say(f"building the image {self._name}")
            try:
                answer = self._client.call(wire.create_image({**asked, "name": self._name}))
            except ConflictError:  # somebody has begun the same in this instant
                return self._follow(self._client.find_image(self._name))
        else:
            self._say(f"building a further version of the image {self._name}")
            answer = self._client.call(wire.update_image(found["imageArn"], asked))
        return self._follow(str(answer["imageArn"]), str(answer["imageVersion"]))

    def _find(self) -> wire.Members | None:
        """Return the image; one whose first build has failed is removed."""
        try:
            image = self._client.call(wire.get_image(self._client.find_image(self._name)))
        except NotFoundError:
            self._client.forget_image(self._name)
            return None
        if image["state"] == "CREATE_FAILED":
            self._client.call(wire.delete_image(image["imageArn"]))
            self._wait_gone(image["imageArn"])
            return None
        return image

    def _wait_gone(self, arn: str) -> None:
        self._client.forget_image(self._name)
        with contextlib.suppress(NotFoundError):
            while True:
                self._client.call(wire.get_image(arn))
                self._check_time()
                platform.sleep(POLL_S)

    def _is_built_from(self, image: wire.Members, uri: str, members: wire.Members) -> bool:
        """Return whether the newest version was asked for in just this way."""
        if self._named_by_contents:
            return True
        version = image.get("latestActiveImageVersion") or FIRST
        built = self._client.call(wire.get_image_version(image["imageArn"], version))
        asked = {"codeArtifact": {"uri": uri}, "resources": members["resources"]}
        optional = {name: members[name] or {} for name in ("environmentVariables", "hooks")}
        return all(built.get(name) == value for name, value in asked.items()) and all(
            _given(built.get(name)) == value for name, value in optional.items()
        )

    def _upload(self, bucket: str) -> None:
        config = self._client.config
        if not config.s3_url:
            raise ConfigurationError("AWS_ENDPOINT_URL_S3 is not set", 'run `eval "$(emberbox env)"`')
        self._say(f"uploading {len(self._artifact.content) / 1024:.0f} KiB")
        with contextlib.suppress(ConflictError):  # it is there already
            self._client.call(wire.create_bucket(bucket, config.region))
        self._client.call(wire.put_object(bucket, self._artifact.key, self._artifact.content))

    def _follow(self, arn: str, version: str | None = None) -> Image:
        """Show the log of the build until the image, or this version of it, has settled."""
        while True:
            image = self._client.call(wire.get_image(arn))
            self._show_log(arn)
            if is_settled(image):
                break
            self._check_time()
            platform.sleep(POLL_S)
        newest = image.get("latestActiveImageVersion")
        if image["state"].endswith("FAILED") or not newest or (version is not None and newest != version):
            raise self._failure(arn, version or image.get("latestFailedImageVersion") or FIRST)
        return _read(image)

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            hint = "it goes on; the same call waits for it again"
            raise DeadlineError(f"the image {self._name} was not built in {self._timeout_s:g} s", hint)

    def _show_log(self, arn: str) -> None:
        group = f"/aws/lambda-microvms/{arn.rpartition(':')[2]}"
        token = ""
        with contextlib.suppress(NotFoundError):  # nothing is written yet
            while True:
                page = self._client.call(wire.filter_log_events(group, self._since_ms, token))
                for event in page.get("events", []):
                    self._show(event)
                token = page.get("nextToken") or ""
                if not token:
                    return

    def _show(self, event: wire.Members) -> None:
        if event["eventId"] in self._seen:
            return
        self._seen.add(event["eventId"])
        self._since_ms = max(self._since_ms, int(event["timestamp"]) - 2000)
        line = event["message"].rstrip()
        self._log = [*self._log[1 - LOG_LINES :], line]
        self._say(line)

    def _failure(self, arn: str, version: str) -> BuildError:
        built = self._client.call(wire.get_image_version(arn, version))
        reason = built.get("stateReason") or "the build failed"
        self._show_log(arn)
        hint = f"`emberbox logs {self._name}` has the whole log"
        last = next((line for line in reversed(self._log) if line), "")
        return BuildError(f"the image {self._name} was not built: {reason}; last: {last}", hint, tuple(self._log))


def is_settled(image: wire.Members) -> bool:
    """Return whether nothing of an image is being built or deleted."""
    return not str(image["state"]).endswith("ING")


def _given(value: Any) -> Any:
    """Return what was given, without what the server has added: empty parts."""
    if isinstance(value, dict):
        return {name: _given(part) for name, part in value.items() if part not in (None, {}, [])}
    return value or {}


@contextlib.contextmanager
def _shared(client: Client | None, config: Config | None) -> Iterator[Client]:
    """Give the client, or one that is closed with the block."""
    if client is not None:
        yield client
        return
    with Client(config) as made:
        yield made


def _read(image: wire.Members) -> Image:
    version = image.get("latestActiveImageVersion")
    if not version:
        hint = "wait for its build, or `emberbox logs` says why it failed"
        raise NotFoundError(f"the image {image['name']} has no version that can be launched", hint)
    return Image(image["name"], image["imageArn"], version)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _ignore(line: str) -> None:
    pass
