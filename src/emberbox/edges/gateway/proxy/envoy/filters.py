"""What a request passes on its way through Envoy."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from emberbox.edges.gateway.judge.authoriser import (
    ADMISSION_HEADER,
    CLUSTER_HEADER,
    INCARNATION_HEADER,
    MICROVM_HEADER,
    SUBPROTOCOL_HEADER,
    TARGET_HEADER,
    UPSTREAM_HEADER,
)
from emberbox.edges.gateway.judge.request import (
    CONNECTION_HEADER,
    JUDGED_HEADERS,
    REQUEST_ID_HEADER,
    SUBPROTOCOLS_HEADER,
    WEBSOCKET_KEY_HEADER,
)
from emberbox.edges.gateway.proxy.admissions import SLOTS, THREADS
from emberbox.edges.gateway.proxy.envoy.settings import EnvoySettings
from emberbox.edges.gateway.proxy.envoy.words import (
    ADMITTED,
    AUTHORISER,
    ENVOYS,
    HTTP_FILTERS,
    OWN_METADATA,
    Config,
    remove,
    set_header,
    typed,
    verdict,
)

# What the authoriser says of a request that passes.
_VERDICT: Final = (TARGET_HEADER, UPSTREAM_HEADER, INCARNATION_HEADER, CLUSTER_HEADER, SUBPROTOCOL_HEADER)
# What the authoriser judges by; requests are alike when all of it is. WebSockets are few, and always asked about.
_NEVER_ALIKE: Final = (SUBPROTOCOLS_HEADER, "sec-websocket-version", WEBSOCKET_KEY_HEADER)
_ALIKE: Final = (":authority", *(name for name in JUDGED_HEADERS if name not in (*_NEVER_ALIKE, REQUEST_ID_HEADER)))
# What the authoriser says to the guest, and of which microVM it speaks to our own data plane. The id is the request's
# already; it is said again because Envoy looks for another route only when the authoriser has set some header.
_TOLD_GUESTS: Final = (REQUEST_ID_HEADER, SUBPROTOCOLS_HEADER, WEBSOCKET_KEY_HEADER, MICROVM_HEADER, "cookie")
# What it says to a client that it does not let through, or not yet.
_TOLD_CLIENTS: Final = ("content-type", "location", "set-cookie", "cache-control", "referrer-policy")
_LUA: Final = Path(__file__).with_name("admissions.lua")


def scrub_client() -> list[Config]:
    """Take away what only we may say, and say which connection and request it is."""
    return [
        remove(ENVOYS),
        set_header(CONNECTION_HEADER, "%CONNECTION_ID%"),
        set_header(REQUEST_ID_HEADER, "%UNIQUE_ID%"),
    ]


def answer_subprotocol() -> Config:
    """Choose for the guest among the subprotocols of a browser, which fails when none is chosen."""
    return set_header(SUBPROTOCOLS_HEADER, verdict(SUBPROTOCOL_HEADER), "ADD_IF_ABSENT")


def admissions(settings: EnvoySettings) -> Config:
    """Let requests pass without asking that are like one which has passed."""
    values = {
        "path": json.dumps(str(settings.admissions_path)),
        "slots": str(SLOTS),
        "threads": str(THREADS),
        "alike": _lua_list(_ALIKE),
        "never_alike": _lua_list(_NEVER_ALIKE),
        "verdict": _lua_list(_VERDICT),
        "admission": json.dumps(ADMISSION_HEADER),
    }
    source = f"-- file {settings.admissions_inode}\n{_LUA.read_text()}"
    for name, value in values.items():
        source = source.replace(f"@{name}@", value)
    return typed(
        "envoy.filters.http.lua",
        {
            "@type": f"{HTTP_FILTERS}.lua.v3.Lua",
            "default_source_code": {"inline_string": source},
        },
    )


def _lua_list(names: Iterable[str]) -> str:
    return "{" + ", ".join(json.dumps(name) for name in names) + "}"


def ext_authz(settings: EnvoySettings) -> Config:
    """Ask the authoriser with the method, path and Host of the request, and just the headers it judges by."""
    judged = [{"exact": name} for name in JUDGED_HEADERS]
    timeout = f"{settings.authorise_timeout_s:g}s"
    return {
        "@type": f"{HTTP_FILTERS}.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "failure_mode_allow": False,
        "filter_enabled_metadata": {
            "filter": OWN_METADATA,
            "path": [{"key": ADMITTED}],
            "value": {"present_match": True},
            "invert": True,
        },
        "status_on_error": {"code": "BadGateway"},
        "allowed_headers": {"patterns": judged},
        "clear_route_cache": True,  # its answer decides the route
        "http_service": {
            "retry_policy": _wait_for_authoriser(timeout),
            "server_uri": {"uri": "http://authoriser", "cluster": AUTHORISER, "timeout": timeout},
            "authorization_response": {
                "allowed_upstream_headers": {"patterns": [{"exact": name} for name in _TOLD_GUESTS]},
                "allowed_client_headers": {"patterns": [{"exact": name} for name in _TOLD_CLIENTS]},
                "dynamic_metadata_from_headers": {
                    "patterns": [{"exact": name} for name in (*_VERDICT, ADMISSION_HEADER)]
                },
            },
        },
    }


def _wait_for_authoriser(timeout: str) -> Config:
    """Hold requests for as long as they may be held while no server is there: Envoy outlives one that is killed.

    Envoy takes the longest back-off also as the time that one try may take, so that must be the whole timeout; the
    pauses, random and up to twice as long each time, begin at a tenth of a second.
    """
    return {
        "retry_on": "connect-failure,reset",
        "num_retries": 20,
        "retry_back_off": {"base_interval": "0.1s", "max_interval": timeout},
    }


def pool_key() -> Config:
    """Part the connections to guests by incarnation: a hashable string that a connection is made with."""
    key = {
        "object_key": "emberbox.incarnation",
        "factory_key": "envoy.hashable_string",
        "format_string": {"text_format_source": {"inline_string": verdict(INCARNATION_HEADER)}},
        "shared_with_upstream": "ONCE",
    }
    config = {"@type": f"{HTTP_FILTERS}.set_filter_state.v3.Config", "on_request_headers": [key]}
    return typed("envoy.filters.http.set_filter_state", config)
