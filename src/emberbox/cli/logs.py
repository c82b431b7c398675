"""`emberbox logs`: reads log groups through the same API as any CloudWatch Logs client."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from botocore.exceptions import ClientError

from emberbox.cli.context import get_server
from emberbox.model.errors import HostError
from emberbox.settings import load

GROUP_PREFIX = "/aws/lambda-microvms/"
_POLL_S = 0.5
_LATE_MS = 5000
"""An event may appear after a later one: this far back is read again, and what was shown is left out."""

Event = dict[str, Any]


def logs(
    name: Annotated[str, typer.Argument(help="An image's name or ARN, or a log group (it begins with /).")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until Ctrl-C.")] = False,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; may be repeated.")] = None,
) -> None:
    """Show the logs of an image's builds and microVMs."""
    client = get_server(load().home).client("logs")
    group = group_of(name)
    reader = LogReader(client, group, stream or ())
    if not reader.exists() and not follow:
        raise HostError(f"there is no log group {group}{_suggest(client)}")
    try:
        while True:
            for event in reader.poll():
                print(render(event), flush=True)
            if not follow:
                return
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # the reader has seen enough, as in `emberbox logs x | head`
        sys.stderr.close()


def group_of(name: str) -> str:
    """Return the log group that a user means."""
    return name if name.startswith("/") else GROUP_PREFIX + name.rsplit(":", 1)[-1]


def render(event: Event) -> str:
    """Return an event as a line: local time and message."""
    moment = datetime.fromtimestamp(event["timestamp"] / 1000).astimezone()
    return f"{moment:%H:%M:%S}.{event['timestamp'] % 1000:03} {event['message'].rstrip()}"


class LogReader:
    """Reads a group again and again; each event comes once.

    Args:
        client: boto3's `logs`.
        group: the name of the group; it need not exist yet.
        streams: read only these.
    """

    def __init__(self, client: Any, group: str, streams: Sequence[str] = ()) -> None:
        self._client = client
        self._group = group
        self._streams = list(streams)
        self._seen: dict[str, int] = {}
        self._latest = 0

    def exists(self) -> bool:
        """Say whether the group is there."""
        answer = self._client.describe_log_groups(logGroupNamePrefix=self._group)
        return any(group["logGroupName"] == self._group for group in answer["logGroups"])

    def poll(self) -> list[Event]:
        """Return the events that were not returned yet; none when the group does not exist."""
        arguments: dict[str, Any] = {"logGroupName": self._group}
        if self._streams:
            arguments["logStreamNames"] = self._streams
        if self._latest:
            arguments["startTime"] = max(0, self._latest - _LATE_MS)
        fresh: list[Event] = []
        try:
            for page in self._client.get_paginator("filter_log_events").paginate(**arguments):
                fresh += [event for event in page["events"] if event["eventId"] not in self._seen]
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
        for event in fresh:
            self._seen[event["eventId"]] = event["timestamp"]
            self._latest = max(self._latest, event["timestamp"])
        horizon = self._latest - _LATE_MS
        self._seen = {key: moment for key, moment in self._seen.items() if moment >= horizon}
        return fresh


def _suggest(client: Any) -> str:
    groups = [group["logGroupName"] for group in client.describe_log_groups()["logGroups"]]
    return f"; there are: {', '.join(groups)}" if groups else "; none has been written yet"
