"""The snapshots of image versions in this machine's files."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from emberbox.background import in_thread
from emberbox.machine.local.places import Places
from emberbox.model.errors import HostError
from emberbox.model.sizes import SnapshotSizes

log = logging.getLogger(__name__)


class LocalSnapshots:
    """See `base.Snapshots`.

    Args:
        places: says where they are.
    """

    def __init__(self, places: Places) -> None:
        self._places = places

    def sizes(self, image_id: str, version: str) -> SnapshotSizes:
        """See `base.Snapshots`."""
        try:
            return self._places.load_snapshot(image_id, version).sizes()
        except OSError as error:
            raise HostError(f"the snapshot of {image_id} {version} cannot be read: {error.strerror}") from error

    async def remove(self, image_id: str, version: str | None = None) -> bool:
        """See `base.Snapshots`."""
        directory = self._places.images(image_id) if version is None else self._places.image(image_id, version)
        return await in_thread(_remove_tree, directory)


def _remove_tree(directory: Path) -> bool:
    """Remove a directory with all it holds; False, and a line in the log, where that cannot be done."""
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        log.error("%s cannot be removed: %s; delete the image or version again once it can be", directory, error)
        return False
    return True
