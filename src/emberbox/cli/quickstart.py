"""`emberbox quickstart`: the main job on a shipped example, live, by unmodified boto3."""

from __future__ import annotations

import asyncio
import io
import secrets
import time
import zipfile
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from emberbox.cli.clients import Mend, find_name_problems, find_trust_problems, mend_clients
from emberbox.cli.console import make_link
from emberbox.cli.context import CHECKOUT, Server, command_name, describe_refusal
from emberbox.cli.endpoint import Endpoint
from emberbox.cli.processes import measure_vmms
from emberbox.cli.progress import BuildView, Timeline
from emberbox.cli.server import running_server
from emberbox.model.errors import HostError
from emberbox.settings import load
from emberbox.time_limits import limit_s

EXAMPLES = CHECKOUT / "examples"

PREFIX = "quickstart-"
"""The names of its images begin so."""

MEMORY_MIB = 512
HOOKS = {
    "port": 9000,
    "microvmImageHooks": {
        "ready": "ENABLED",
        "readyTimeoutInSeconds": 120,
        "validate": "ENABLED",
        "validateTimeoutInSeconds": 60,
    },
}
BUILD_TIMEOUT_S = limit_s(1800.0)
STATE_TIMEOUT_S = limit_s(60.0)
ANSWER_TIMEOUT_S = limit_s(30.0)
_BUILD_POLL_S = 0.3
_STATE_POLL_S = 0.02


class Example(StrEnum):
    """The applications that come with the checkout."""

    FLASK = "flask"
    EXPRESS = "express"


def quickstart(
    example: Annotated[Example, typer.Option(help="Which of the shipped applications.")] = Example.FLASK,
    keep: Annotated[
        bool | None,
        typer.Option(help="Leave the server, the image and its microVMs for you; by default on a terminal."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all lines of the build's log.")] = False,
    mend: Mend = False,
) -> None:
    """Build an image, launch microVMs, suspend and resume one: live, on this machine."""
    timeline = Timeline(Console())
    if keep is None:
        keep = timeline.console.is_terminal
    if mend:
        asyncio.run(mend_clients(load(), timeline.say))
    source = EXAMPLES / example
    if not (source / "Dockerfile").is_file():
        raise HostError(f"there is no example in {source}; the examples come with a checkout of the sources")
    with running_server(timeline, keep=keep) as server:
        _look_at_clients(server, timeline)
        tour = Tour(server, timeline, source, verbose=verbose)
        try:
            tour.build()
            tour.use()
        finally:
            if not keep:
                tour.clean_up()
    timeline.show_table()
    show_next(timeline.console, tour if keep else None)
    if tour.left_behind:
        raise HostError(f"something is left behind: {'; '.join(tour.left_behind)}")


def _look_at_clients(server: Server, timeline: Timeline) -> None:
    """Say whether other clients than this tour, which goes by the bare address, get to endpoints."""

    async def look() -> list[str]:
        settings = load()
        return [*await find_name_problems(settings), *await find_trust_problems(settings, server)]

    problems = asyncio.run(look())
    for problem in problems:
        timeline.warn(problem)
    if not problems:
        timeline.say("names of endpoints resolve here, and clients trust them with what `emberbox env` prints")


def pack(source: Path) -> bytes:
    """Return a directory as a zip, the way that code artifacts are uploaded."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.rglob("*")):
            archive.write(path, path.relative_to(source))
    return buffer.getvalue()


class Tour:
    """The stations of the main job; it remembers what it made, so that it can clean up after a failure too.

    Args:
        server: whom to ask.
        timeline: where to show it.
        source: the application's directory.
        verbose: show all of the build's log.
    """

    def __init__(self, server: Server, timeline: Timeline, source: Path, *, verbose: bool = False) -> None:
        self.server = server
        self.name = f"{PREFIX}{source.name}-{secrets.token_hex(3)}"
        self.image_arn = ""
        self.microvms: dict[str, str] = {}
        self.left_behind: list[str] = []
        self._timeline = timeline
        self._source = source
        self._verbose = verbose
        self._client = server.client("lambda-microvms")
        self._s3 = server.client("s3")
        self._bucket = ""

    def build(self) -> None:
        """Upload the application and make an image of it, with its log live.

        Raises:
            HostError: the build failed.
        """
        self._remove_failed()
        with self._timeline.step("application uploaded") as step:
            archive = pack(self._source)
            uri = self._upload(archive)
            step.note = f"{len(archive) / 1024:.1f} KiB to {uri}"
        with self._timeline.step("image built") as step:
            created = self._client.create_microvm_image(
                name=self.name,
                baseImageArn=f"arn:aws:lambda:{self.server.region}:aws:microvm-image:debian12-1",
                buildRoleArn=f"arn:aws:iam::{self.server.account_id}:role/emberbox-build",
                codeArtifact={"uri": uri},
                resources=[{"minimumMemoryInMiB": MEMORY_MIB}],
                hooks=HOOKS,
            )
            self.image_arn = created["imageArn"]
            self._follow_build(BuildView(self._timeline.quote, step.tell, everything=self._verbose))
            self._check_build(created["imageVersion"])
            step.note = self._describe_build(created["imageVersion"])

    def _remove_failed(self) -> None:
        """Remove images of earlier tours that were interrupted: AWS deletes no image while it is being built."""
        for page in self._client.get_paginator("list_microvm_images").paginate(nameFilter=PREFIX):
            for image in page["items"]:
                if image["name"].startswith(PREFIX) and image["state"] == "CREATE_FAILED":
                    self._client.delete_microvm_image(imageIdentifier=image["imageArn"])

    def _upload(self, archive: bytes) -> str:
        where = {"LocationConstraint": self.server.region}
        more = {} if self.server.region == "us-east-1" else {"CreateBucketConfiguration": where}
        self._s3.create_bucket(Bucket=self.name, **more)
        self._bucket = self.name
        self._s3.put_object(Bucket=self._bucket, Key="app.zip", Body=archive)
        return f"s3://{self._bucket}/app.zip"

    def _follow_build(self, view: BuildView) -> None:
        """Show the build's log until the image has settled."""
        from emberbox_sdk import Logs
        from emberbox_sdk.build_log import BUILD_STREAM
        from emberbox_sdk.wire import log_group

        deadline = time.monotonic() + BUILD_TIMEOUT_S
        with self.server.open() as client:
            reader = Logs(client, log_group(self.name))
            while True:
                state = self._client.get_microvm_image(imageIdentifier=self.image_arn)["state"]
                for line in reader.poll():
                    if BUILD_STREAM in line.stream:
                        view.take(line.message)
                    else:
                        self._timeline.quote(line.message)
                if state != "CREATING":
                    return
                if time.monotonic() > deadline:
                    raise HostError(f"the image was not built within {BUILD_TIMEOUT_S:g} s")
                time.sleep(_BUILD_POLL_S)

    def _builds(self, version: str) -> list[dict[str, Any]]:
        listed = self._client.list_microvm_image_builds(imageIdentifier=self.image_arn, imageVersion=version)
        builds: list[dict[str, Any]] = listed["items"]
        return builds

    def _check_build(self, version: str) -> None:
        for build in self._builds(version):
            if build["buildState"] != "SUCCESSFUL":
                raise HostError(f"the build failed: {build.get('stateReason') or build['buildState']}")

    def _describe_build(self, version: str) -> str:
        build = self._client.get_microvm_image_build(
            imageIdentifier=self.image_arn,
            imageVersion=version,
            buildId=self._builds(version)[0]["buildId"],
        )
        sizes = {
            "memory": "memorySnapshotSizeInBytes",
            "code": "codeInstallSizeInBytes",
            "disk": "diskSnapshotSizeInBytes",
        }
        measured = build.get("snapshotBuild") or {}
        return ", ".join(
            f"{name} {measured[key] / (1 << 20):.1f} MiB" for name, key in sizes.items() if key in measured
        )

    def use(self) -> None:
        """Launch two microVMs, show that they share nothing, suspend one and resume it.

        Raises:
            HostError: one of them is not what it should be.
        """
        first, drawn = self._launch("A")
        second, also_drawn = self._launch("B")
        for _ in range(2):
            before = self._ask("A", first)
        other = self._ask("B", second)
        _expect((before["count"], other["count"]) == (3, 2), "each microVM counts its own requests")
        _expect(before["hostname"] != other["hostname"], "each microVM has its own host name")
        _expect(before["boot"] == other["boot"], "both come from one snapshot of a started application")
        _expect(drawn["random"] != also_drawn["random"], "each microVM draws its own random numbers")
        self._timeline.say("one snapshot (boot), but memory, disk and host name of their own; random comes from the")
        self._timeline.say("generator of OpenSSL that drew boot before the snapshot, and yet differs")

        running = measure_vmms(self.server.pid)
        with self._timeline.step("microVM A suspended") as step:
            self._client.suspend_microvm(microvmIdentifier=self.microvms["A"])
            self._wait_state("A", "SUSPENDED")
            step.note = f"from {running} to {measure_vmms(self.server.pid)}"
        self._timeline.say(f"a request to it now: HTTP {first.get().status}; B goes on:")
        self._ask("B", second)

        with self._timeline.step("microVM A resumed, to its first answer") as step:
            self._client.resume_microvm(microvmIdentifier=self.microvms["A"])
            after = first.wait_answer(ANSWER_TIMEOUT_S).json()
            step.note = str(measure_vmms(self.server.pid))
        self._show("A", after)
        _expect(after["count"] == before["count"] + 1, "its memory is as it was")
        _expect(after["file"] == before["file"] + 1, "its disk is as it was")
        _expect(after["hostname"] == before["hostname"], "its host name is as it was")
        self._timeline.say("it went on where it was: the counter in memory and the file on disk are one up")

    def _launch(self, label: str) -> tuple[Endpoint, dict[str, Any]]:
        """Return the new microVM's endpoint and its first answer."""
        from emberbox_sdk.launches import ingress

        with self._timeline.step(f"microVM {label} launched, to its first answer") as step:
            answer = self._client.run_microvm(
                imageIdentifier=self.image_arn,
                ingressNetworkConnectors=ingress(self.server.region),  # shells too, for whoever looks around afterwards
            )
            self.microvms[label] = answer["microvmId"]
            self._wait_state(label, "RUNNING")
            token = self._client.create_microvm_auth_token(
                microvmIdentifier=answer["microvmId"],
                expirationInMinutes=30,
                allowedPorts=[{"port": 8080}],
            )
            endpoint = Endpoint(self.server, token["authToken"]["X-aws-proxy-auth"])
            reply = endpoint.wait_answer(ANSWER_TIMEOUT_S).json()
            step.note = f"{answer['microvmId']} at https://{answer['endpoint']}/"
        self._show(label, reply)
        return endpoint, reply

    def _ask(self, label: str, endpoint: Endpoint) -> dict[str, Any]:
        reply = endpoint.get().json()
        self._show(label, reply)
        return reply

    def _show(self, label: str, reply: dict[str, Any]) -> None:
        shown = "  ".join(f"{name}={reply[name]}" for name in ("count", "file", "hostname", "pid", "boot", "random"))
        self._timeline.say(f"{label}: {shown}")

    def _wait_state(self, label: str, wanted: str) -> None:
        deadline = time.monotonic() + STATE_TIMEOUT_S
        while True:
            microvm = self._client.get_microvm(microvmIdentifier=self.microvms[label])
            if microvm["state"] == wanted:
                return
            if microvm["state"] == "TERMINATED":
                raise HostError(f"microVM {label} has ended: {microvm.get('stateReason')}")
            if time.monotonic() > deadline:
                raise HostError(f"microVM {label} is {microvm['state']} and not {wanted}")
            time.sleep(_STATE_POLL_S)

    def clean_up(self) -> None:
        """Remove everything that was made; what cannot be removed is noted and the rest goes on."""
        if self.microvms:
            with self._timeline.step("microVMs terminated") as step:
                for label in self.microvms:
                    step.failed |= not self._try(f"microVM {label}", partial(self._terminate, label))
        if self.image_arn:
            with self._timeline.step("image deleted") as step:
                step.failed = not self._try(f"the image {self.name}", self._delete_image)
        if self._bucket:
            self._try("the bucket", self._delete_bucket)

    def _terminate(self, label: str) -> None:
        self._client.terminate_microvm(microvmIdentifier=self.microvms[label])
        self._wait_state(label, "TERMINATED")

    def _delete_image(self) -> None:
        self._client.delete_microvm_image(imageIdentifier=self.image_arn)
        deadline = time.monotonic() + STATE_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                self._client.get_microvm_image(imageIdentifier=self.image_arn)
            except self._client.exceptions.ResourceNotFoundException:
                return
            time.sleep(_STATE_POLL_S)
        raise HostError("it is still there")

    def _delete_bucket(self) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key="app.zip")
        self._s3.delete_bucket(Bucket=self._bucket)

    def _try(self, what: str, work: Callable[[], None]) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            work()
            return True
        except (HostError, ClientError, BotoCoreError) as error:
            reason = describe_refusal(error) if isinstance(error, ClientError) else str(error)
            self.left_behind.append(f"{what} ({reason})")
            self._timeline.warn(f"{what} could not be removed: {reason}")
            return False


def _expect(holds: bool, promise: str) -> None:
    if not holds:
        raise HostError(f"what should hold does not: {promise}")


def show_next(console: Console, left: Tour | None) -> None:
    """Say where the console is and what to try next.

    Args:
        console: where to.
        left: what still runs; None where nothing does.
    """
    command = command_name()
    write = partial(console.print, soft_wrap=True, highlight=False, markup=False)
    if left is None:
        write(f"\nnothing is left running; `{command} quickstart --keep` leaves it for you, with a link to the console")
        return
    first = left.microvms["A"]
    write("\nit all runs on for you. The console; this link logs you in, once, within two minutes:")
    try:
        write(f"  {make_link(left.server)}")
    except HostError as error:
        write(f"  none: {error}")
    write("\ntry next:")
    for then, why in (
        (f"shell {first}", "a terminal in microVM A"),
        (f"fork {first} --count 3", "three more that go on from where A is now"),
        (f"init hello && {command} dev hello", "an application of your own, built again when you change it"),
    ):
        write(f"  {command} {then}\n      {why}")
    write(f"\nat the end `{command} down` stops the server; `{command} console` makes a new link")
