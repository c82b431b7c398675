"""Images in registries that builds need, gathered before: what the operator's table puts in place of others."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from emberbox.images.base import BuildPlan
from emberbox.images.containers import TakeLine
from emberbox.images.dockerfile import find_images
from emberbox.images.importer import ImageImporter
from emberbox.images.substitutes import LOCAL, Base, Substitutes
from emberbox.model.errors import BuildError
from emberbox.model.image_references import SCHEMES, is_image_uri, parse_image_uri

BASES_MAX: Final = 10
"""Of one build: each may be as large as an artifact."""

NO_SUBSTITUTES: Final = Substitutes({})


class Bases:
    """Gathers them by the importer: with the operator's logins, which no builder sees.

    Args:
        importer: fetches and judges images.
        substitutes: the table.
    """

    def __init__(self, importer: ImageImporter, substitutes: Substitutes) -> None:
        self._importer = importer
        self._substitutes = substitutes

    async def gather_image(
        self, plan: BuildPlan, archive: Path, layout: Path, limits: tuple[int, int, float], take_line: TakeLine
    ) -> None:
        """Gather the image that is an artifact itself: see `ImageImporter.gather`."""
        if is_image_uri(plan.artifact_uri):
            used = self._substitutes.find(str(parse_image_uri(plan.artifact_uri)))
            if used is not None and used not in LOCAL:
                await take_line(f"NOTE: {used} is used in its place (EMBERBOX_STAND_INS)")
                plan = dataclasses.replace(plan, artifact_uri=f"{SCHEMES[0]}{used}")
        await self._importer.gather(plan, archive, layout, limits, take_line)

    async def gather(
        self, plan: BuildPlan, context: Path, directory: Path, limits: tuple[int, int, float], take_line: TakeLine
    ) -> tuple[Base, ...]:
        """Gather the images that a Dockerfile names and that have a row in the table.

        Args:
            plan: of the build.
            context: has the Dockerfile at its root.
            directory: where their layouts go; made when there are some.
            limits: see `ImageImporter.gather`.
            take_line: the same.

        Raises:
            BuildError: one is not as it should be, or cannot be had.
            HostError: the machine lacks something.
        """
        if self._substitutes.is_empty:
            return ()
        found: list[Base] = []
        for name in find_images((context / "Dockerfile").read_bytes().decode(errors="surrogateescape")):
            used = self._substitutes.find(name)
            if used is None:
                continue
            if len(found) == BASES_MAX:
                raise BuildError("CONTAINER_BUILD_FAILED", f"the Dockerfile names more than {BASES_MAX} such images")
            await take_line(f"NOTE: {used} is used in place of {name} (EMBERBOX_STAND_INS)")
            if used in LOCAL:
                found.append(Base(name, used))
                continue
            place = directory / str(len(found))
            place.mkdir(parents=True)
            fetched = dataclasses.replace(plan, artifact_uri=f"{SCHEMES[0]}{used}")
            await self._importer.gather(fetched, place / "x", place / "layout", limits, take_line, is_base=True)
            found.append(Base(name, used, place / "layout"))
        return tuple(found)
