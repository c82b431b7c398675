"""The form of kmod's indexes, `modules.*.bin`: a tree of characters that it looks names up in.

The form is described at the head of kmod's `libkmod/libkmod-index.h`: big-endian numbers; magic, version and the root's
place; then nodes, and what leads to one is its place, with flags for the parts that it has.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

_MAGIC, _VERSION = 0xB007F457, 0x00020001
_HAS_CHILDREN, _HAS_VALUES, _HAS_PREFIX = 0x20000000, 0x40000000, 0x80000000


@dataclass(slots=True)
class _Node:
    children: dict[int, _Node] = field(default_factory=dict)
    values: list[tuple[int, bytes]] = field(default_factory=list)


def render_index(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return an index in which texts are found by keys; of the same key, the earlier comes first.

    Args:
        pairs: ASCII; keys may be patterns.
    """
    root = _Node()
    for priority, (key, text) in enumerate(pairs):
        node = root
        for character in key.encode("ascii"):
            node = node.children.setdefault(character, _Node())
        if all(other != text.encode("ascii") for _, other in node.values):
            node.values.append((priority, text.encode("ascii")))
    written = bytearray(12)
    struct.pack_into(">III", written, 0, _MAGIC, _VERSION, _write(root, written))
    return bytes(written)


def _write(node: _Node, written: bytearray) -> int:
    """Write what is below a node, then the node; return what leads to it."""
    prefix = bytearray()
    while len(node.children) == 1 and not node.values:
        ((character, node),) = node.children.items()
        prefix.append(character)
    below = {character: _write(child, written) for character, child in node.children.items()}
    place = len(written)
    if prefix:
        place |= _HAS_PREFIX
        written += prefix + b"\0"
    if below:
        place |= _HAS_CHILDREN
        first, last = min(below), max(below)
        written += bytes((first, last))
        for character in range(first, last + 1):
            written += struct.pack(">I", below.get(character, 0))
    if node.values:
        place |= _HAS_VALUES
        written += struct.pack(">I", len(node.values))
        for priority, text in node.values:
            written += struct.pack(">I", priority) + text + b"\0"
    return place
