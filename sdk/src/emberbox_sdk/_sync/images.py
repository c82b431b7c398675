# Made by sdk/make_sync.py from _async/images.py; do not edit.
"""Images: from a directory or a Dockerfile in one call, with progress."""

from __future__ import annotations

import builtins
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
from emberbox_sdk._sync.logs import Logs
from emberbox_sdk.artifacts import Artifact, Elsewhere
from emberbox_sdk.build_log import folding
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
        uri: str | None = None,
        name: str | None = None,
        memory_mib: int | None = MEMORY_MIB,
        architecture: str | None = None,
        environment: Mapping[str, str] | None = None,
        hooks: Mapping[str, Any] | None = None,
        again: bool = False,
        timeout_s: float = BUILD_S,
        on_progress: OnProgress | None = None,
        client: Client | None = None,
        config: Config | None = None,
    ) -> Image:
        """Build an image, or return the one that was built from the same before.

        Args:
            source: a directory with a Dockerfile and what it copies.
            dockerfile: the text of a Dockerfile, in place of the directory's or without any directory.
            uri: in place of both, what is there already: a container image of a registry, `oci://registry/name:tag`, or
                in the server's S3, `s3://bucket/key`, a zip with a Dockerfile or an archive of a container image.
            name: of the image. An image that has it already gets a further version where something has changed.
                Without a name, one is made from the contents.
            memory_mib: what sandboxes have; with None, what the server gives.
            architecture: `X86_64` or `ARM_64`; the server's own when missing.
            environment: variables of the application.
            hooks: as CreateMicrovmImage takes them: `{"port": 9000, "microvmImageHooks": {"ready": "ENABLED"}}`.
            again: build also where the same was built before, as for a tag that may lead elsewhere by now.
            timeout_s: how long it may take.
            on_progress: called with each line of the build; without it what matters of them goes to standard error, on
                a terminal.
            client: the server; a new connection when missing.
            config: of that; from the environment when missing.

        Raises:
            BuildError: it failed; the last lines of the log are in the error.
            DeadlineError: it took longer; the build goes on.
            ConfigurationError: there is no Dockerfile; or `uri` is given with something else to build from.
        """
        artifact = artifacts.find(None if source is None else Path(source), dockerfile, uri)
        variables = dict(environment or {})
        settings = (memory_mib, variables, dict(hooks or {}), *([architecture] if architecture else []))
        chosen = name or artifacts.name_of(artifact, *settings)
        say = on_progress or (folding(_tell) if sys.stderr.isatty() else _ignore)
        with _shared(client, config) as used:
            build = _Build(used, chosen, artifact, say, timeout_s, named_by_contents=name is None, again=again)
            members = _ask(used.config, memory_mib, architecture) | {
                "environmentVariables": variables or None,
                "hooks": None if hooks is None else dict(hooks),
            }
            built = build.run(members)
        return built if name or again else replace(built, version=FIRST)  # later ones are checkpoints of somebody's

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

    @classmethod
    def list(cls, *, client: Client | None = None, config: Config | None = None) -> builtins.list[Image]:
        """Return the images that there are; the version of one that cannot be launched yet is empty."""
        with _shared(client, config) as used:
            found: builtins.list[Image] = []
            token = ""
            while True:
                page = used.call(wire.list_images("", token))
                found += [
                    cls(item["name"], item["imageArn"], item.get("latestActiveImageVersion") or "")
                    for item in page["items"]
                ]
                token = page.get("nextToken") or ""
                if not token:
                    return found

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
        artifact: Artifact | Elsewhere,
        say: OnProgress,
        timeout_s: float,
        *,
        named_by_contents: bool,
        again: bool,
    ) -> None:
        self._client = client
        self._name = name
        self._artifact = artifact
        self._say = say
        self._deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._named_by_contents = named_by_contents
        self._again = again
        self._log: list[str] = []
        self._logs = Logs(client, wire.log_group(name))

    def run(self, members: wire.Members) -> Image:
        bucket = f"emberbox-sdk-{self._client.config.account_id}"
        uri = self._artifact.uri(bucket)
        found = self._find()
        if found is not None and not self._again and self._is_built_from(found, uri, members):
            return _read(found) if is_settled(found) else self._follow(found["imageArn"])
        if isinstance(self._artifact, Artifact):
            self._upload(bucket, self._artifact)
        self._logs.poll()  # what earlier builds said
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
        given = ("resources", "cpuConfigurations")
        asked = {"codeArtifact": {"uri": uri}} | {name: members[name] for name in given if members[name] is not None}
        optional = {name: members[name] or {} for name in ("environmentVariables", "hooks")}
        return all(built.get(name) == value for name, value in asked.items()) and all(
            _given(built.get(name)) == value for name, value in optional.items()
        )

    def _upload(self, bucket: str, artifact: Artifact) -> None:
        config = self._client.config
        if not config.s3_url:
            raise ConfigurationError("AWS_ENDPOINT_URL_S3 is not set", 'run `eval "$(emberbox env)"`')
        self._say(f"uploading {len(artifact.content) / 1024:.0f} KiB")
        with contextlib.suppress(ConflictError):  # it is there already
            self._client.call(wire.create_bucket(bucket, config.region))
        self._client.call(wire.put_object(bucket, artifact.key, artifact.content))

    def _follow(self, arn: str, version: str | None = None) -> Image:
        """Show the log of the build until the image, or this version of it, has settled."""
        while True:
            image = self._client.call(wire.get_image(arn))
            self._show_log()
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

    def _show_log(self) -> None:
        for line in self._logs.poll():
            self._log = [*self._log[1 - LOG_LINES :], line.message]
            self._say(line.message)

    def _failure(self, arn: str, version: str) -> BuildError:
        answer = self._client.call(wire.list_image_builds(arn, version))
        builds = [build for build in answer["items"] if build["buildState"] != "SUCCESSFUL"]
        reason = next((build["stateReason"] for build in builds if build.get("stateReason")), "the build failed")
        self._show_log()
        hint = f"`emberbox logs {self._name}` has the whole log"
        last = next((line for line in reversed(self._log) if line), "")
        return BuildError(
            f"the image {self._name} was not built: {reason}; last: {last}",
            hint,
            tuple(self._log),
            version=version,
            reason=reason,
        )


def _ask(config: Config, memory_mib: int | None, architecture: str | None) -> wire.Members:
    return {
        "baseImageArn": f"arn:aws:lambda:{config.region}:aws:microvm-image:debian12-1",
        "buildRoleArn": f"arn:aws:iam::{config.account_id}:role/{ROLE}",
        "resources": None if memory_mib is None else [{"minimumMemoryInMiB": memory_mib}],
        "cpuConfigurations": None if architecture is None else [{"architecture": architecture}],
    }


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
