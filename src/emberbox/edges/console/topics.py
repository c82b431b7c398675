"""What the page can watch: each topic tells how things are, and then again whenever they have changed.

A topic begins with an operation of the API, which authorises and records it; what it tells later is authorised each
time, and read when somebody is ready to take it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from emberbox.control.microvms.commands import ListMicrovms
from emberbox.control.requests.paging import PageRequest
from emberbox.edges.console.parts import Json, Parts
from emberbox.model.caller import Caller
from emberbox.model.errors import ServiceError, ValidationError, VmmError
from emberbox.model.logs import log_stream_names
from emberbox.model.records import ListedMicrovm, LogEvent, Microvm
from emberbox.store.changes import Kind, Listener, log_key

SETTLE_S: Final = 0.15
"""What changes together is told together."""

SAMPLE_S: Final = 2.0
SPENDING_S: Final = 86400
"""Terminated microVMs are forgotten after a day by default, and what they were with them."""

SPENDING_SETTLES_S: Final = 3.0
SPENDING_ANEW_S: Final = 60.0
_PAGE: Final = 1000
_ROWS_AT_ONCE: Final = 200
_LINES: Final = 1000
_LONGEST_LOG: Final = timedelta(days=1)

Documents = AsyncIterator[Any]  # Any: JSON


class RefusedTopic(ServiceError):  # noqa: N818 - an answer
    """What was asked for is refused; the code is the operation's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.told_code = code


@dataclass(frozen=True, slots=True)
class Watch:
    """Somebody watches something.

    Args:
        parts: what the console stands on.
        find_caller: returns who, as long as the session lasts; raises RefusedError then.
        of: what of the topic, such as a microVM's id.
    """

    parts: Parts
    find_caller: Callable[[], Caller]
    of: Json

    def text(self, name: str) -> str:
        """Return a member of what is asked for.

        Raises:
            ValidationError: it is no text.
        """
        value = self.of.get(name)
        if not isinstance(value, str):
            raise ValidationError(f"{name} must be a text")
        return value

    async def begin(self, operation: str, document: Json) -> Any:  # Any: JSON
        """Call the operation that a topic stands for.

        Raises:
            RefusedTopic: it is refused.
        """
        status, told = await self.parts.calls.call(self.find_caller(), operation, document, "console")
        if status >= 400:
            raise RefusedTopic(told["code"], told["message"])
        return told

    async def read(self, operation: str, document: Json) -> Any:  # Any: JSON
        """Call an operation once more.

        Raises:
            ServiceError: it is refused.
        """
        return await self.parts.calls.read(self.find_caller(), operation, document)

    async def read_all(self, operation: str, document: Json) -> list[Any]:  # Any: JSON
        """Return the items of all pages of a list."""
        found: list[Any] = []
        asked: dict[str, Any] = {**document, "maxResults": 50}
        while True:
            page = await self.read(operation, asked)
            found += page["items"]
            if not page.get("nextToken"):
                return found
            asked["nextToken"] = page["nextToken"]


async def follow_microvms(watch: Watch) -> Documents:
    """All microVMs of the account: `all` of them first, later `changed` ones and the ids of those that are `gone`."""
    with watch.parts.changes.listen(Kind.MICROVM) as listener:
        await watch.begin("ListMicrovms", {"maxResults": 1})
        yield {"all": await _list_microvms(watch)}
        while True:
            changed = await listener.wait()
            caller = watch.find_caller()
            watch.parts.calls.authorise(caller, "ListMicrovms", {})
            if None in changed or len(changed) > _ROWS_AT_ONCE:
                yield {"all": await _list_microvms(watch)}
            else:
                rows = {key: watch.parts.microvms.find_shown(caller, key) for key in changed if key}
                yield {
                    "changed": [_show_row(row) for row in rows.values() if row is not None],
                    "gone": [key for key, row in rows.items() if row is None],
                }
            await asyncio.sleep(SETTLE_S)


async def _list_microvms(watch: Watch) -> list[Json]:
    rows: list[Json] = []
    token: str | None = None
    while True:
        asked = ListMicrovms(PageRequest(_PAGE, token), None, None)
        page = watch.parts.microvms.list_microvms(watch.find_caller(), asked)
        rows += [_show_row(row) for row in page.items]
        token = page.next_token
        if token is None:
            return rows
        await asyncio.sleep(0)


def _show_row(row: ListedMicrovm | Microvm) -> Json:
    return {
        "id": row.id,
        "state": row.state,
        "image": row.image_arn.rpartition(":")[2],
        "version": row.image_version,
        "startedAt": row.started_at.timestamp(),
        "parent": row.forked_from,
    }


async def follow_microvm(watch: Watch) -> Documents:
    """One microVM: what GetMicrovm tells, its events, and the versions that are snapshots of it."""
    microvm_id = watch.text("microvmId")
    asked = {"microvmIdentifier": microvm_id}
    told = await watch.begin("GetMicrovm", asked)
    image_id = watch.parts.microvms.find(watch.find_caller(), microvm_id).image_id
    changes = watch.parts.changes
    with changes.listen(Kind.MICROVM, microvm_id) as own, changes.listen(Kind.IMAGE, image_id) as of_image:
        told = await watch.read("GetMicrovm", asked)  # it may have changed before anybody listened
        while True:
            events = await _try(watch, "ListEvents", {**asked, "maxResults": 200})
            snapshots = await _list_snapshots(watch, microvm_id)
            yield {"microvm": told, "events": events.get("items", []), "snapshots": snapshots}
            await asyncio.sleep(SETTLE_S)
            await _wait_for_any(own, of_image)
            told = await watch.read("GetMicrovm", asked)


async def _list_snapshots(watch: Watch, microvm_id: str) -> list[str]:
    """Return the versions that a microVM can be rolled back to: a snapshot that is being taken is none yet."""
    caller = watch.find_caller()
    return await asyncio.to_thread(watch.parts.microvms.list_snapshots, caller, microvm_id)


async def _wait_for_any(*listeners: Listener) -> None:
    """Wait until one of them has heard something. What others hear meanwhile is no loss: all is read anew."""
    waiting = [asyncio.ensure_future(listener.wait()) for listener in listeners]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()


async def _try(watch: Watch, operation: str, document: Json) -> Mapping[str, Any]:  # Any: JSON
    """Return what an operation tells; nothing where it is refused: the rest of a topic is of use without it."""
    try:
        told: Mapping[str, Any] = await watch.read(operation, document)
    except ServiceError as error:
        return {"refused": error.message}
    return told


async def follow_usage(watch: Watch) -> Documents:
    """What a microVM uses: memory, changed memory and disk in bytes, processor time in seconds; each `SAMPLE_S`."""
    microvm_id = watch.text("microvmId")
    told = await watch.begin("GetMicrovm", {"microvmIdentifier": microvm_id})
    while True:
        runner = watch.parts.runners.find(str(told["microvmId"]))
        if runner is None:
            yield {"ended": True}
            return
        size = runner.version.request.size
        try:
            used = await asyncio.to_thread(runner.measure)
        except (OSError, VmmError):  # it is just being started or ended
            used = None
        if used is not None:
            yield {
                "at": datetime.now(UTC).timestamp(),
                "memory": used.memory_bytes,
                "changed": used.changed_bytes,
                "disk": used.disk_bytes,
                "cpu": used.cpu_s,
                "processors": size.vcpu_count,
                "memoryMax": size.mem_size_mib << 20,
            }
        await asyncio.sleep(SAMPLE_S)
        watch.parts.calls.authorise(watch.find_caller(), "GetMicrovm", {"microvmIdentifier": microvm_id})


async def follow_host(watch: Watch) -> Documents:
    """What DescribeHost tells, each `SAMPLE_S`."""
    told = await watch.begin("DescribeHost", {})
    while True:
        yield told
        await asyncio.sleep(SAMPLE_S)
        told = await watch.read("DescribeHost", {})


async def follow_spending(watch: Watch) -> Documents:
    """What the account's microVMs have used in the last `SPENDING_S`, by image: when one changes, and each minute."""
    with watch.parts.changes.listen(Kind.MICROVM) as listener:
        await watch.begin("ListEvents", {"maxResults": 1})
        while True:
            now, caller = datetime.now(UTC), watch.find_caller()
            since = now - timedelta(seconds=SPENDING_S)
            found = await asyncio.to_thread(watch.parts.spending.measure, caller, since, now)
            yield {"seconds": SPENDING_S, "images": [asdict(one) for one in found]}
            await asyncio.sleep(SPENDING_SETTLES_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(listener.wait(), SPENDING_ANEW_S)
            watch.parts.calls.authorise(watch.find_caller(), "ListEvents", {})


async def follow_images(watch: Watch) -> Documents:
    """All images of the account."""
    with watch.parts.changes.listen(Kind.IMAGE) as listener:
        await watch.begin("ListMicrovmImages", {"maxResults": 1})
        while True:
            yield {"all": await watch.read_all("ListMicrovmImages", {})}
            await asyncio.sleep(SETTLE_S)
            await listener.wait()


async def follow_image(watch: Watch) -> Documents:
    """One image: what GetMicrovmImage tells, its versions, and their builds."""
    asked = {"imageIdentifier": watch.text("imageArn")}
    with watch.parts.changes.listen(Kind.IMAGE) as listener:
        told = await watch.begin("GetMicrovmImage", asked)
        while True:
            versions = await watch.read_all("ListMicrovmImageVersions", asked)
            builds = []
            for version in versions[:_ROWS_AT_ONCE]:
                of = {**asked, "imageVersion": version["imageVersion"]}
                builds += await watch.read_all("ListMicrovmImageBuilds", of)
            yield {"image": told, "versions": versions, "builds": builds}
            await asyncio.sleep(SETTLE_S)
            await listener.wait()
            told = await watch.read("GetMicrovmImage", asked)


async def follow_log(watch: Watch) -> Documents:
    """The lines of a build or of a microVM: the newest first of all, later those that come.

    `of` names the log group, the version and the owner, which are in the name of the stream, and when that began.
    """
    group, owner, version = watch.text("logGroup"), watch.text("owner"), watch.text("version")
    since = watch.of.get("since")
    begun = datetime.fromtimestamp(float(since), UTC) if isinstance(since, int | float) else datetime.now(UTC)
    streams = log_stream_names(version, owner, begun, begun + _LONGEST_LOG)
    account_id = watch.find_caller().account_id
    keys = [log_key(account_id, group, stream) for stream in streams]
    asked = {"logGroupName": group, "logStreamNames": streams}
    watch.parts.calls.authorise(watch.find_caller(), "FilterLogEvents", asked)
    with watch.parts.changes.listen(Kind.LOG, *keys) as listener:
        last: int | None = None
        while True:
            lines = await watch.parts.logs.read_newer(watch.find_caller(), group, streams, last, _LINES)
            if lines or last is None:
                yield {"lines": [_show_line(line) for line in lines]}
            last = lines[-1].id if lines else last or 0
            if len(lines) < _LINES or last == 0:
                await asyncio.sleep(SETTLE_S)
                await listener.wait()
            watch.parts.calls.authorise(watch.find_caller(), "FilterLogEvents", asked)


def _show_line(line: LogEvent) -> list[Any]:  # Any: a number and a text
    return [line.timestamp, line.message]


TOPICS: Final[Mapping[str, Callable[[Watch], Documents]]] = {
    "microvms": follow_microvms,
    "microvm": follow_microvm,
    "usage": follow_usage,
    "host": follow_host,
    "images": follow_images,
    "spending": follow_spending,
    "image": follow_image,
    "log": follow_log,
}
