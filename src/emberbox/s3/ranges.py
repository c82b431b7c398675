"""Which bytes of an object are asked for: all, a range, or one part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from emberbox.s3.errors import S3Error
from emberbox.s3.index import Version

_RANGE: Final = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


def find_extent(asked: Mapping[str, Any], version: Version) -> tuple[int, int, dict[str, str]]:
    """Return offset and size of what is asked for, and the headers that say so; none for the whole."""
    number, stated = asked.get("PartNumber"), asked.get("Range")
    if number is not None:
        if stated is not None:
            raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
        return _part_extent(number, version)
    found = _RANGE.fullmatch(stated.strip()) if stated is not None else None
    if found is None or found[1] == found[2] == "":
        return 0, version.size, {}  # no range, several, or another unit: all of it, as S3 does
    if found[1]:
        first, last = int(found[1]), min(int(found[2]) if found[2] else version.size, version.size - 1)
        if found[2] and int(found[2]) < first:
            return 0, version.size, {}
    else:
        first, last = max(0, version.size - int(found[2])), version.size - 1
    if first >= version.size or first > last:
        headers = {"Content-Range": f"bytes */{version.size}"}
        raise S3Error("InvalidRange", None, headers, RangeRequested=str(stated), ActualObjectSize=str(version.size))
    return first, last - first + 1, {"Content-Range": f"bytes {first}-{last}/{version.size}"}


def _part_extent(number: int, version: Version) -> tuple[int, int, dict[str, str]]:
    sizes = [version.size] if version.parts is None else [size for _, size, _ in version.parts]
    if not 1 <= number <= len(sizes):
        raise S3Error("InvalidPartNumber", PartNumberRequested=str(number), ActualPartCount=str(len(sizes)))
    offset, size = sum(sizes[: number - 1]), sizes[number - 1]
    if version.size == 0:
        return 0, 0, {}
    headers = {"Content-Range": f"bytes {offset}-{offset + size - 1}/{version.size}"}
    if version.parts is not None:
        headers["x-amz-mp-parts-count"] = str(len(sizes))
    return offset, size, headers
