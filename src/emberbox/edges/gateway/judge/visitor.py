"""A browser at an endpoint: it can set no header when somebody follows a link, so a link gives it a cookie once.

    GET /.emberbox/enter?port=8080&token=<token>  ──►  303 to /, with the token in a cookie of this endpoint alone

The cookie counts where no header or subprotocol has a token. Other pages of the same site, such as other microVMs',
may make a browser send it: so the browser must say that a page of this endpoint asks, or that somebody follows a link.
It is taken off before the guest sees the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs, urlsplit

from emberbox.control.endpoints.tokens import is_token_shaped

ENTER_PATH: Final = "/.emberbox/enter"
COOKIE: Final = "__Host-emberbox-endpoint"
_PREFIX: Final = f"{COOKIE}="

VISITOR_HEADERS: Final = ("cookie", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest")
"""What Envoy tells of a request for this."""


def read_link(query: str) -> tuple[str, str] | None:
    """Return the port, as text, and the token of a link; None when it is none of ours."""
    fields = parse_qs(query)
    port, token = fields.get("port", [""])[0], fields.get("token", [""])[0]
    return (port, token) if port.isdecimal() and is_token_shaped(token) else None


def make_cookie(port: str, token: str, seconds: int) -> str:
    """Return the Set-Cookie header that lets a browser in for so many seconds."""
    return f"{_PREFIX}{port}.{token}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax"


def read_cookie(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the port, as text, and the token that a browser has; None where it has none."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    port, _, token = ("" if found is None else found.value).partition(".")
    return (port, token) if port.isdecimal() and is_token_shaped(token) else None


def is_of_endpoint(method: str, host: str, headers: Mapping[str, str]) -> bool:
    """Say whether a page of the endpoint itself has sent a request, or somebody has followed a link there.

    Args:
        method: of HTTP.
        host: the Host header.
        headers: the request's, by names in lower case.
    """
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return False
    site = headers.get("sec-fetch-site")
    if site in ("same-origin", "none"):
        return True
    if site is None:  # browsers tell it of no WebSocket everywhere, but then its origin
        return origin is not None
    follows = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return follows and method == "GET"


def without_cookie(value: str) -> str:
    """Return a Cookie header without ours; empty where nothing else was in it."""
    parts = (part.strip() for part in value.split(";"))
    return "; ".join(part for part in parts if part and not part.startswith(_PREFIX))
