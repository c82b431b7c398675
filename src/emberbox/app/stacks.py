"""The work on CloudFormation's stacks, which goes on where an earlier server left it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from emberbox.app.objects import ObjectStorage, connect_as
from emberbox.control.assembly import Control
from emberbox.edges.aws.operations.handler import Handler
from emberbox.edges.aws.stacks.registry import stack_kinds
from emberbox.settings import Settings


async def work_on_stacks(
    settings: Settings, control: Control, handlers: Mapping[str, Mapping[str, Handler]], objects: ObjectStorage,
    running: contextlib.AsyncExitStack,
) -> None:  # fmt: skip
    """Begin with it; it ends with the server.

    Args:
        settings: the region.
        control: makes and changes what is in stacks, and says who may.
        handlers: of all services.
        objects: where buckets are.
        running: ends it.
    """
    kinds = stack_kinds(handlers, control.access, settings.region, connect_as(objects, settings.region))
    await running.enter_async_context(control.stacks.work(kinds))
