"""Owners for microVMs: for new ones, which are launched, and for those of an earlier server, which go on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from emberbox.control.microvms.recovery import Fate, Recovery
from emberbox.control.microvms.runner import ENDED_BY_CALLER, LOST, MicrovmRunner
from emberbox.control.microvms.runner_context import RunnerContext
from emberbox.control.microvms.runners import Runners
from emberbox.model.errors import ConflictError
from emberbox.model.launch_requests import LogTarget
from emberbox.model.records import Image, ImageVersion, LogGroup, Microvm
from emberbox.store.client_tokens import ClientToken
from emberbox.store.images import ImageStore
from emberbox.store.microvms import MicrovmStore

log = logging.getLogger(__name__)


class Launcher:
    """Makes runners.

    Args:
        runners: take them in.
        context: what they need; its `on_ended` forgets them.
        store: the rows.
        images: images and versions.
    """

    def __init__(self, *, runners: Runners, context: RunnerContext, store: MicrovmStore, images: ImageStore) -> None:
        self._runners = runners
        self._context = context
        self._store = store
        self._images = images

    def launch(self, microvms: Sequence[Microvm], token: ClientToken | None) -> None:
        """Store new microVMs and launch them in the background.

        Args:
            microvms: the rows.
            token: what asked for them.

        Raises:
            ConflictError: the client token was used meanwhile; none was stored.
        """
        if not self._store.add(microvms, token):
            raise ConflictError("A request with the same clientToken is under way; try again.")
        for microvm in microvms:
            runner = self._make_runner(microvm)
            if runner is not None:
                runner.start_lifetime()
                runner.begin_to_launch()

    def recover(self, recovery: Recovery) -> None:
        """Go on with what an earlier server left.

        When this returns, every microVM has its runner and what is done with it is in line: a request for one that is
        taken over then waits for it.
        """
        for microvm in self._store.list_live():
            runner = self._make_runner(microvm)
            if runner is not None:
                _recover(runner, recovery)

    def _make_runner(self, microvm: Microvm) -> MicrovmRunner | None:
        image = self._images.find_by_id(microvm.image_id)
        version = self._images.find_version(microvm.image_id, microvm.image_version)
        if image is None or version is None:  # cannot be: an image stays while microVMs of it live
            log.error("%s has lost its image", microvm.id)
            return None
        group, stream = _log_target(image, version, microvm)
        runner = MicrovmRunner(self._context, microvm, version, group, stream)
        self._runners.add(runner)
        return runner


def _recover(runner: MicrovmRunner, recovery: Recovery) -> None:
    match recovery.fate(runner.id):
        case Fate.LAUNCH:
            runner.begin_to_launch()
        case Fate.ADOPT:
            runner.begin_to_take_over()
        case Fate.KEEP_SUSPENDED:
            runner.keep_suspended()
        case Fate.END:
            runner.begin_to_finish(runner.microvm.state_reason or ENDED_BY_CALLER)
            return
        case Fate.LOSE:
            runner.begin_to_finish(LOST)
            return
    runner.start_lifetime()


def _log_target(image: Image, version: ImageVersion, microvm: Microvm) -> tuple[LogGroup | None, str | None]:
    """Return log group and stream; the group is None where logging is off, the stream where it is the default."""
    target = microvm.request.log_target or LogTarget()
    if not target.is_on:
        return None, None
    return LogGroup(microvm.account_id, target.group or version.request.log_group(image.name)), target.stream
