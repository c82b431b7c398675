"""How an ordinary user gets root's rights over namespaces of a sandbox's own."""

from __future__ import annotations

import os

import pytest

from emberbox.host.user_namespace import enter_line


def test_root_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert enter_line(100) == []


def test_an_ordinary_user_is_root_in_one_that_bounds_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    line = enter_line(100)
    assert line[: line.index("--")] == ["unshare", "--user", "--map-root-user"]
    assert "--nproc=100" in line
    assert line[-1] == "--"
