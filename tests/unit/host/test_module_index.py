"""Indexes of modules: read back by a reader of kmod's form."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from emberbox.host.module_index import render_index

CHILDREN, VALUES, PREFIX = 0x20000000, 0x40000000, 0x80000000


def read_text(index: bytes, place: int) -> tuple[str, int]:
    end = index.index(b"\0", place)
    return index[place:end].decode(), end + 1


def find(index: bytes, key: str) -> list[str]:
    """Return the texts of a key, as kmod looks them up (libkmod-index.c, index_search)."""
    magic, version, node = struct.unpack_from(">III", index)
    assert (magic, version) == (0xB007F457, 0x00020001)
    while node:
        place = node & 0x0FFFFFFF
        if node & PREFIX:
            prefix, place = read_text(index, place)
            if not key.startswith(prefix):
                return []
            key = key.removeprefix(prefix)
        children: dict[str, int] = {}
        if node & CHILDREN:
            first, last = index[place : place + 2]
            offsets = struct.unpack_from(f">{last - first + 1}I", index, place + 2)
            children = {chr(first + number): offset for number, offset in enumerate(offsets)}
            place += 2 + 4 * len(offsets)
        if not key:
            return read_values(index, place) if node & VALUES else []
        node, key = children.get(key[0], 0), key[1:]
    return []


def read_values(index: bytes, place: int) -> list[str]:
    (count,) = struct.unpack_from(">I", index, place)
    place, found = place + 4, []
    for _ in range(count):
        (priority,) = struct.unpack_from(">I", index, place)
        text, place = read_text(index, place + 4)
        found.append((priority, text))
    return [text for _, text in sorted(found)]


def test_a_key_may_be_the_beginning_of_another() -> None:
    index = render_index([("nf_nat", "one"), ("nf_nat_ftp", "two"), ("nf", "three"), ("veth", "four")])
    assert [find(index, key) for key in ("nf", "nf_nat", "nf_nat_ftp", "veth", "nf_", "x", "")] == [
        ["three"], ["one"], ["two"], ["four"], [], [], [],
    ]  # fmt: skip


def test_a_key_has_its_texts_in_order_and_once() -> None:
    assert find(render_index([("fs", "b"), ("fs", "a"), ("fs", "b")]), "fs") == ["b", "a"]


def test_an_empty_index_holds_nothing() -> None:
    assert find(render_index([]), "x") == []


@given(st.dictionaries(st.text("ab_*[]0-9", max_size=6), st.text("xyz", max_size=3)))
def test_what_is_written_is_found(pairs: dict[str, str]) -> None:
    index = render_index(pairs.items())
    assert {key: find(index, key) for key in pairs} == {key: [text] for key, text in pairs.items()}
