"""Logins for registries, as `docker login` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emberbox.images.oci.credentials import Login, find_login
from emberbox.model.errors import HostError
from support.container_images import PASSWORD, USER, logins


def test_the_login_of_a_registry_is_found(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(logins("registry.test:5000"))
    assert find_login(path, "registry.test:5000") == Login(USER, PASSWORD)
    assert find_login(path, "registry.test") is None
    path.write_text(json.dumps({"auths": {"https://index.docker.io/v1/": {"username": "a", "password": "b"}}}))
    assert find_login(path, "docker.io") == Login("a", "b")
    assert "b" not in repr(Login("a", "b"))


@pytest.mark.parametrize(
    "content",
    [
        [], {}, {"auths": []}, {"auths": {"r.test": {}}},
        {"auths": {"r.test": {"auth": "%"}}}, {"auths": {"r.test": {"auth": "eA=="}}},
        {"auths": {"r.test": {"auth": "eDp5", "identitytoken": "x"}}},
    ],
)  # fmt: skip
def test_another_form_is_refused_without_telling_what_it_is(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content))
    with pytest.raises(HostError, match=r"EMBERBOX_REGISTRY_AUTH.*has no login for r.test that can be used"):
        find_login(path, "r.test")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be read: No such file"):
        find_login(tmp_path / "missing", "r.test")
