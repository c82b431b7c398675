"""What an image's settings and files say about how to run it; no container is built here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emberbox.images.config import User, find_user, parse_config
from emberbox.model.errors import BuildError

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
worker:x:1000:1001::/home/worker:/bin/sh
broken line
4000:x:12:13::/odd:/bin/sh
"""
GROUP = "root:x:0:\nworkers:x:1001:\nextra:x:50:other,worker\nmore:x:51:worker\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", User(0, 0, (), "/root")),
        ("worker", User(1000, 1001, (50, 51), "/home/worker")),
        ("1000", User(1000, 1001, (50, 51), "/home/worker")),
        ("worker:extra", User(1000, 50, (), "/home/worker")),
        ("worker:77", User(1000, 77, (), "/home/worker")),
        ("2000", User(2000, 0, (), "/")),
        ("2000:2001", User(2000, 2001, (), "/")),
    ],
)
def test_a_user_is_found_as_docker_finds_it(root: Path, text: str, user: User) -> None:
    assert find_user(root, text) == user


@pytest.mark.parametrize(("text", "named"), [("nobody", "no user nobody"), ("worker:none", "no group none")])
def test_an_unknown_user_or_group_fails_the_build(root: Path, text: str, named: str) -> None:
    with pytest.raises(BuildError, match=named) as caught:
        find_user(root, text)
    assert caught.value.reason == "CONTAINER_BUILD_FAILED"


def test_an_image_without_passwd_runs_by_number(tmp_path: Path) -> None:
    assert find_user(tmp_path, "") == User(0, 0, (), "/")
    assert find_user(tmp_path, "5:6") == User(5, 6, (), "/")


def test_a_link_out_of_the_image_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("evil:x:1:1::/:/bin/sh\n")
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/passwd").symlink_to(tmp_path / "outside")
    with pytest.raises(BuildError):
        find_user(tmp_path / "root", "evil")


def test_the_settings_of_an_image_are_read() -> None:
    config = parse_config(
        {
            "Entrypoint": ["python3"],
            "Cmd": ["app.py"],
            "Env": ["A=b=c", "PATH=/x", "odd"],
            "WorkingDir": "/app",
            "User": "worker",
            "ExposedPorts": {"8080/tcp": {}, "9000": {}, "53/udp": {}},
        }
    )
    assert config.arguments == ("python3", "app.py")
    assert dict(config.environment) == {"A": "b=c", "PATH": "/x"}
    assert (config.directory, config.user, config.ports) == ("/app", "worker", (8080, 9000))


def test_what_is_not_set_has_a_default() -> None:
    config = parse_config({"Cmd": ["x"], "Entrypoint": None, "Env": None, "ExposedPorts": None})
    assert "/usr/bin" in dict(config.environment)["PATH"]
    assert (config.directory, config.user, config.ports) == ("/", "", ())


@pytest.mark.parametrize("config", [{}, {"Cmd": [], "Entrypoint": None}])
def test_an_image_with_nothing_to_run_fails_the_build(config: dict[str, Any]) -> None:
    with pytest.raises(BuildError, match="neither ENTRYPOINT nor CMD"):
        parse_config(config)
