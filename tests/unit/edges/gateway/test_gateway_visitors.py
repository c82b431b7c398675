"""A browser at an endpoint: a link with a token lets it in once, later its cookie, for pages of that endpoint alone."""

from __future__ import annotations

import httpx
import pytest
from gateway_world import SUFFIX, World

from emberbox.edges.gateway.judge.visitor import COOKIE

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAME = {"sec-fetch-site": "same-origin"}
FOLLOWS = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


async def enter(world: World, token: str, port: int = 8080) -> httpx.Response:
    return await world.request(f"/.emberbox/enter?port={port}&token={token}", token=None)


def cookie_of(answer: httpx.Response) -> str:
    """Return what a browser sends back of an answer's cookie."""
    return answer.headers["set-cookie"].partition(";")[0]


async def test_a_link_lets_a_browser_in(world: World) -> None:
    answer = await enter(world, world.token())
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    for word in (f"{COOKIE}=8080.", "Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age="):
        assert word in answer.headers["set-cookie"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert world.guests["a"].seen == []
    headers = {"cookie": f"own=1; {cookie_of(answer)}; other=2"}
    for more in (FOLLOWS, SAME, SAME):
        page = await world.request("/page", token=None, headers=[*{**headers, **more}.items()])
        assert (page.status_code, page.text) == (200, "guest a")
    assert [seen.headers["cookie"] for seen in world.guests["a"].seen] == ["own=1; other=2"] * 3
    alone = await world.request("/", token=None, headers=[("cookie", cookie_of(answer)), *SAME.items()])
    assert alone.status_code == 200
    assert "cookie" not in world.guests["a"].seen[-1].headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
        {**FOLLOWS, "sec-fetch-dest": "iframe"},
        {**FOLLOWS, "sec-fetch-mode": "no-cors"},
        {**SAME, "origin": f"https://bbbb.{SUFFIX}"},
        {"origin": "https://evil.example"},
    ],
)
async def test_other_pages_use_no_cookie(world: World, headers: dict[str, str]) -> None:
    cookie = cookie_of(await enter(world, world.token()))
    answer = await world.request("/", token=None, headers=[("cookie", cookie), *headers.items()])
    assert answer.status_code == 403
    assert world.guests["a"].seen == []


async def test_a_link_followed_must_only_read(world: World) -> None:
    cookie = cookie_of(await enter(world, world.token()))
    answer = await world.request("/", method="POST", token=None, headers=[("cookie", cookie), *FOLLOWS.items()])
    assert answer.status_code == 403


async def test_links_that_open_nothing(world: World) -> None:
    for path in ("", "?port=8080", "?port=8080&token=x", f"?port=x&token={world.token()}", f"?token={world.token()}"):
        answer = await world.request(f"/.emberbox/enter{path}", token=None)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    other = await world.request(f"/.emberbox/enter?port=1&token={world.token()}", token=None, host=f"bbbb.{SUFFIX}")
    assert other.status_code == 403
    assert (await enter(world, world.token(kind="shell"))).status_code == 403


async def test_a_cookie_opens_the_port_of_its_token_alone(world: World) -> None:
    cookie = cookie_of(await enter(world, world.token(allowed_ports=[{"port": 9999}]), 8080))
    answer = await world.request("/", token=None, headers=[("cookie", cookie), *SAME.items()])
    assert (answer.status_code, answer.text) == (403, "Access to port denied")


async def test_a_token_in_a_header_counts_before_a_cookie(world: World) -> None:
    cookie = cookie_of(await enter(world, world.token(allowed_ports=[{"port": 9999}])))
    answer = await world.request("/", headers=[("cookie", cookie)])
    assert answer.status_code == 200
