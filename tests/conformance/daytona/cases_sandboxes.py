"""Daytona's SDK: the life of a sandbox."""

from __future__ import annotations

import asyncio
import os
import urllib.request
from collections.abc import Iterator
from urllib.error import HTTPError

import pytest
from daytona import (
    AsyncDaytona,
    CreateSandboxFromImageParams,
    CreateSandboxFromSnapshotParams,
    Daytona,
    DaytonaConfig,
    Image,
    ListSandboxesQuery,
    Resources,
    Sandbox,
    VolumeMount,
)
from daytona.common.errors import (
    DaytonaAuthenticationError,
    DaytonaBadRequestError,
    DaytonaConflictError,
    DaytonaError,
    DaytonaNotFoundError,
)

SNAPSHOT = os.environ["EMBERBOX_TEST_SNAPSHOT"]


@pytest.fixture(scope="module")
def daytona() -> Daytona:
    return Daytona()


@pytest.fixture(scope="module")
def sandbox(daytona: Daytona) -> Iterator[Sandbox]:
    labels = {"for": "all", "team": "a b"}
    made = daytona.create(CreateSandboxFromSnapshotParams(snapshot=SNAPSHOT, name="cases-named", labels=labels))
    yield made
    made.delete()


def test_a_sandbox_is_found_by_id_and_name(daytona: Daytona, sandbox: Sandbox) -> None:
    for key in (sandbox.id, "cases-named"):
        found = daytona.get(key)
        assert (found.id, found.name, found.snapshot, str(found.state)) == (
            sandbox.id,
            "cases-named",
            SNAPSHOT,
            "SandboxState.STARTED",
        )
        assert found.labels["for"] == "all"
        assert found.cpu >= 1
        assert found.memory >= 1
    with pytest.raises(DaytonaNotFoundError):
        daytona.get("cases-none")
    with pytest.raises(DaytonaConflictError, match="name"):
        daytona.create(CreateSandboxFromSnapshotParams(snapshot=SNAPSHOT, name="cases-named"))


def test_lists_find_by_labels_states_and_names_page_by_page(daytona: Daytona, sandbox: Sandbox) -> None:
    other = daytona.create(CreateSandboxFromSnapshotParams(snapshot=SNAPSHOT, labels={"for": "all"}))
    try:

        def ids(**query: object) -> list[str]:
            return [found.id for found in daytona.list(ListSandboxesQuery(**query))]

        assert ids(labels={"for": "all"}) == [other.id, sandbox.id]
        assert ids(labels={"for": "all"}, limit=1) == [other.id, sandbox.id]
        assert ids(labels={"for": "all", "team": "a b"}) == [sandbox.id]
        assert ids(labels={"for": "nobody"}) == []
        assert ids(name="CASES-nam") == [sandbox.id]
        assert ids(labels={"for": "all"}, states=["stopped"]) == []
        with pytest.raises(DaytonaBadRequestError, match="minCpu"):
            ids(min_cpu=2)
        assert other.set_labels({"for": "other"}) == {"for": "other"}
        assert ids(labels={"for": "other"}) == [other.id]
    finally:
        other.delete()
    with pytest.raises(DaytonaNotFoundError):
        other.refresh_data()


def test_intervals_are_kept_and_bounded(daytona: Daytona, sandbox: Sandbox) -> None:
    assert (daytona.get(sandbox.id).auto_stop_interval, daytona.get(sandbox.id).auto_delete_interval) == (15, -1)
    sandbox.set_autostop_interval(0)
    sandbox.set_auto_delete_interval(90)
    assert (daytona.get(sandbox.id).auto_stop_interval, daytona.get(sandbox.id).auto_delete_interval) == (0, 90)
    sandbox.set_autostop_interval(60)
    sandbox.set_auto_delete_interval(-1)
    sandbox.refresh_activity()
    with pytest.raises(DaytonaBadRequestError, match="30 days"):
        sandbox.set_autostop_interval(60 * 24 * 31)


def test_an_ephemeral_sandbox_ends_with_its_stop(daytona: Daytona) -> None:
    made = daytona.create(CreateSandboxFromSnapshotParams(snapshot=SNAPSHOT, ephemeral=True))
    made.stop(timeout=300)
    with pytest.raises(DaytonaNotFoundError):
        daytona.get(made.id)


def test_a_deleted_sandbox_is_waited_for(daytona: Daytona) -> None:
    made = daytona.create(CreateSandboxFromSnapshotParams(snapshot=SNAPSHOT))
    daytona.delete(made, wait=True)
    assert str(made.state) == "SandboxState.DESTROYED"
    with pytest.raises(DaytonaNotFoundError):
        made.process.exec("true")


def test_an_image_that_is_there_may_be_named_and_must_be_large_enough(daytona: Daytona) -> None:
    made = daytona.create(CreateSandboxFromImageParams(image=SNAPSHOT, resources=Resources(cpu=1, memory=1, disk=1)))
    made.delete()
    with pytest.raises(DaytonaBadRequestError, match="cpu: the image has"):
        daytona.create(CreateSandboxFromImageParams(image=SNAPSHOT, resources=Resources(cpu=64)))
    with pytest.raises(DaytonaBadRequestError, match="images are not built here"):
        daytona.create(CreateSandboxFromImageParams(image=Image.base(SNAPSHOT).run_commands("true")))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"network_block_all": True}, "networkBlockAll"),
        ({"network_allow_list": "10.0.0.0/8"}, "networkAllowList"),
        ({"volumes": [VolumeMount(volume_id="v", mount_path="/v")]}, "volumes"),
        ({"secrets": {"A": "b"}}, "secrets"),
        ({"name": "no/name"}, "name"),
        ({"ttl_minutes": 60 * 24 * 365}, "30 days"),
    ],
)
def test_what_is_not_offered_or_malformed_is_refused(daytona: Daytona, given: dict[str, object], told: str) -> None:
    with pytest.raises(DaytonaBadRequestError, match=told):
        daytona.create(CreateSandboxFromSnapshotParams(snapshot=SNAPSHOT, **given))


def test_other_parts_of_the_sdk_are_refused_with_a_reason(daytona: Daytona, sandbox: Sandbox) -> None:
    for ask, told in (
        (lambda: sandbox.git.status("/tmp"), "git is not offered here: .*exec"),
        (lambda: daytona.snapshot.get("none"), "snapshots is not offered here"),
        (daytona.volume.list, "volumes is not offered here"),
        (sandbox.computer_use.start, "computeruse is not offered here"),
        (sandbox.create_ssh_access, "ssh-access is not offered here"),
        (lambda: sandbox.create_lsp_server("python", "/tmp").start(), "lsp is not offered here"),
        (sandbox.archive, "archive is not offered here"),
    ):
        with pytest.raises(DaytonaError, match=told) as failed:
            ask()
        assert failed.value.status_code == 501


def test_a_snapshot_that_is_not_there_says_so(daytona: Daytona) -> None:
    with pytest.raises(DaytonaNotFoundError, match="snapshot 'none' not found"):
        daytona.create(CreateSandboxFromSnapshotParams(snapshot="none"))


def test_a_key_that_is_none_opens_nothing() -> None:
    with pytest.raises(DaytonaAuthenticationError, match="daytona-keys create"):
        Daytona(DaytonaConfig(api_key="dtn_00", api_url=os.environ["DAYTONA_API_URL"])).get("any")


def test_a_preview_link_opens_with_its_token_alone(sandbox: Sandbox) -> None:
    port = int(os.environ["EMBERBOX_TEST_PORT"])
    link = sandbox.get_preview_link(port)
    place, host = os.environ["DAYTONA_API_URL"].removesuffix("/api"), link.url.removeprefix("http://")

    def ask(query: str = "", **headers: str) -> int:
        request = urllib.request.Request(f"{place}/{query}", headers={"Host": host, **headers})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except HTTPError as error:
            return error.code

    assert ask() == 403
    assert ask(**{"x-daytona-preview-token": "wrong"}) == 403
    assert ask(**{"x-daytona-preview-token": link.token}) == 200
    assert ask(query=f"?DAYTONA_SANDBOX_AUTH_KEY={link.token}") == 200
    sandbox.set_public(True)
    assert ask() == 200
    sandbox.set_public(False)
    assert ask() == 403


def test_the_asynchronous_sdk_does_the_same() -> None:
    async def live() -> None:
        async with AsyncDaytona() as daytona:
            sandbox = await daytona.create(CreateSandboxFromSnapshotParams(snapshot=SNAPSHOT, labels={"for": "async"}))
            try:
                assert (await sandbox.process.exec("echo async")).result == "async\n"
                await sandbox.fs.upload_file(b"data", "/tmp/async")
                assert await sandbox.fs.download_file("/tmp/async") == b"data"
                found = [item.id async for item in daytona.list(ListSandboxesQuery(labels={"for": "async"}))]
                assert found == [sandbox.id]
                await sandbox.stop(timeout=600)
                await sandbox.start(timeout=600)
                assert await sandbox.fs.download_file("/tmp/async") == b"data"
            finally:
                await sandbox.delete()

    asyncio.run(live())
