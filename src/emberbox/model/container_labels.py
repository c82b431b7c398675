"""Labels of container images that have a meaning here."""

from __future__ import annotations

from typing import Final

READY_LABEL: Final = "dev.emberbox.ready"
"""Its value is a line for `sh`: the snapshot is taken when it succeeds."""
