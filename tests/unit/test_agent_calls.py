"""The agent's C files use each other in one direction: no file calls back, not through others either."""

from __future__ import annotations

import graphlib
import importlib.util
import re
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

AGENT = Path(__file__).resolve().parents[2] / "agent"
SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym
SYMBOL_TABLE = 2  # SHT_SYMTAB
GLOBAL, WEAK = 1, 2  # STB_GLOBAL, STB_WEAK


def symbols(program: bytes) -> Iterator[tuple[str, bool]]:
    """Yield the global symbols of an ELF64 object: name, and whether it is defined there."""
    (table,) = struct.unpack_from("<Q", program, 40)  # e_shoff
    size, count = struct.unpack_from("<HH", program, 58)  # e_shentsize, e_shnum
    sections = [SECTION.unpack_from(program, table + index * size) for index in range(count)]
    for _, kind, _, _, offset, length, names, _, _, _ in sections:
        if kind != SYMBOL_TABLE:
            continue
        start = sections[names][4]
        for name, info, _, section, _, _ in SYMBOL.iter_unpack(program[offset : offset + length]):
            if info >> 4 in (GLOBAL, WEAK):
                end = program.index(b"\0", start + name)
                yield program[start + name : end].decode(), section != 0


def uses(objects: Mapping[str, Path]) -> dict[str, set[str]]:
    """Return which files each file takes functions or variables from."""
    found = {name: list(symbols(path.read_bytes())) for name, path in objects.items()}
    home = {symbol: name for name, symbols in found.items() for symbol, defined in symbols if defined}
    return {
        name: {home[symbol] for symbol, defined in symbols if not defined and symbol in home}
        for name, symbols in found.items()
    }


def order(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the files, each after those that it uses; raises graphlib.CycleError, which names the circle."""
    return list(graphlib.TopologicalSorter(graph).static_order())


def compile_all(sources: list[Path], folder: Path) -> dict[str, Path]:
    """Return the object file of each source."""
    options = ["-std=c11", "-O0", "-D_GNU_SOURCE", "-target", "x86_64-linux-musl"]
    compiler = [sys.executable, "-m", "ziglang", "cc", *options]
    objects = {source: folder / f"{source.stem}.o" for source in sources}
    for source, target in objects.items():
        subprocess.run([*compiler, "-c", source, "-o", target], check=True)
    return {source.name: target for source, target in objects.items()}


def agent_sources() -> list[Path]:
    spec = importlib.util.spec_from_file_location("agent_build", AGENT / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [AGENT / name for name in module.AGENT_SOURCES]


def test_calls_go_one_way(tmp_path: Path) -> None:
    sources = agent_sources()
    graph = uses(compile_all(sources, tmp_path))
    assert set(graph) == {source.name for source in sources}
    assert "channel.c" in graph["main.c"]
    assert order(graph)[-1] == "main.c"


def test_headers_include_each_other_one_way() -> None:
    names = {path.name for path in AGENT.glob("*.[ch]")}
    graph = {
        name: names.intersection(re.findall(r'^#include "([\w.]+)"', (AGENT / name).read_text(), re.MULTILINE))
        for name in names
    }
    assert "agent.h" in graph["main.c"]
    order(graph)


def test_a_circle_is_found(tmp_path: Path) -> None:
    (tmp_path / "up.c").write_text("void down(void); void up(void) { down(); } int main(void) { up(); return 0; }\n")
    (tmp_path / "down.c").write_text("void up(void); void down(void) { up(); }\n")
    graph = uses(compile_all([tmp_path / "up.c", tmp_path / "down.c"], tmp_path))
    assert graph == {"up.c": {"down.c"}, "down.c": {"up.c"}}
    with pytest.raises(graphlib.CycleError):
        order(graph)
