"""What has served its time goes, now and then; one thing that fails keeps nothing else from being done."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from emberbox.background import Background, every, in_thread
from emberbox.control.assembly import Control
from emberbox.control.endpoints.tokens import TokenKeys
from emberbox.host.log_files import trim_log_files
from emberbox.settings import Settings
from emberbox.store.logs import LogStore

_HOUSEKEEPING_S: Final = 60.0
_TRIM_FILES_S: Final = 5.0


def start_housekeeping(
    settings: Settings, control: Control, keys: TokenKeys, logs: LogStore, background: Background
) -> None:
    """Begin; the owner of `background` ends it."""

    async def rotate() -> None:
        keys.rotate_when_older(settings.token_key_age_s, datetime.now(UTC))

    async def forget_microvms() -> None:
        await in_thread(control.microvms.forget_terminated, settings.terminated_retention_s)
        await in_thread(control.sandboxes.service.forget_gone)
        await in_thread(control.sandboxes.names.forget_gone, datetime.now(UTC) - timedelta(days=1))

    async def forget_events() -> None:
        await in_thread(control.events.forget_old)

    async def trim_logs() -> None:
        await in_thread(logs.forget_old, time.time_ns() // 1_000_000, settings.log_retention_days)
        await in_thread(logs.forget_beyond, settings.log_max_bytes)

    async def trim_files() -> None:
        """A guest can make its VMM say as much as it likes, on the console of a build above all."""
        await in_thread(trim_log_files, settings.home)

    background.start(every(_HOUSEKEEPING_S, rotate, forget_microvms, forget_events), "housekeeping")
    background.start(every(_HOUSEKEEPING_S, trim_logs), "the trimming of logs")
    background.start(every(_TRIM_FILES_S, trim_files), "the trimming of VMMs' logs")
