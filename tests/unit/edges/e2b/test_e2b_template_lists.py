"""Lists of templates, by the client of the API that is in E2B's own SDK."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from e2b import BuildException, Sandbox, Template
from e2b.api.client.api.templates import get_templates, get_templates_template_id, get_v2_templates
from e2b.api.client.client import AuthenticatedClient

from emberbox.model.errors import BuildError, HostError
from emberbox.model.sizes import SnapshotSizes
from emberbox.model.states import ImageState
from support.e2b_world import E2bPlane

Wait = Callable[..., Any]


@pytest.fixture
def api(e2b: E2bPlane, monkeypatch: pytest.MonkeyPatch) -> AuthenticatedClient:
    """The client; builds have no files, as the fake machine has none."""

    def sizes(*_: Any) -> None:
        raise HostError("there is none")

    monkeypatch.setattr(e2b.control.builder, "_snapshots", SimpleNamespace(sizes=sizes))
    monkeypatch.setattr(e2b.control.forks, "_snapshots", SimpleNamespace(sizes=lambda *_: SnapshotSizes(1, 1, 1)))
    return AuthenticatedClient(base_url=e2b.url, token=e2b.api_key, auth_header_name="X-API-Key", prefix="")


def sandbox_image(e2b: E2bPlane) -> str:
    image = e2b.images.find_named(e2b.credential.account_id, "standard", e2b.region)
    assert image is not None
    return image.id


async def test_a_list_has_every_image_of_the_account(e2b: E2bPlane, api: AuthenticatedClient, wait: Wait) -> None:
    began = datetime.now(UTC)
    built = await wait(lambda: Template.build(Template().from_image("debian:12"), "app", memory_mb=1024))
    e2b.add_image("of-another", account="999999999999")
    for _ in range(2):
        await wait(Sandbox.create, "app")

    newest, standard = await get_templates.asyncio(client=api)

    assert (newest.template_id, newest.build_id, newest.names) == (built.template_id, built.build_id, ["app"])
    assert (newest.cpu_count, newest.memory_mb, newest.build_status) == (2, 1024, "ready")
    assert (newest.build_count, newest.spawn_count, newest.public) == (1, 2, False)
    assert began < newest.created_at <= newest.updated_at <= newest.last_spawned_at
    assert (standard.aliases, standard.memory_mb, standard.spawn_count) == (["standard"], 512, 0)
    assert (standard.last_spawned_at, standard.created_by) == (None, None)


async def test_a_list_in_pages_has_each_template_once(e2b: E2bPlane, api: AuthenticatedClient) -> None:
    for number in range(4):
        e2b.add_image(f"image-{number}")
    names: list[str] = []
    token: str | None = None
    lengths = []
    while token is not None or not lengths:
        more = {} if token is None else {"next_token": token}
        page = await get_v2_templates.asyncio_detailed(client=api, limit=2, **more)
        names += [template.names[0] for template in page.parsed]
        lengths.append(len(page.parsed))
        token = page.headers.get("x-next-token")
    assert (names, lengths) == (["image-3", "image-2", "image-1", "image-0", "standard"], [2, 2, 1])


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=²", "nextToken=none"])
@pytest.mark.parametrize("path", ["/v2/templates", "/v2/sandboxes", "/snapshots"])
async def test_pages_that_there_are_not_are_refused(e2b: E2bPlane, path: str, query: str) -> None:
    async with httpx.AsyncClient(base_url=e2b.url, headers={"X-API-Key": e2b.api_key}) as client:
        assert (await client.get(f"{path}?{query}")).status_code == 400


async def test_the_build_that_is_told_is_the_one_that_sandboxes_are_created_from(
    e2b: E2bPlane, api: AuthenticatedClient, wait: Wait
) -> None:
    template = Template().from_image("debian:12")
    good = await wait(Template.build, template, "app")
    e2b.builds.error = BuildError("CONTAINER_BUILD_FAILED", "no")
    for name in ("app", "never"):
        with pytest.raises(BuildException):
            await wait(Template.build, template, name)

    never, app, _ = await get_templates.asyncio(client=api)
    assert (never.build_status, never.build_count) == ("error", 1)
    assert (app.build_id, app.build_status, app.build_count) == (good.build_id, "ready", 2)
    for named in ("app", good.template_id):
        found = await get_templates_template_id.asyncio(named, client=api)
        assert [build.status for build in found.builds] == ["error", "ready"]
        assert str(found.builds[1].build_id) == good.build_id
        assert found.builds[1].finished_at >= found.builds[1].created_at


async def test_snapshots_of_sandboxes_are_no_builds(
    e2b: E2bPlane, api: AuthenticatedClient, sandbox: Sandbox, wait: Wait
) -> None:
    await wait(sandbox.create_snapshot)
    assert len(e2b.images.list_versions(sandbox_image(e2b))) == 2
    found = await get_templates_template_id.asyncio("standard", client=api)
    assert (found.build_count, len(found.builds)) == (1, 1)


async def test_what_is_being_deleted_is_not_told_any_more(e2b: E2bPlane, api: AuthenticatedClient) -> None:
    image = e2b.add_image("going")
    assert e2b.images.change_state(image.id, ImageState.DELETING, datetime.now(UTC))
    assert [template.names for template in await get_templates.asyncio(client=api)] == [["standard"]]
    async with httpx.AsyncClient(base_url=e2b.url, headers={"X-API-Key": e2b.api_key}) as client:
        for named in ("going", "none"):
            answer = await client.get(f"/templates/{named}")
            assert (answer.status_code, "not found" in answer.json()["message"]) == (404, True)


async def test_lists_need_the_rights_of_aws(e2b: E2bPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def authorise(_credential: Any, _source_ip: str, request: Any) -> None:
        asked.extend(permission.action for permission in request.permissions)

    monkeypatch.setattr(e2b.access, "authorise", authorise)
    async with httpx.AsyncClient(base_url=e2b.url, headers={"X-API-Key": e2b.api_key}) as client:
        for path in ("/templates", "/v2/templates", "/templates/standard"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/templates", headers={"X-API-Key": "e2b_none"})).status_code == 401
    assert asked == ["lambda:ListMicrovmImages"] * 2 + ["lambda:GetMicrovmImage", "lambda:ListMicrovmImageVersions"]
