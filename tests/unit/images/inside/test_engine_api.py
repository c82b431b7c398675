"""What is asked of Docker's daemon by its socket; real daemons answer in tests/vm/test_vm_sandboxed_builds.py."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from emberbox.images.inside.engine_api import ApiError, EngineApi

IMAGES = [{"RepoTags": ["emberbox/base:1", "emberbox/base:2"]}, {"RepoTags": None}]
ANSWERS: dict[tuple[str, str], tuple[int, Any]] = {
    ("GET", "/images/emberbox/debian%3A12/json"): (200, {"Id": "1"}),
    ("GET", "/images/broken/json"): (500, {"message": "layer does not exist"}),
    ("GET", "/images/json"): (200, IMAGES),
    ("POST", "/images/made/tag"): (201, None),
    ("DELETE", "/images/made"): (200, [{"Untagged": "made:latest"}]),
    ("DELETE", "/images/used"): (409, {"message": "image is being used"}),
    ("POST", "/build/prune"): (200, {"SpaceReclaimed": 0}),
}


class Daemon(socketserver.ThreadingUnixStreamServer):
    """A server on a Unix socket that answers by the table and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.asked: list[tuple[str, str, dict[str, list[str]]]] = []
        super().__init__(str(path), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Daemon

    def answer(self) -> None:
        target = urlsplit(self.path)
        self.server.asked.append((self.command, target.path, parse_qs(target.query)))
        status, told = ANSWERS.get((self.command, target.path), (404, {"message": "no such image"}))
        content = b"" if told is None else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - names of the base

    def address_string(self) -> str:
        return "a Unix socket"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "docker.sock") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def api(daemon: Daemon, tmp_path: Path) -> EngineApi:
    return EngineApi(tmp_path / "docker.sock")


def test_an_image_is_there_or_not(api: EngineApi) -> None:
    assert api.inspect_image("emberbox/debian:12") == {"Id": "1"}
    assert api.inspect_image("nothing") is None
    with pytest.raises(ApiError, match="layer does not exist"):
        api.inspect_image("broken")


def test_names_of_one_repository_are_listed(api: EngineApi, daemon: Daemon) -> None:
    assert api.list_names("emberbox/base") == ["emberbox/base:1", "emberbox/base:2"]
    assert json.loads(daemon.asked[0][2]["filters"][0]) == {"reference": ["emberbox/base"]}


def test_what_is_not_there_need_not_be_removed(api: EngineApi, daemon: Daemon) -> None:
    api.remove_image("made")
    api.remove_image("gone")
    assert [path for _, path, _ in daemon.asked] == ["/images/made", "/images/gone"]
    with pytest.raises(ApiError, match="image is being used") as raised:
        api.remove_image("used")
    assert raised.value.status == 409


def test_an_image_gets_another_name_and_layers_are_bounded(api: EngineApi, daemon: Daemon) -> None:
    api.tag_image("made", "emberbox/base:0123")
    api.prune_builds(5 << 20)
    assert daemon.asked == [
        ("POST", "/images/made/tag", {"repo": ["emberbox/base"], "tag": ["0123"]}),
        ("POST", "/build/prune", {"keep-storage": [str(5 << 20)]}),
    ]
