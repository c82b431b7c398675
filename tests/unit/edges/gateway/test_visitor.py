"""What a browser says of itself, read apart."""

from __future__ import annotations

import pytest
from gateway_world import SUFFIX

from emberbox.edges.gateway.judge.visitor import COOKIE, is_of_endpoint, read_cookie, read_link, without_cookie

HOST = f"aaaa.{SUFFIX}"


@pytest.mark.parametrize("cookie", ["", "a=b", f"{COOKIE}=", f"{COOKIE}=8080", f"{COOKIE}=x.y", f'{COOKIE}="', ";;="])
def test_cookies_that_are_none_of_ours(cookie: str) -> None:
    assert read_cookie({"cookie": cookie}) is None


def test_what_is_taken_off() -> None:
    assert without_cookie(f"{COOKIE}=1") == ""
    assert without_cookie(f"a=1; {COOKIE}=1;b=2") == "a=1; b=2"
    assert read_link("port=1&token=short") is None


def test_a_websocket_says_its_origin() -> None:
    assert is_of_endpoint("GET", f"{HOST}:8443", {"origin": f"https://{HOST}:8443"})
    assert not is_of_endpoint("GET", f"{HOST}:8443", {"origin": f"https://{HOST}"})
    assert not is_of_endpoint("GET", HOST, {})
