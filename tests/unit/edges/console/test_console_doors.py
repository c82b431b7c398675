"""Who gets in at the console: logins, cookies, CSRF tokens, origins, and what answers tell browsers."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from emberbox.edges.console.attempts import FAILURES_MAX
from support.console_world import PROOF, ConsolePlane, serve_console

OTHER = "http://evil.example"


async def audited(console: ConsolePlane) -> str:
    """Return the audit trail."""
    await console.access.trail.flush()
    return "".join(path.read_text() for path in sorted((console.directory / "audit").iterdir()))


async def test_a_key_logs_in_and_out(console: ConsolePlane) -> None:
    async with console.browser() as browser:
        assert (await browser.get("/api/session")).json() is None
        told = await console.log_in(browser)
        assert told["accountId"] == console.credential.account_id
        assert (await browser.get("/api/session")).json()["csrf"] == told["csrf"]
        assert (await browser.delete("/api/session")).status_code == 204
        assert (await browser.get("/api/session")).json() is None
        refused = await browser.post("/api/call/ListMicrovms", json={})
        assert (refused.status_code, refused.json()["code"]) == (401, "NoSession")
    trail = await audited(console)
    assert "ConsoleLogin" in trail
    assert console.credential.secret_access_key not in trail


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(console: ConsolePlane) -> None:
    async with console.browser() as browser:
        answer = await browser.post("/api/session", json=PROOF)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("emberbox-console=")
    for word in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age="):
        assert word in cookie
    assert "secret" not in answer.text.lower()


async def test_behind_tls_the_cookie_is_secure(tmp_path: Path, page: Path) -> None:
    async with serve_console(tmp_path, page, url="https://console.example") as console, console.browser() as browser:
        browser.headers["origin"] = "https://console.example"
        answer = await browser.post("/api/session", json=PROOF)
    assert answer.headers["set-cookie"].startswith("__Host-emberbox-console=")
    assert "Secure" in answer.headers["set-cookie"]


async def test_a_wrong_secret_does_not_log_in_and_too_many_wait(console: ConsolePlane) -> None:
    async with console.browser() as browser:
        wrong = {**PROOF, "secretAccessKey": "wrong"}
        for _ in range(FAILURES_MAX):
            answer = await browser.post("/api/session", json=wrong)
            assert (answer.status_code, answer.json()["code"]) == (403, "WrongKey")
        answer = await browser.post("/api/session", json=PROOF)
        assert (answer.status_code, answer.json()["code"]) == (429, "TooManyAttempts")
        assert not browser.cookies
    assert '"Failure"' in await audited(console)


async def test_a_link_logs_in_once(console: ConsolePlane) -> None:
    async with console.browser() as browser:
        refused = await browser.post("/api/links", json={**PROOF, "secretAccessKey": "wrong"})
        assert refused.status_code == 403
        code = (await browser.post("/api/links", json=PROOF)).json()["code"]
        await console.log_in(browser, {"code": code})
        assert (await browser.post("/api/call/ListMicrovms", json={})).status_code == 200
        again = await browser.post("/api/session", json={"code": code})
        assert (again.status_code, again.json()["code"]) == (403, "WrongLink")


@pytest.mark.parametrize("proof", [{}, {"accessKeyId": 1, "secretAccessKey": "s"}, {"accessKeyId": "a"}])
async def test_a_malformed_login_is_refused(console: ConsolePlane, proof: dict[str, object]) -> None:
    async with console.browser() as browser:
        assert (await browser.post("/api/session", json=proof)).status_code == 400


async def test_a_login_must_be_json(console: ConsolePlane) -> None:
    async with console.browser() as browser:
        answer = await browser.post(
            "/api/session", content=b'{"accessKeyId":"a"}', headers={"content-type": "text/plain"}
        )
        assert answer.status_code == 415


async def test_changes_need_the_token_of_the_session(console: ConsolePlane, browser: httpx.AsyncClient) -> None:
    async with console.browser() as other:
        token = (await console.log_in(other))["csrf"]
    own = browser.headers.pop("x-emberbox-csrf")
    for headers in (
        {},
        {"x-emberbox-csrf": ""},
        {"x-emberbox-csrf": token},
        {"x-emberbox-csrf": "é".encode("latin-1")},
    ):
        answer = await browser.post("/api/call/ListMicrovms", json={}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "NoCsrfToken")
    assert (await browser.delete("/api/session")).status_code == 403
    put = await browser.put("/api/microvms/microvm-x/files?path=/a", content=b"1")
    assert put.status_code == 403
    answer = await browser.post("/api/call/ListMicrovms", json={}, headers={"x-emberbox-csrf": own})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers", [{"origin": OTHER}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}]
)
async def test_other_pages_are_refused(
    console: ConsolePlane, browser: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    assert (await browser.post("/api/call/ListMicrovms", json={}, headers=headers)).status_code == 403
    assert (await browser.get("/api/microvms/microvm-x/entries?path=/", headers=headers)).status_code == 403
    assert (await browser.post("/api/session", json=PROOF, headers=headers)).status_code == 403


async def test_websockets_need_a_session_and_say_where_they_come_from(
    console: ConsolePlane, browser: httpx.AsyncClient
) -> None:
    async with console.channel(browser):
        pass
    async with console.browser() as stranger:
        for path in ("/api/live", "/api/microvms/microvm-x/shell"):
            with pytest.raises(InvalidStatus) as refused:
                async with console.channel(stranger, path):
                    pass
            assert refused.value.response.status_code == 401
    browser.headers["origin"] = OTHER
    for path in ("/api/live", "/api/microvms/microvm-x/shell"):
        with pytest.raises(InvalidStatus) as refused:
            async with console.channel(browser, path):
                pass
        assert refused.value.response.status_code == 403


async def test_the_page_trusts_nothing_from_elsewhere(console: ConsolePlane) -> None:
    async with console.browser() as browser:
        pages = [await browser.get("/"), await browser.get("/")]
    nonces = set()
    for page in pages:
        policy = page.headers["content-security-policy"]
        found = re.search(r"'nonce-([\w-]+)'", policy)
        assert found is not None
        nonces.add(found[1])
        assert f'nonce="{found[1]}"' in page.text
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        for word in ("unsafe", "http:", "https:", "*"):
            assert word not in policy
        for part in ("frame-ancestors 'none'", "base-uri 'none'", "require-trusted-types-for 'script'"):
            assert part in policy
        assert page.headers["cache-control"] == "no-store"
        assert "<script>" not in page.text
        assert "style=" not in page.text
    assert len(nonces) == 2


@pytest.mark.parametrize("path", ["/", "/api/session", "/assets/main-A.js", "/assets/none.js", "/nothing", "/health"])
async def test_every_answer_has_the_headers_of_distrust(console: ConsolePlane, path: str) -> None:
    async with console.browser() as browser:
        headers = (await browser.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert ("immutable" in headers["cache-control"]) == (path == "/assets/main-A.js")
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("name", ["manifest.json", "..%2Fmanifest.json", "..%2f..%2femberbox.db", "."])
async def test_only_bundled_files_are_served(console: ConsolePlane, name: str) -> None:
    async with console.browser() as browser:
        assert (await browser.get(f"/assets/{name}")).status_code == 404


async def test_a_page_that_was_not_made_says_what_to_do(tmp_path: Path) -> None:
    empty = tmp_path / "none"
    async with serve_console(tmp_path, empty) as console, console.browser() as browser:
        answer = await browser.get("/")
    assert answer.status_code == 503
    assert "console/build.py" in answer.text
