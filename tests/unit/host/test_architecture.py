"""The table of architectures: both machines read the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from emberbox.host import architecture
from emberbox.host.architecture import ARCHITECTURES, ARM_64, X86_64, find_native, native, of_engine
from emberbox.host.native import agent_path, openssl_random_path
from emberbox.model.engines import ARM64_ENGINE, ENGINE_NAMES
from emberbox.model.errors import HostError
from emberbox.model.images import PROCESSORS

ELF_MACHINE = slice(18, 20)


@pytest.mark.parametrize(("machine", "row"), [("x86_64", X86_64), ("aarch64", ARM_64)])
def test_a_machine_runs_its_own_kind(
    monkeypatch: pytest.MonkeyPatch, machine: str, row: architecture.Architecture
) -> None:
    monkeypatch.setattr(architecture.platform, "machine", lambda: machine)
    assert native() == row
    assert {of_engine(name) for name in ("", *ENGINE_NAMES)} == {row}
    assert of_engine(ARM64_ENGINE) == ARM_64


def test_others_are_refused_with_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architecture.platform, "machine", lambda: "riscv64")
    assert find_native() is None
    with pytest.raises(HostError, match="this machine is riscv64"):
        native()


def test_the_rows_are_those_of_the_service_model() -> None:
    assert {one.name for one in ARCHITECTURES} == set(PROCESSORS)


@pytest.mark.parametrize("row", ARCHITECTURES, ids=lambda one: one.name)
def test_what_runs_in_guests_is_compiled_for_each(row: architecture.Architecture) -> None:
    """Its header is the one that the kernel is told of, as far as that counts."""
    for path in (agent_path(row), openssl_random_path(row)):
        header = path.read_bytes()[:20]
        assert header[ELF_MACHINE] == row.elf_header[ELF_MACHINE]
        masked = [bytes(a & b for a, b in zip(one, row.elf_mask, strict=True)) for one in (header, row.elf_header)]
        assert masked[0] == masked[1]
    others = [one for one in ARCHITECTURES if one != row]
    assert all(Path(agent_path(one)).read_bytes()[ELF_MACHINE] != row.elf_header[ELF_MACHINE] for one in others)
