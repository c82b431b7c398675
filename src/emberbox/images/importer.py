"""Images that are there already: from an archive or a registry to a layout that is judged, for a builder to unpack."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberbox import process
from emberbox.host import scratch
from emberbox.host.architecture import of_engine
from emberbox.images.authorities import SERVERS_VARIABLE, write_file
from emberbox.images.base import BuildPlan
from emberbox.images.builders import BuildNetworkScope
from emberbox.images.containers import BuildNetwork, TakeLine, entering
from emberbox.model.egress import EgressPolicy
from emberbox.model.errors import BuildError, HostError
from emberbox.model.image_references import is_image_uri, parse_image_uri

_LINE_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Registries:
    """What the operator says of registries.

    Args:
        named: those that are asked from the host's own network; True for those by plain HTTP.
        logins: a file in the form of Docker's config.json; None where there is none.
    """

    named: dict[str, bool]
    logins: Path | None = None


@contextlib.asynccontextmanager
async def of_host(_egress: EgressPolicy | None) -> AsyncIterator[BuildNetwork]:
    """Give the host's own network."""
    yield BuildNetwork()


class ImageImporter:
    """Gathers images, each in a process of its own.

    Args:
        registries: what the operator says of them.
        network: where registries are asked from that the operator has not named.
        authorities: what their certificates are checked with (PEM); empty: what this process trusts.
    """

    def __init__(
        self, registries: Registries | None = None, network: BuildNetworkScope = of_host, authorities: str = ""
    ) -> None:
        self._authorities = authorities
        self._registries = registries or Registries({})
        self._network = network

    async def gather(
        self, plan: BuildPlan, archive: Path, layout: Path, limits: tuple[int, int, float], take_line: TakeLine,
        *, is_base: bool = False,
    ) -> None:  # fmt: skip
        """Make a layout of a plan's artifact.

        Args:
            plan: whose artifact it is: an image in a registry, or else the archive.
            archive: its file, in a directory of the build's own; what is in it need not stay.
            layout: the directory to make.
            limits: bytes of its layers as they come, bytes of them unpacked, seconds until it is stopped.
            take_line: takes lines for the build's log.
            is_base: a Dockerfile builds on it, so it need not say what to run.

        Raises:
            BuildError: the image is not as it should be, or cannot be had.
            HostError: the machine lacks something.
        """
        job = {
            "layout": str(layout),
            "platform": of_engine(plan.engine).platform,
            "packed_bytes": limits[0],
            "unpacked_bytes": limits[1],
        }
        network, described = self._network, archive.with_name("import.json")
        if is_image_uri(plan.artifact_uri):
            registry = parse_image_uri(plan.artifact_uri).registry
            is_named = registry in self._registries.named
            network = of_host if is_named else network
            more = {
                "uri": plan.artifact_uri,
                "is_plain": self._registries.named.get(registry, False),
                "is_direct": is_named,
                "is_base": is_base,
                "logins": "" if self._registries.logins is None else str(self._registries.logins),
            }
        else:
            network, more = of_host, {"archive": str(archive)}
        described.write_text(json.dumps(job | more))
        async with network(plan.egress) as connected:
            await self._run(described, connected, limits[2], take_line)
        described.unlink()

    async def _run(self, described: Path, network: BuildNetwork, timeout_s: float, take_line: TakeLine) -> None:
        told = ""

        async def take(line: str) -> None:
            nonlocal told
            if line.startswith("="):
                told = line[1:]
            else:
                await take_line(line.removeprefix(" ")[:_LINE_MAX])

        with entering(network, described.parent) as enter:
            command = [*enter, sys.executable, "-P", "-m", "emberbox.images.oci", str(described)]
            try:
                await process.run(
                    command, environment=self._environment(described.parent), timeout=timeout_s, on_line=take,
                    enclosed=True,
                )  # fmt: skip
            except process.CommandError as error:
                if error.returncode is None:
                    raise BuildError(
                        "CONTAINER_BUILD_FAILED", f"the image was not read within {timeout_s:g} s"
                    ) from error
                raise
        outcome = json.loads(told)
        if "failed" in outcome:
            raise HostError(outcome["failed"])
        if "reason" in outcome:
            raise BuildError(outcome["reason"], outcome["detail"])

    def _environment(self, directory: Path) -> Mapping[str, str]:
        environment = scratch.tool_environment(directory)
        if not self._authorities:
            return environment
        return {**environment, SERVERS_VARIABLE: str(write_file(directory, self._authorities))}
