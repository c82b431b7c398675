"""The machine's own figures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emberbox.host import figures
from emberbox.host.figures import measure_host
from emberbox.host.space import DiskSpace, Room
from emberbox.host.usage import MachineMemory
from emberbox.model.usage import HostFigures


def test_each_figure_comes_from_where_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = DiskSpace(tmp_path)
    monkeypatch.setattr(space, "look", lambda: Room(total=100, free=40, reserve=10))
    monkeypatch.setattr(figures, "machine_memory", lambda: MachineMemory(total=8, available=5))
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 2.5, 3.5))
    assert measure_host(space) == HostFigures(1, 1.5, 8, 5, 40, 10)
