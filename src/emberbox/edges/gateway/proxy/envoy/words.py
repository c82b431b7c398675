"""Envoy's words that several parts of its configuration use."""

from __future__ import annotations

from typing import Any, Final

Config = dict[str, Any]
"""A part of the configuration. Any: it is JSON, in shapes that Envoy alone knows and judges (`bootstrap.validate`)."""

TYPE: Final = "type.googleapis.com/envoy"
HTTP_FILTERS: Final = f"{TYPE}.extensions.filters.http"
AUTHZ_METADATA: Final = "envoy.filters.http.ext_authz"
AUTHORISER: Final = "authoriser"
# Names that a client may not speak to Envoy, nor a guest to a client.
ENVOYS: Final = "x[-_](envoy|emberbox)[-_].*"
OWN_METADATA: Final = "emberbox"
ADMITTED: Final = "admitted"
NEVER: Final = "0s"  # Envoy's way of saying that a timeout is off


def typed(name: str, config: Config) -> Config:
    """Name an extension and say how it is set up."""
    return {"name": name, "typed_config": config}


def verdict(name: str) -> str:
    """Write what the authoriser said as Envoy's format strings have it."""
    return f"%DYNAMIC_METADATA({AUTHZ_METADATA}:{name})%"


def mutate(name: str, request: list[Config] | None = None, response: list[Config] | None = None) -> Config:
    """Change headers on their way to the guest, and on the way back."""
    mutations = {"request_mutations": request or [], "response_mutations": response or []}
    config = {"@type": f"{HTTP_FILTERS}.header_mutation.v3.HeaderMutation", "mutations": mutations}
    return typed(name, config)


def remove(pattern: str) -> Config:
    """Remove headers whose names match."""
    return {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": pattern}}}}


def set_header(name: str, value: str, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> Config:
    """Set a header."""
    return {"append": {"header": {"key": name, "value": value}, "append_action": action}}


def only(protocol: Config) -> Config:
    """Speak one protocol to a cluster."""
    return {"explicit_http_config": protocol}


def http2() -> Config:
    """Windows that keep a fast link with a long way busy, and WebSockets over HTTP/2 (RFC 8441)."""
    return {
        "allow_connect": True,
        "initial_stream_window_size": 1 << 20,
        "initial_connection_window_size": 4 << 20,
    }
