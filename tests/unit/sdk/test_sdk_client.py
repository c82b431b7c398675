"""Requests to the API: what is sent again, what an error says, and how sandboxes come to run."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from sdk_world import CONFIG, Server, members, microvm, refused

from emberbox_sdk import (
    AccessError,
    ApiError,
    Checkpoint,
    Config,
    ConfigurationError,
    ConflictError,
    DeadlineError,
    NotFoundError,
    QuotaError,
    Sandbox,
    SandboxEndedError,
    UnreachableError,
    wire,
)
from emberbox_sdk._sync import platform

ENVIRONMENT = {
    "AWS_ENDPOINT_URL_LAMBDA_MICROVMS": "http://api.test",
    "AWS_ACCESS_KEY_ID": "AKID",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "eu-west-1",
    "EMBERBOX_GATEWAY": "gateway.test:9443",
    "EMBERBOX_CA_BUNDLE": "/ca.pem",
    "EMBERBOX_ACCOUNT_ID": "123456789012",
}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "sleep", lambda seconds: None)


def broken(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("refused")


# --- configuration


def test_the_environment_is_read() -> None:
    config = Config.from_environment(ENVIRONMENT)
    assert (config.region, config.gateway, config.account_id) == ("eu-west-1", "gateway.test:9443", "123456789012")
    assert config.ca_bundle == Path("/ca.pem")
    assert config.s3_url == ""


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_LAMBDA_MICROVMS", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_what_is_missing_is_named_with_what_to_do(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name} is not set; run `eval"):
        Config.from_environment({key: value for key, value in ENVIRONMENT.items() if key != name})


def test_an_authority_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"/ca\.pem"):
        Config.from_environment(ENVIRONMENT).tls()


# --- requests


@pytest.mark.parametrize("first", [members({}, 503), refused("ThrottlingException", 429), broken])
def test_what_may_help_is_tried_again(first: object) -> None:
    server = Server()
    server.on("GET", "/microvms/mvm-1", first, members(microvm()))  # type: ignore[arg-type]
    assert server.client().call(wire.get_microvm("mvm-1"))["state"] == "RUNNING"
    assert len(server.asked) == 2


def test_it_is_tried_so_often_and_no_oftener() -> None:
    server = Server()
    server.on("GET", "/microvms/mvm-1", broken)
    with pytest.raises(UnreachableError, match=r"refused.*`emberbox status`"):
        server.client().call(wire.get_microvm("mvm-1"))
    assert len(server.asked) == 1 + CONFIG.retries


def test_a_rollback_is_not_sent_twice() -> None:
    server = Server()
    server.on("POST", "/restore", members({}, 503))
    with pytest.raises(ApiError):
        server.client().call(wire.restore_microvm("mvm-1", "2.0"))
    assert len(server.asked) == 1


def test_a_request_that_is_sent_again_has_the_same_token() -> None:
    server = Server()
    server.on("POST", "/microvms", members({}, 500), members(microvm()))
    server.client().call(wire.run_microvm({"imageIdentifier": "x"}))
    assert server.asked[0].content == server.asked[1].content


@pytest.mark.parametrize(
    ("code", "status", "kind", "hint"),
    [
        ("ResourceNotFoundException", 404, NotFoundError, "emberbox ps"),
        ("AccessDeniedException", 403, AccessError, "emberbox policies"),
        ("InvalidSignatureException", 403, AccessError, "emberbox env"),
        ("ConflictException", 409, ConflictError, "settled"),
        ("ServiceQuotaExceededException", 402, QuotaError, "emberbox quotas"),
        ("ValidationException", 400, ApiError, ""),
    ],
)
def test_errors_have_a_kind_and_say_what_to_do(code: str, status: int, kind: type[ApiError], hint: str) -> None:
    server = Server()
    server.on("GET", "/microvms/mvm-1", refused(code, status, "the reason"))
    with pytest.raises(kind) as caught:
        server.client().call(wire.get_microvm("mvm-1"))
    assert (caught.value.code, caught.value.status) == (code, status)
    assert str(caught.value).startswith(f"the reason ({code})")
    assert hint in str(caught.value)
    assert len(server.asked) == 1


def test_an_error_of_s3_is_read() -> None:
    body = b"<Error><Code>NoSuchBucket</Code><Message>it is gone</Message></Error>"
    error = wire.refusal(404, {}, body)
    assert (type(error), error.code) == (NotFoundError, "NoSuchBucket")
    assert "it is gone" in str(error)


def test_pauses_grow_to_a_bound() -> None:
    assert wire.pause_before(1, 1.0) == pytest.approx(0.1)
    assert wire.pause_before(2, 0.0) == pytest.approx(0.1)
    assert wire.pause_before(50, 1.0) == pytest.approx(5.0)


# --- sandboxes


def images() -> httpx2.Response:
    found = [{"name": name, "imageArn": f"arn:aws:lambda:r:1:microvm-image:{name}"} for name in ("hello-2", "hello")]
    return members({"items": found})


def launchable(*states: str) -> Server:
    server = Server()
    server.on("GET", "/microvm-images", images())
    server.on("POST", "/microvms", members(microvm("PENDING")))
    server.on("GET", "/microvms/mvm-1", *(members(microvm(state)) for state in states))
    server.on("DELETE", "/microvms/mvm-1", members({}))
    return server


def methods(server: Server) -> list[str]:
    return [f"{request.method} {request.url.path.rpartition('/')[2]}" for request in server.asked]


def test_a_block_ends_what_it_created() -> None:
    server = launchable("PENDING", "RUNNING")
    with Sandbox.create("hello", client=server.client(), max_s=60, suspend_after_idle_s=90) as sandbox:
        assert sandbox.id == "mvm-1"
    assert methods(server)[-1] == "DELETE mvm-1"
    asked = wire.json.loads(server.asked[1].content)
    assert asked["imageIdentifier"].endswith(":microvm-image:hello")
    assert asked["maximumDurationInSeconds"] == 60
    assert asked["idlePolicy"] == {
        "maxIdleDurationSeconds": 90,
        "suspendedDurationSeconds": 28800,
        "autoResumeEnabled": True,
    }
    assert [arn.rpartition(":")[2] for arn in asked["ingressNetworkConnectors"]] == ["SHELL_INGRESS", "HTTP_INGRESS"]


def test_a_block_leaves_what_it_has_connected_to() -> None:
    server = launchable("SUSPENDED")
    with Sandbox.connect("mvm-1", client=server.client()):
        pass
    assert methods(server) == ["GET mvm-1"]


def test_one_that_has_ended_cannot_be_connected_to() -> None:
    with pytest.raises(SandboxEndedError, match=r"create another one"):
        Sandbox.connect("mvm-1", client=launchable("TERMINATED").client())


def test_one_that_ends_at_once_is_told() -> None:
    with pytest.raises(SandboxEndedError, match=r"mvm-1 has ended"):
        Sandbox.create("hello", client=launchable("PENDING", "TERMINATED").client())


def test_one_that_does_not_run_in_time_is_ended() -> None:
    server = launchable("PENDING")
    with pytest.raises(DeadlineError, match=r"mvm-1 is PENDING"):
        Sandbox.create("hello", client=server.client(), timeout_s=0)
    assert methods(server)[-1] == "DELETE mvm-1"


def test_an_image_that_is_not_there_is_told() -> None:
    with pytest.raises(NotFoundError, match=r"no image hell;.*Image\.build"):
        Sandbox.create("hell", client=launchable("RUNNING").client())


def test_no_connector_at_all_is_not_taken_for_the_internet() -> None:
    with pytest.raises(ConfigurationError, match="network connector"):
        Sandbox.create("hello", egress=[], client=Server().client())


def test_a_checkpoint_is_launched_by_its_version() -> None:
    server = launchable("RUNNING")
    with pytest.raises(ConfigurationError, match=r"launchable=True"):
        Sandbox.create(Checkpoint("arn:x", "2.0"), client=server.client())
    assert server.asked == []
    Sandbox.create(Checkpoint("arn:x", "2.0", launchable=True), client=server.client())
    asked = wire.json.loads(server.asked[0].content)
    assert (asked["imageIdentifier"], asked["imageVersion"]) == ("arn:x", "2.0")


def test_forks_are_waited_for() -> None:
    server = launchable("RUNNING")
    forks = [{"microvmId": "mvm-1", "endpoint": "f.test", "state": "PENDING"}]
    server.on("POST", "/fork", members({"items": forks}))
    sandbox = Sandbox.connect("mvm-1", client=server.client())
    assert [fork.id for fork in sandbox.fork()] == ["mvm-1"]
    assert methods(server)[-2:] == ["POST fork", "GET mvm-1"]


def test_terminating_twice_is_no_error() -> None:
    server = launchable("RUNNING", "TERMINATED")
    sandbox = Sandbox.connect("mvm-1", client=server.client())
    server.on("DELETE", "/microvms/mvm-1", refused("ConflictException", 409))
    sandbox.terminate()


def test_the_list_leaves_out_what_has_ended() -> None:
    server = Server()
    pages = (
        members({"items": [microvm("TERMINATED", "a"), microvm("SUSPENDED", "b")], "nextToken": "n"}),
        members({"items": [microvm("RUNNING", "c"), microvm("TERMINATING", "d")]}),
    )
    server.on("GET", "/microvms", *pages)
    assert [info.id for info in Sandbox.list(client=server.client())] == ["b", "c"]
    assert "nextToken=n" in str(server.asked[1].url)
