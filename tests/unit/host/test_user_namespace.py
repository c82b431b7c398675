"""How an ordinary user gets root's rights over namespaces of a sandbox's own."""

from __future__ import annotations

import os
import resource

import pytest

from emberbox.host.user_namespace import enter_line


def test_root_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert enter_line(100) == []


@pytest.mark.parametrize(("own", "most"), [(resource.RLIM_INFINITY, 100), (5000, 100), (60, 60)])
def test_an_ordinary_user_is_root_in_one_that_bounds_processes(
    monkeypatch: pytest.MonkeyPatch, own: int, most: int
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (own, own))
    line = enter_line(100)
    assert line[: line.index("--")] == ["unshare", "--user", "--map-root-user"]
    assert f"--nproc={most}" in line
    assert line[-1] == "--"
