"""What requests ask sandboxes to be, in Daytona's words: minutes, labels, snapshots."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from emberbox.control.requests.paging import PageRequest
from emberbox.control.sandboxes.commands import ListSandboxes
from emberbox.edges.sandboxes.call import Call, Json
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.model.sandboxes import LIFE_MAX_S, SandboxState, SandboxTerms
from emberbox.model.sizes import Size

AUTO_STOP_MINUTES: Final = 15
"""Daytona's own default."""

MINUTE_S: Final = 60
MINUTES_MAX: Final = LIFE_MAX_S // MINUTE_S
PAGE_MAX: Final = 200
_PAGE: Final = 100
_GIB: Final = 1 << 30
_MIB_OF_GIB: Final = 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_FROM: Final = re.compile(r"\s*FROM\s+(\S+)\s*", re.IGNORECASE)

_NETWORK: Final = (
    "what a sandbox may reach is said by its image: build it with a network connector (docs/network.md), and name that "
    "image as the snapshot"
)
_NOT_OFFERED: Final[Mapping[str, str]] = {
    "networkBlockAll": _NETWORK,
    "networkAllowList": _NETWORK,
    "domainAllowList": _NETWORK,
    "outboundProxyUrl": _NETWORK,
    "volumes": "volumes are not offered; copy files with sandbox.fs, or mount a store from within (docs/s3.md)",
    "secrets": "Daytona's secrets are not offered; pass env_vars",
    "gpu": "there are no GPUs for sandboxes",
    "gpuType": "there are no GPUs for sandboxes",
    "kvm": "sandboxes have no nested virtualisation",
    "spot": "there are no spot sandboxes: leave spot out",
    "linkedSandbox": "linked sandboxes are not offered",
    "otelEndpointOverride": "telemetry of sandboxes is not offered",
}
_STATES: Final[Mapping[str, SandboxState]] = {
    "started": SandboxState.RUNNING,
    "stopped": SandboxState.PAUSED,
    "paused": SandboxState.PAUSED,
}
_FILTERS: Final = frozenset(
    {"cursor", "limit", "id", "name", "labels", "states", "snapshots", "regionIds", "sort", "order"}
)
_ORDERS: Final = ("asc", "desc")


@dataclass(frozen=True, slots=True)
class Asked:
    """A new sandbox, as it is asked for.

    Args:
        terms: what it is to be.
        life_s: how long it may live.
    """

    terms: SandboxTerms
    life_s: int


def read_new(call: Call, default_snapshot: str) -> Asked:
    """Return what a new sandbox is asked to be.

    Args:
        call: the request.
        default_snapshot: the image where none is named.

    Raises:
        ApiError: something is malformed, or is not offered here: nothing that was asked for is left out in silence.
    """
    for name, text in _NOT_OFFERED.items():
        if call.body.get(name):
            raise ApiError(400, f"{name}: {text}")
    stop = _read_stop(call)
    delete = read_minutes(call, "autoDeleteInterval", -1, least=-1)
    ttl = read_minutes(call, "ttlMinutes", 0)
    terms = SandboxTerms(
        template=_read_snapshot(call) or default_snapshot,
        timeout_s=stop * MINUTE_S or LIFE_MAX_S,
        metadata=call.texts("labels"),
        environment=call.texts("env"),
        pauses_itself=delete != 0,
        is_private=not call.truth("public"),
        name=read_word(call, "name", _NAME),
        user=read_word(call, "user", _USER),
        moves_with_use=True,
        deletes_after_s=max(delete, 0) * MINUTE_S,
    )
    return Asked(terms, ttl * MINUTE_S or LIFE_MAX_S)


def _read_stop(call: Call) -> int:
    """Return after how many idle minutes it stops, 0 for never; a pause and a stop are the same here."""
    stop = read_minutes(call, "autoStopInterval", -1, least=-1)
    pause = read_minutes(call, "autoPauseInterval", 0)
    if stop > 0 and pause:
        raise ApiError(400, "autoStopInterval and autoPauseInterval exclude each other; both stop it with its memory")
    read_minutes(call, "autoArchiveInterval", 0)  # what has stopped is on the disk already
    return pause or (AUTO_STOP_MINUTES if stop < 0 else stop)


def read_minutes(call: Call, name: str, default: int, least: int = 0) -> int:
    """Return a number of minutes.

    Raises:
        ApiError: it is none, or too many.
    """
    value = default if call.body.get(name) is None else call.number(name, default)
    return check_minutes(name, value, least)


def check_minutes(name: str, minutes: int, least: int = 0) -> int:
    """Return a number of minutes.

    Raises:
        ApiError: they are too few or too many.
    """
    if not least <= minutes <= MINUTES_MAX:
        raise ApiError(400, f"{name} must be {least} to {MINUTES_MAX} minutes, not {minutes}: sandboxes live 30 days")
    return minutes


def read_word(call: Call, name: str, form: re.Pattern[str]) -> str:
    """Return a text of a form; an empty one where there is none.

    Raises:
        ApiError: it has another form.
    """
    value = call.body.get(name) or ""
    if value and (not isinstance(value, str) or not form.fullmatch(value)):
        raise ApiError(400, f"{name} must be of the form {form.pattern}")
    return str(value)


def _read_snapshot(call: Call) -> str:
    """Return the image that is asked for, as a snapshot or by a Dockerfile that does nothing but name it."""
    build: Any = call.body.get("buildInfo")
    if not build:
        return call.text("snapshot") if call.body.get("snapshot") else ""
    text = build.get("dockerfileContent") if isinstance(build, dict) else None
    found = _FROM.fullmatch(text) if isinstance(text, str) else None
    if found is None or build.get("contextHashes"):
        raise ApiError(
            400,
            "buildInfo: images are not built here by creating a sandbox; build one first (emberbox build, "
            "docs/builds.md), and name it as the snapshot or as image='NAME'",
        )
    return found[1]


def check_resources(call: Call, size: Size | None) -> None:
    """See that an image's size has what is asked for: a microVM has the size of its image.

    Raises:
        ApiError: it has less.
    """
    if size is None:
        return
    has = {
        "cpu": size.vcpu_count,
        "memory": size.mem_size_mib // _MIB_OF_GIB,
        "disk": size.disk_bytes // _GIB,
    }
    for name, most in has.items():
        asked = call.body.get(name)
        if asked is not None and call.number(name, 0) > most:
            raise ApiError(
                400,
                f"{name}: the image has {most}, not {asked}; build it with more memory (docs/builds.md)",
            )


def show_size(size: Size | None) -> Json:
    """Return a sandbox's size: processors, and GiB of memory and disk as its guest sees them."""
    if size is None:
        return {"cpu": 0, "gpu": 0, "memory": 0, "disk": 0}
    memory, disk = size.mem_size_mib // _MIB_OF_GIB, size.disk_bytes // _GIB
    return {"cpu": size.vcpu_count, "gpu": 0, "memory": memory, "disk": disk}


def read_list(call: Call) -> ListSandboxes:
    """Return which sandboxes are asked for.

    Raises:
        ApiError: a filter is malformed, or not offered.
    """
    query = call.request.query_params
    others = set(query) - _FILTERS
    if others:
        raise ApiError(400, f"{min(others)}: sandboxes are found by {', '.join(sorted(_FILTERS))} alone")
    limit, order = query.get("limit", str(_PAGE)), query.get("order", "desc").lower()
    if not limit.isdecimal() or not 1 <= int(limit[:4]) <= PAGE_MAX:
        raise ApiError(400, f"limit must be 1 to {PAGE_MAX}")
    if query.get("sort", "createdAt") != "createdAt" or order not in _ORDERS:
        raise ApiError(400, "sort must be createdAt, and order asc or desc")
    snapshots = query.getlist("snapshots")
    if len(snapshots) > 1:
        raise ApiError(400, "snapshots must name one")
    return ListSandboxes(
        page=PageRequest(int(limit), query.get("cursor") or None),
        metadata=_read_labels(query.get("labels", "")),
        states=_read_states(query.getlist("states")),
        template=snapshots[0] if snapshots else None,
        oldest_first=order == "asc",
        id_prefix=query.get("id", ""),
        name_prefix=query.get("name", ""),
    )


def _read_labels(text: str) -> dict[str, str]:
    try:
        labels = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise ApiError(400, "labels must be a JSON object whose values are texts")
    return labels


def _read_states(names: list[str]) -> frozenset[SandboxState]:
    """States that no sandbox has here leave nothing."""
    if not names:
        return frozenset(SandboxState)
    return frozenset(_STATES[name] for name in names if name in _STATES)
