"""Images: what is uploaded, when something is built, and what is said of it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import httpx2
import pytest
from sdk_world import Server, members, refused

from emberbox_sdk import BuildError, ConfigurationError, Image, artifacts
from emberbox_sdk._sync import platform

ARN = "arn:aws:lambda:us-east-1:000000000000:microvm-image:hello"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "sleep", lambda seconds: None)


def image(state: str, version: str | None = "1.0") -> httpx2.Response:
    return members({"name": "hello", "imageArn": ARN, "state": state, "latestActiveImageVersion": version})


def log(*lines: str) -> httpx2.Response:
    events = [{"eventId": line, "timestamp": 5000, "message": f"{line}\n"} for line in lines]
    return members({"events": events})


@pytest.fixture
def server() -> Server:
    server = Server()
    server.on("GET", "/microvm-images", members({"items": []}))
    server.on("PUT", "/emberbox-sdk-000000000000", refused("BucketAlreadyOwnedByYou", 409))
    server.on("PUT", ".zip", httpx2.Response(200))
    server.on("POST", "/microvm-images", members({"imageArn": ARN, "imageVersion": "1.0"}))
    server.on("GET", "/microvm-images/" + ARN, image("CREATING", None), image("CREATED"))
    server.on("POST", "/", refused("ResourceNotFoundException", 400), log("one", "two"))
    return server


def test_an_image_is_built_and_its_log_is_told_once(server: Server) -> None:
    told: list[str] = []
    built = Image.build(
        dockerfile="FROM x\n", name="hello", environment={"A": "b"}, on_progress=told.append, client=server.client()
    )
    assert (built.name, built.arn, built.version) == ("hello", ARN, "1.0")
    assert told == ["uploading 0 KiB", "building the image hello", "one", "two"]
    (uploaded,) = [request for request in server.asked if request.url.path.endswith(".zip")]
    with zipfile.ZipFile(io.BytesIO(uploaded.content)) as archive:
        assert archive.read("Dockerfile") == b"FROM x\n"
    (created,) = [
        request for request in server.asked if request.url.path.endswith("/microvm-images") and request.content
    ]
    assert b'"environmentVariables": {"A": "b"}' in created.content


def test_what_was_built_before_is_not_built_again(server: Server) -> None:
    artifact = artifacts.pack(None, "FROM x\n")
    server.on("GET", "/microvm-images", members({"items": [{"name": "hello", "imageArn": ARN}]}))
    server.on("GET", "/microvm-images/" + ARN, image("CREATED"))
    version = {
        "codeArtifact": {"uri": f"s3://emberbox-sdk-000000000000/{artifact.key}"},
        "resources": [{"minimumMemoryInMiB": 512}],
        "hooks": {},
    }
    server.on("GET", "/versions/1.0", members(version))
    assert Image.build(dockerfile="FROM x\n", name="hello", client=server.client()).version == "1.0"
    assert all(request.method != "PUT" for request in server.asked)
    server.on("PUT", "/microvm-images/" + ARN, members({"imageArn": ARN, "imageVersion": "2.0"}))
    states = (image("CREATED"), image("UPDATING"), image("UPDATED", "2.0"))
    server.on("GET", "/microvm-images/" + ARN, *states)
    assert Image.build(dockerfile="FROM y\n", name="hello", client=server.client()).version == "2.0"


def test_one_that_is_named_by_its_contents_is_asked_for_once(server: Server) -> None:
    name = artifacts.name_of(artifacts.pack(None, "FROM x\n"), 512, {}, {})
    server.on("GET", "/microvm-images", members({"items": [{"name": name, "imageArn": ARN}]}))
    server.on("GET", "/microvm-images/" + ARN, image("CREATED", "2.0"))
    told: list[str] = []
    built = Image.build(dockerfile="FROM x\n", on_progress=told.append, client=server.client())
    assert (len(server.asked), told) == (2, [])
    assert built.version == "1.0"  # 2.0 is a checkpoint of somebody's


def test_one_that_somebody_else_builds_is_waited_for(server: Server) -> None:
    name = artifacts.name_of(artifacts.pack(None, "FROM x\n"), 512, {}, {})
    server.on("GET", "/microvm-images", members({"items": [{"name": name, "imageArn": ARN}]}))
    assert Image.build(dockerfile="FROM x\n", client=server.client()).version == "1.0"
    assert all(request.method != "PUT" for request in server.asked)


def test_one_whose_first_build_failed_is_built_anew(server: Server) -> None:
    server.on(
        "GET", "/microvm-images", members({"items": [{"name": "hello", "imageArn": ARN}]}), members({"items": []})
    )
    gone = refused("ResourceNotFoundException", 404)
    server.on("GET", "/microvm-images/" + ARN, image("CREATE_FAILED", None), gone, image("CREATED"))
    server.on("DELETE", "/microvm-images/" + ARN, members({}))
    assert Image.build(dockerfile="FROM x\n", name="hello", client=server.client()).version == "1.0"


def test_a_failed_build_shows_why(server: Server) -> None:
    server.on("GET", "/microvm-images/" + ARN, image("CREATING", None), image("CREATE_FAILED", None))
    builds = [{"buildState": "SUCCESSFUL"}, {"buildState": "FAILED", "stateReason": "exit 1"}]
    server.on("GET", "/versions/1.0/builds", members({"items": builds}))
    with pytest.raises(BuildError, match=r"hello was not built: exit 1; last: two; `emberbox logs hello`") as caught:
        Image.build(dockerfile="FROM x\n", name="hello", client=server.client())
    assert caught.value.log == ("one", "two")
    assert (caught.value.version, caught.value.reason) == ("1.0", "exit 1")


def test_a_directory_is_packed_without_what_does_not_belong(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x")
    (tmp_path / "run.sh").write_text("#!/bin/sh")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("")
    packed = artifacts.pack(tmp_path, None)
    assert packed == artifacts.pack(tmp_path, None)
    with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
        modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in archive.infolist()}
    assert modes == {"Dockerfile": 0o644, "run.sh": 0o755}


def test_a_directory_without_a_dockerfile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no Dockerfile in .*; add one"):
        artifacts.pack(tmp_path, None)
    with pytest.raises(ConfigurationError, match=r"is no directory"):
        artifacts.pack(tmp_path / "missing", None)


def test_names_differ_with_what_is_built() -> None:
    artifact = artifacts.pack(None, "FROM x")
    names = {artifacts.name_of(artifact, *more) for more in ((512, {}), (1024, {}), (512, {"A": "b"}))}
    assert len(names) == 3
    assert all(len(name) <= 64 for name in names)


def test_what_is_in_a_registry_is_built_from_there(server: Server) -> None:
    built = Image.build(
        uri="oci://registry/hello:1", name="hello", architecture="ARM_64", memory_mib=None, client=server.client()
    )
    (created,) = [one for one in server.asked if one.url.path.endswith("/microvm-images") and one.content]
    asked = json.loads(created.content)
    assert asked["codeArtifact"] == {"uri": "oci://registry/hello:1"}
    assert asked["cpuConfigurations"] == [{"architecture": "ARM_64"}]
    assert "resources" not in asked
    assert all(request.method != "PUT" for request in server.asked)  # nothing is uploaded
    assert built.version == "1.0"


def test_the_same_is_built_again_where_that_is_asked_for(server: Server) -> None:
    server.on("GET", "/microvm-images", members({"items": [{"name": "hello", "imageArn": ARN}]}))
    server.on("PUT", "/microvm-images/" + ARN, members({"imageArn": ARN, "imageVersion": "2.0"}))
    server.on("GET", "/microvm-images/" + ARN, image("CREATED"), image("UPDATING"), image("UPDATED", "2.0"))
    built = Image.build(uri="oci://registry/hello:1", name="hello", again=True, client=server.client())
    assert built.version == "2.0"


def test_an_image_is_built_from_one_thing() -> None:
    with pytest.raises(ConfigurationError, match="without a directory or a Dockerfile"):
        artifacts.find(None, "FROM x\n", "oci://registry/hello:1")


def test_images_are_listed_over_pages(server: Server) -> None:
    item = {"name": "hello", "imageArn": ARN, "latestActiveImageVersion": "2.0"}
    last = members({"items": [{"name": "new", "imageArn": "arn:new"}]})
    server.on("GET", "/microvm-images", members({"items": [item], "nextToken": "t"}), last)
    listed = Image.list(client=server.client())
    assert [(one.name, one.version) for one in listed] == [("hello", "2.0"), ("new", "")]
