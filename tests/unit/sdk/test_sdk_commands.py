"""Commands and files over a data plane that is made of a few lines."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest
from sdk_world import Server, exited, lines, members, microvm, output, token

from emberbox_sdk import (
    AsyncSandbox,
    CommandFailedError,
    ConflictError,
    DeadlineError,
    DisconnectedError,
    NotFoundError,
    Sandbox,
    SandboxEndedError,
)
from emberbox_sdk.commands import Asked, read_frame
from emberbox_sdk.results import CommandResult, Output


@pytest.fixture
def server() -> Server:
    server = Server()
    server.on("GET", "/microvms/mvm-1", members(microvm()))
    server.on("POST", "/shell-auth-token", token("first"), token("second"))
    server.on("POST", "/auth-token", token("port"))
    return server


@pytest.fixture
def sandbox(server: Server) -> Sandbox:
    return Sandbox.connect("mvm-1", client=server.client())


def asked(server: Server) -> dict[str, object]:
    found: dict[str, object] = httpx2.Response(200, content=server.asked[-1].content).json()
    return found


def test_a_line_is_for_the_shell_and_a_list_is_not(server: Server, sandbox: Sandbox) -> None:
    server.on("POST", "/exec", lines(exited()))
    sandbox.run("echo $HOME", cwd="/srv", env={"A": "b"}, user="root", stdin="in")
    assert asked(server) == {
        "command": ["/bin/sh", "-c", "echo $HOME"],
        "workingDirectory": "/srv",
        "environmentVariables": {"A": "b"},
        "user": "root",
        "terminal": False,
        "input": "in",
    }
    sandbox.run(["ls", "a b"])
    assert asked(server)["command"] == ["ls", "a b"]


def test_output_is_gathered_and_heard_as_it_comes(server: Server, sandbox: Sandbox) -> None:
    euro = "€".encode()
    pieces = [output("stdout", euro[:1]), output("stderr", b"e"), output("stdout", euro[1:]), output("stdout", b"\xff")]
    server.on("POST", "/exec", lines(*pieces, exited(3)))
    heard: list[str] = []
    result = sandbox.run("x", on_stdout=heard.append)
    assert (result.exit_code, result.stdout, result.stderr, result.ok) == (3, "€\ufffd", "e", False)
    assert heard == ["€", "\ufffd"]


def test_only_so_much_of_each_output_is_kept_and_all_is_heard(server: Server, sandbox: Sandbox) -> None:
    pieces = [output("stdout", b"abc"), output("stderr", b"e"), output("stdout", b"def"), output("stdout", b"ghi")]
    server.on("POST", "/exec", lines(*pieces, exited(3)))
    heard: list[str] = []
    result = sandbox.run("x", keep_bytes=5, on_stdout=heard.append)
    assert result == CommandResult(3, "abcde", "e", truncated=True)
    assert "".join(heard) == "abcdefghi"
    assert sandbox.run("x", keep_bytes=9) == CommandResult(3, "abcdefghi", "e")


def test_bytes_that_are_no_text_can_be_had_back(server: Server, sandbox: Sandbox) -> None:
    server.on("POST", "/exec", lines(output("stdout", b"\xff\xe2\x82"), output("stdout", b"\xac"), exited(0)))
    result = sandbox.run("x", errors="surrogateescape")
    assert result.stdout.encode(errors="surrogateescape") == b"\xff\xe2\x82\xac"


def test_a_checked_command_that_fails_shows_its_last_line(server: Server, sandbox: Sandbox) -> None:
    server.on("POST", "/exec", lines(output("stderr", b"first\nlast\n"), exited(2)))
    with pytest.raises(CommandFailedError, match=r"`make` ended with 2: last") as caught:
        sandbox.run("make", check=True)
    assert caught.value.result.exit_code == 2


@pytest.mark.parametrize(
    "answer",
    [lines(output("stdout", b"x"), {"type": "error", "message": "it was suspended"}), lines(output("stdout", b"x"))],
)
def test_a_command_whose_end_is_not_told_is_cut_off(server: Server, sandbox: Sandbox, answer: httpx2.Response) -> None:
    server.on("POST", "/exec", answer)
    with pytest.raises(DisconnectedError, match=r"goes on when the sandbox is resumed"):
        sandbox.run("x")


def test_a_command_that_takes_too_long_leaves_what_it_wrote(server: Server, sandbox: Sandbox) -> None:
    def hang(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("slow")

    server.on("POST", "/exec", hang)
    with pytest.raises(DeadlineError, match=r"`x` took longer than 5 s.*start\(\)"):
        sandbox.run("x", timeout_s=5)


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (b"", ConflictError, r"mvm-1 does not run; resume\(\)"),
        (b'{"message": "mvm-1 has ended"}', SandboxEndedError, r"Sandbox\.create\(\)"),
    ],
)
def test_one_that_does_not_run_is_told(
    server: Server, sandbox: Sandbox, body: bytes, kind: type[Exception], text: str
) -> None:
    server.on("POST", "/exec", httpx2.Response(502, content=body))
    with pytest.raises(kind, match=text):
        sandbox.run("x")


def test_a_token_is_kept_and_renewed_once_when_it_is_not_taken(server: Server, sandbox: Sandbox) -> None:
    stale = httpx2.Response(403, content=b"Token authentication failed")
    server.on("POST", "/exec", lines(exited()), stale, lines(exited(7)))
    sandbox.run("a")
    assert sandbox.run("b").exit_code == 7
    sent = [request.headers["x-aws-proxy-auth"] for request in server.asked if request.url.path == "/exec"]
    assert sent == ["first", "first", "second"]


def test_tokens_are_renewed_before_they_expire(
    server: Server, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on("GET", "/page", httpx2.Response(200, content=b"hello"))
    port = sandbox.url(8000)
    now = [1000.0]
    monkeypatch.setattr("emberbox_sdk._sync.endpoint.time.monotonic", lambda: now[0])
    for later in (0.0, 1100.0, 200.0):
        now[0] += later
        assert port.get("/page").text == "hello"
    minted = [request for request in server.asked if request.url.path.endswith("/auth-token")]
    assert len(minted) == 2
    assert server.asked[-1].headers["x-aws-proxy-port"] == "8000"
    assert (str(port), port.public_url) == ("https://gateway.test:9443/", "https://e.test/")


def test_a_link_has_a_token_of_its_own_that_holds_as_long_as_asked(server: Server, sandbox: Sandbox) -> None:
    port = sandbox.url(8000)
    port.headers()
    server.on("POST", "/auth-token", token("for-a-browser"))
    assert port.link(minutes=5) == "https://e.test/.emberbox/enter?port=8000&token=for-a-browser"
    asked = json.loads(server.asked[-1].content)
    assert asked == {"allowedPorts": [{"port": 8000}], "expirationInMinutes": 5}


def test_a_port_that_nobody_listens_on_is_told(server: Server, sandbox: Sandbox) -> None:
    server.on("GET", "/", httpx2.Response(502))
    with pytest.raises(DeadlineError, match=r"nothing answers on port 8080"):
        sandbox.url().wait(0)


def test_a_file_makes_its_directories(server: Server, sandbox: Sandbox) -> None:
    server.on("PUT", "/files", members({"message": "/a: No such file"}, 404), httpx2.Response(204))
    server.on("POST", "/exec", lines(exited()))
    sandbox.files.write("/a/b", "text", mode=0o600)
    assert [request.url.path for request in server.asked[-3:]] == ["/files", "/exec", "/files"]
    assert server.asked[-1].content == b"text"
    assert server.asked[-1].headers["content-length"] == "4"
    assert dict(server.asked[-1].url.params) == {"path": "/a/b", "mode": "600"}


def test_a_local_file_is_sent_whole_also_the_second_time(server: Server, sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 600_000)
    server.on("PUT", "/files", members({"message": "no"}, 404), httpx2.Response(204))
    server.on("POST", "/exec", lines(exited()))
    counts: list[int] = []
    sandbox.files.write("/a/b", tmp_path / "f", on_bytes=counts.append)
    assert len(server.asked[-1].content) == 600_000
    assert counts[-1] == 600_000


def test_a_file_that_is_not_there_is_told(server: Server, sandbox: Sandbox) -> None:
    server.on("GET", "/files", members({"message": "/a: No such file or directory"}, 404))
    with pytest.raises(NotFoundError, match=r"/a: No such file"):
        sandbox.files.read("/a")


def test_what_is_asked_of_a_name_that_is_not_there_is_told(server: Server, sandbox: Sandbox) -> None:
    server.on("POST", "/exec", lines(exited(44)))
    with pytest.raises(NotFoundError, match=r"/a: nothing is there"):
        sandbox.files.stat("/a")
    assert not sandbox.files.exists("/a")
    server.on("POST", "/exec", lines(exited(45)))
    with pytest.raises(ConflictError, match=r"/a is no directory"):
        sandbox.files.list("/a")


async def test_the_other_half_does_the_same(server: Server) -> None:
    server.on("POST", "/exec", lines(output("stdout", b"hi"), exited(1)))
    async with await AsyncSandbox.connect("mvm-1", client=server.async_client()) as sandbox:
        assert (await sandbox.run("x")).stdout == "hi"
        with pytest.raises(CommandFailedError):
            await sandbox.run("x", check=True)


def test_frames_are_read() -> None:
    assert read_frame(b"\x01out") == Output("stdout", b"out")
    assert read_frame(b"\x02err") == Output("stderr", b"err")
    assert read_frame('{"type": "exit", "exitCode": 9}') == 9
    assert str(Asked(["a", "b"])) == "a b"
