"""What is used in place of images that Dockerfiles and imports name: the operator's table (EMBERBOX_STAND_INS).

    "docker.io/library/*" = "mirror.example.com:5000/hub/*"
    "public.ecr.aws/lambda/python:3.12" = "emberbox/debian:12"

A row is for one image, or for all whose names begin alike; of several that fit the longest counts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberbox.model.errors import HostError, ValidationError
from emberbox.model.image_references import parse_reference

LOCAL: Final = ("emberbox/debian:12", "emberbox/amazonlinux:2023")
"""Images that are made here: Debian, and Debian with what stands for Amazon Linux's `dnf`."""

_REST: Final = "/*"


@dataclass(frozen=True, slots=True)
class Base:
    """An image that a Dockerfile names, and what is used in its place.

    Args:
        name: as the Dockerfile has it.
        used: one of `LOCAL`, or where it was fetched from.
        layout: its OCI layout; None for one of `LOCAL`.
    """

    name: str
    used: str
    layout: Path | None = None


class Substitutes:
    """The table.

    Args:
        rows: names of images, as above.

    Raises:
        ValueError: a row is not in that form.
    """

    def __init__(self, rows: Mapping[str, str]) -> None:
        self._rows = {_normalize(name): used for name, used in rows.items()}
        for name, used in rows.items():
            if name.endswith(_REST) != used.endswith(_REST):
                raise ValueError(f"{name!r} and {used!r} must both end with /*, or none of them")
            for text in (name, used):
                parse_reference(text.removesuffix(_REST) + ("/x" if text.endswith(_REST) else ""))

    @property
    def is_empty(self) -> bool:
        """Whether it has no row."""
        return not self._rows

    def find(self, name: str) -> str | None:
        """Return what is used in place of an image; None: the image itself, or the name is none."""
        try:
            wanted = str(parse_reference(name))
        except ValidationError:
            return None
        fitting = [key for key in self._rows if wanted == key or (key.endswith(_REST) and wanted.startswith(key[:-1]))]
        if not fitting:
            return None
        key = max(fitting, key=len)
        used = self._rows[key]
        return used[:-1] + wanted[len(key) - 1 :] if key.endswith(_REST) else used


def _normalize(name: str) -> str:
    if not name.endswith(_REST):
        return str(parse_reference(name))
    reference = parse_reference(f"{name.removesuffix(_REST)}/x")
    return f"{reference.registry}/{reference.name.removesuffix('/x')}{_REST}" if "/" in reference.name else name


def read_substitutes(path: str) -> Substitutes:
    """Read the operator's file; without one the table is empty.

    Raises:
        HostError: it cannot be read, or has another form.
    """
    if not path:
        return Substitutes({})
    try:
        rows = tomllib.loads(Path(path).read_text())
        if not all(isinstance(used, str) for used in rows.values()):
            raise ValueError('each row must be "name" = "name"')
        return Substitutes(rows)
    except OSError as error:
        raise HostError(f"{path} (EMBERBOX_STAND_INS) cannot be read: {error.strerror}") from error
    except (ValueError, ValidationError) as error:
        raise HostError(f"{path} (EMBERBOX_STAND_INS) is not as it should be: {error} (docs/builds.md)") from error
