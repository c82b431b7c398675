"""Templates as E2B's SDKs build them: recipes, builds, and the names that lead to versions of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

DEFAULT_TAG: Final = "default"
"""The tag of a build that was given none, and what a name without a tag means."""

USER: Final = "user"
"""Whom templates run as where they do not say otherwise; his home is where they begin."""

HOME: Final = "/home/user"


class StepKind(StrEnum):
    """What a step of a recipe does."""

    COPY = "COPY"
    ENV = "ENV"
    RUN = "RUN"
    USER = "USER"
    WORKDIR = "WORKDIR"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a recipe.

    Args:
        kind: what it does.
        arguments: as E2B's SDKs give them: RUN has a command and perhaps a user; COPY a source, a destination, an owner
            and a mode; ENV names and values in turn.
        files: of COPY, the hash by which its files were uploaded.
    """

    kind: StepKind
    arguments: tuple[str, ...]
    files: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a template is made.

    Args:
        base: the container image under it.
        steps: what is done to it, in order.
        start: a line for the shell that runs in every sandbox; empty where there is none.
        ready: a line for the shell that succeeds when `start` is at work; empty where nothing is waited for.
        inherited: so many of the first steps are another template's.
    """

    base: str
    steps: tuple[Step, ...] = ()
    start: str = ""
    ready: str = ""
    inherited: int = 0

    def to_json(self) -> Mapping[str, Any]:
        """Return it as it is stored."""
        steps = [{"kind": step.kind, "arguments": list(step.arguments), "files": step.files} for step in self.steps]
        return {
            "base": self.base,
            "steps": steps,
            "start": self.start,
            "ready": self.ready,
            "inherited": self.inherited,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Recipe:
        """Return what is stored."""
        steps = tuple(Step(StepKind(one["kind"]), tuple(one["arguments"]), one["files"]) for one in stored["steps"])
        return cls(stored["base"], steps, stored["start"], stored["ready"], stored["inherited"])


@dataclass(frozen=True, slots=True)
class TemplateBuild:
    """One build of a template.

    Args:
        id: its own.
        account_id: whose it is.
        image_id: of the template, which is an image; that one is made when the build begins.
        name: of the template.
        tags: what its version will be known by.
        memory_mib: what sandboxes have at least.
        created_at: when it was asked for.
        recipe: how it is made; None until it has begun.
        version: of the image; None until there is one.
        reason: why it failed before there was a version.
        failed_step: at which step; empty where that is not known.
    """

    id: str
    account_id: str
    image_id: str
    name: str
    tags: tuple[str, ...]
    memory_mib: int
    created_at: datetime
    recipe: Recipe | None = None
    version: str | None = None
    reason: str | None = None
    failed_step: str = ""


@dataclass(frozen=True, slots=True)
class TemplateName:
    """A name and a tag that lead to a version of an image.

    Args:
        account_id: whose it is.
        name: of the template or snapshot.
        tag: behind the colon.
        image_id: of the image.
        version: of the image.
        build_id: what made the version.
        assigned_at: of several, the newest counts whose version can be launched.
        is_snapshot: the version is a snapshot of a sandbox.
    """

    account_id: str
    name: str
    tag: str
    image_id: str
    version: str
    build_id: str
    assigned_at: datetime
    is_snapshot: bool = False


def split_name(named: str) -> tuple[str, str]:
    """Return the name and the tag of `namespace/name:tag`; the tag is empty where there is none."""
    name, _, tag = named.rpartition("/")[2].partition(":")
    return name, tag
