"""Envoy's configuration: typed values in, one bootstrap file out.

    client ──TLS──► scrub ──► admissions ──► ext_authz ──► pool key ──► router ──► scrub ──► guest (HTTP/1.1 or h2c)
                                  │             │   ▲
                 like one before? ┘ Unix socket ▼   │ 200 and where to, or the refusal
                                              authoriser

Where a request goes is told by the authoriser alone, in Envoy's dynamic metadata. A header would have to be
guarded against clients and hidden from guests; metadata can be neither sent nor seen from outside.

Facts about Envoy 1.40 that this page rests on, all of them tested:

- an answer 5xx of the authoriser is an error to ext_authz, which answers `status_on_error` with no body: 502;
- what Envoy answers itself when an upstream fails is 503 with a text; `local_reply_config` makes it an empty
  502;
- an ORIGINAL_DST cluster keeps connections per address. A resumed microVM, or another one at the address of a
  dead one, must not get an old connection, so the pool's key has the `incarnation` too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emberbox import process
from emberbox.edges.gateway.judge.authoriser import (
    ADMISSION_HEADER,
    CLUSTER_HEADER,
    INCARNATION_HEADER,
    MICROVM_HEADER,
    SUBPROTOCOL_HEADER,
    TARGET_HEADER,
    UPSTREAM_HEADER,
    Cluster,
)
from emberbox.edges.gateway.judge.request import (
    CONNECTION_HEADER,
    JUDGED_HEADERS,
    REQUEST_ID_HEADER,
    SUBPROTOCOLS_HEADER,
    WEBSOCKET_KEY_HEADER,
)
from emberbox.edges.gateway.proxy.admissions import SLOTS, THREADS
from emberbox.host.supervisor import find_program
from emberbox.model.errors import HostError
from emberbox.process import CommandError
from emberbox.time_limits import limit_s

Config = dict[str, Any]

_TYPE: Final = "type.googleapis.com/envoy"
_HTTP_FILTERS: Final = f"{_TYPE}.extensions.filters.http"
_AUTHZ_METADATA: Final = "envoy.filters.http.ext_authz"
_AUTHORISER: Final = "authoriser"
# Names that a client may not speak to Envoy, nor a guest to a client.
_ENVOYS: Final = "x[-_](envoy|emberbox)[-_].*"
# Names that no guest sees; also with underscores, which frameworks such as WSGI cannot tell from hyphens.
_NOT_FOR_GUESTS: Final = "x[-_](aws[-_]proxy|envoy|emberbox|forwarded)[-_].*|x[-_]amzn_.*|x_amzn[-_].*|forwarded"
# What the authoriser says of a request that passes.
_VERDICT: Final = (TARGET_HEADER, UPSTREAM_HEADER, INCARNATION_HEADER, CLUSTER_HEADER, SUBPROTOCOL_HEADER)
# What the authoriser judges by; requests are alike when all of it is. WebSockets are few, and always asked about.
_NEVER_ALIKE: Final = (SUBPROTOCOLS_HEADER, "sec-websocket-version", WEBSOCKET_KEY_HEADER)
_ALIKE: Final = (":authority", *(name for name in JUDGED_HEADERS if name not in (*_NEVER_ALIKE, REQUEST_ID_HEADER)))
_OWN_METADATA: Final = "emberbox"
_ADMITTED: Final = "admitted"
_STREAM_REPORT: Final = (
    f"stream %ACCESS_LOG_TYPE% %DYNAMIC_METADATA({_AUTHZ_METADATA}:{TARGET_HEADER})% %REQ({REQUEST_ID_HEADER})% "
    "%DOWNSTREAM_WIRE_BYTES_RECEIVED% %DOWNSTREAM_WIRE_BYTES_SENT% %RESPONSE_FLAGS% "
    f"%DYNAMIC_METADATA({_OWN_METADATA}:{_ADMITTED})%"
)
# What the authoriser says to the guest, and of which microVM it speaks to our own data plane. The id is the request's
# already; it is said again because Envoy looks for another route only when the authoriser has set some header.
_TOLD_GUESTS: Final = (REQUEST_ID_HEADER, SUBPROTOCOLS_HEADER, WEBSOCKET_KEY_HEADER, MICROVM_HEADER)
_REPORT_INTERVAL_MS: Final = 10
_LUA: Final = Path(__file__).with_name("admissions.lua")
_NEVER: Final = "0s"  # Envoy's way of saying that a timeout is off
_UPSTREAM_FAILED: Final = ["UF", "UC", "UH", "UR", "UO", "UPE", "LR", "URX"]
_SOL_SOCKET, _SO_KEEPALIVE = 1, 9
_IPPROTO_TCP, _TCP_KEEPIDLE, _TCP_KEEPINTVL, _TCP_KEEPCNT = 6, 4, 5, 6


@dataclass(frozen=True, slots=True)
class EnvoySettings:
    """What the bootstrap depends on.

    Args:
        address: the IP address to listen on.
        port: the TCP port to listen on.
        certificate_path: the server certificate and its chain, PEM.
        key_path: its key, PEM.
        authoriser_path: the Unix socket of the authoriser, at most 107 bytes.
        data_plane_path: the Unix socket of the data plane, at most 107 bytes.
        admissions_path: the file that it shares with the server (admissions.py).
        admissions_inode: that file's number: where it is another file, Envoy must start anew.
        reports_path: the FIFO that takes reports of what crosses (traffic.py has their form).
        authorise_timeout_s: how long a request may be held while its microVM resumes.
        connect_timeout_s: how long a guest's port may take to accept.
        max_connections: client connections at once; more are closed at once.
        max_heap_mib: Envoy's heap; near it, it closes idle connections and then takes no new requests.
    """

    address: str
    port: int
    certificate_path: Path
    key_path: Path
    authoriser_path: Path
    data_plane_path: Path
    admissions_path: Path
    admissions_inode: int
    reports_path: Path
    authorise_timeout_s: float = limit_s(120.0)
    connect_timeout_s: float = limit_s(2.0)
    max_connections: int = 20_000
    max_heap_mib: int = 1024


def render_bootstrap(settings: EnvoySettings) -> Config:
    """Make the bootstrap. It has no admin interface: nothing can be changed or read from outside."""
    return {
        "node": {"id": "emberbox", "cluster": "emberbox"},
        "static_resources": {
            "listeners": [_listener(settings)],
            "clusters": [
                _socket_cluster(_AUTHORISER, settings.authoriser_path),
                _socket_cluster(Cluster.DATA_PLANE, settings.data_plane_path),
                _guest_cluster(settings, Cluster.GUEST_HTTP1, _only({"http_protocol_options": {}})),
                _guest_cluster(settings, Cluster.GUEST_HTTP2, _only({"http2_protocol_options": _http2()})),
                _guest_cluster(settings, Cluster.GUEST_TLS, _by_alpn(), _guest_tls("h2", "http/1.1")),
                _guest_cluster(
                    settings, Cluster.GUEST_TLS_HTTP1, _only({"http_protocol_options": {}}), _guest_tls("http/1.1")
                ),
            ],
        },
        "overload_manager": _overload_manager(settings),
        "stats_config": {"stats_matcher": {"reject_all": True}},  # there is no way to read them
    }


def write_bootstrap(settings: EnvoySettings, path: Path) -> None:
    """Write the bootstrap as JSON.

    Raises:
        HostError: the socket's path is longer than the kernel allows.
    """
    for socket_path in (settings.authoriser_path, settings.data_plane_path):
        if len(str(socket_path).encode()) > 107:  # sun_path in unix(7)
            raise HostError(f"{socket_path} is too long for a socket; choose a shorter state directory")
    path.write_text(json.dumps(render_bootstrap(settings), indent=2) + "\n")


def envoy_args(config_path: Path, concurrency: int) -> list[str]:
    """Make Envoy's command line. It logs warnings to its standard error.

    Args:
        config_path: the bootstrap.
        concurrency: worker threads.
    """
    return [
        find_program("envoy"),
        "--config-path",
        str(config_path),
        "--concurrency",
        str(concurrency),
        "--disable-hot-restart",  # no shared memory, so that several Envoys on a machine need no base ids
        "--log-level",
        "warning",
        "--file-flush-interval-msec",  # reports are written together, and soon
        str(_REPORT_INTERVAL_MS),
    ]


async def validate(config_path: Path) -> None:
    """Let Envoy itself judge a bootstrap.

    Raises:
        HostError: it is not valid; the message is Envoy's.
    """
    try:
        await process.run([*envoy_args(config_path, 1), "--mode", "validate"])
    except CommandError as error:
        raise HostError(f"Envoy refuses {config_path}: {error}") from error


def _listener(settings: EnvoySettings) -> Config:
    return {
        "name": "endpoint",
        "address": {"socket_address": {"address": settings.address, "port_value": settings.port}},
        # With SO_REUSEPORT an Envoy left over from before would silently take a share of the connections.
        "enable_reuse_port": False,
        "connection_balance_config": {"exact_balance": {}},  # else one thread may get them all
        "tcp_backlog_size": 4096,
        "per_connection_buffer_limit_bytes": 256 << 10,
        # A client that vanished leaves no stream behind for ever, although streams have no time limit.
        "socket_options": [
            _socket_option(_SOL_SOCKET, _SO_KEEPALIVE, 1),
            _socket_option(_IPPROTO_TCP, _TCP_KEEPIDLE, 60),
            _socket_option(_IPPROTO_TCP, _TCP_KEEPINTVL, 20),
            _socket_option(_IPPROTO_TCP, _TCP_KEEPCNT, 3),
        ],
        "access_log": [_report(settings, "closed %CONNECTION_ID%")],
        "filter_chains": [
            {
                "transport_socket_connect_timeout": "10s",
                "transport_socket": _tls(settings),
                "filters": [_typed("envoy.http_connection_manager", _connection_manager(settings))],
            }
        ],
    }


def _socket_option(level: int, name: int, value: int) -> Config:
    return {"level": level, "name": name, "int_value": value, "state": "STATE_LISTENING"}


def _tls(settings: EnvoySettings) -> Config:
    certificate = {
        "certificate_chain": {"filename": str(settings.certificate_path)},
        "private_key": {"filename": str(settings.key_path)},
    }
    context = {
        "@type": f"{_TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificates": [certificate],
        },
    }
    return _typed("envoy.transport_sockets.tls", context)


def _connection_manager(settings: EnvoySettings) -> Config:
    manager = f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return {
        "@type": manager,
        "stat_prefix": "endpoint",
        "codec_type": "AUTO",
        **_privacy(),
        **_limits(),
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http2_protocol_options": {**_http2(), "max_concurrent_streams": 100},
        "access_log": [_report(settings, _STREAM_REPORT)],
        "access_log_options": {"access_log_flush_interval": "1s"},
        "local_reply_config": _local_replies(),
        "route_config": {"name": "endpoint", "virtual_hosts": [_virtual_host()]},
        "http_filters": [
            _mutate("scrub_client", request=_scrub_client(), response=[_answer_subprotocol()]),
            _admissions(settings),
            _typed(_AUTHZ_METADATA, _ext_authz(settings)),
            _pool_key(),
            _typed("envoy.filters.http.router", _router()),
        ],
    }


def _scrub_client() -> list[Config]:
    """Take away what only we may say, and say which connection and request it is."""
    return [
        _remove(_ENVOYS),
        _set(CONNECTION_HEADER, "%CONNECTION_ID%"),
        _set(REQUEST_ID_HEADER, "%UNIQUE_ID%"),
    ]


def _admissions(settings: EnvoySettings) -> Config:
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
    return _typed(
        "envoy.filters.http.lua",
        {
            "@type": f"{_HTTP_FILTERS}.lua.v3.Lua",
            "default_source_code": {"inline_string": source},
        },
    )


def _lua_list(names: Iterable[str]) -> str:
    return "{" + ", ".join(json.dumps(name) for name in names) + "}"


def _report(settings: EnvoySettings, line: str) -> Config:
    config = {
        "@type": f"{_TYPE}.extensions.access_loggers.file.v3.FileAccessLog",
        "path": str(settings.reports_path),
        "log_format": {"text_format_source": {"inline_string": line + "\n"}},
    }
    return _typed("envoy.access_loggers.file", config)


def _privacy() -> Config:
    """Leave no trace of Envoy in either direction, and the path as the client wrote it."""
    return {
        "server_header_transformation": "PASS_THROUGH",
        "generate_request_id": False,
        "use_remote_address": True,  # otherwise a client may say in a header who it is
        "skip_xff_append": True,
        "normalize_path": False,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
    }


def _limits() -> Config:
    """Bound what a client may hold: headers, in size, number and time; idle connections; no live stream."""
    return {
        "max_request_headers_kb": 64,
        "request_headers_timeout": "10s",
        "request_timeout": _NEVER,
        "stream_idle_timeout": _NEVER,
        "delayed_close_timeout": "0.2s",
        "common_http_protocol_options": {"idle_timeout": "120s", "max_headers_count": 100},
    }


def _local_replies() -> Config:
    failed: Config = {"response_flag_filter": {"flags": _UPSTREAM_FAILED}}
    return {"mappers": [{"filter": failed, "status_code": 502, "body": {"inline_string": ""}}]}


def _virtual_host() -> Config:
    """The authoriser names the cluster; until it has, and should it ever name none, a request leads nowhere."""
    nowhere = {"match": {"prefix": "/"}, "direct_response": {"status": 502}}
    return {"name": "guests", "domains": ["*"], "routes": [*(_route(cluster) for cluster in Cluster), nowhere]}


def _route(cluster: Cluster) -> Config:
    named = {
        "filter": _AUTHZ_METADATA,
        "path": [{"key": CLUSTER_HEADER}],
        "value": {"string_match": {"exact": cluster}},
    }
    return {
        "match": {"prefix": "/", "dynamic_metadata": [named]},
        "route": {"cluster": cluster, "timeout": _NEVER, "idle_timeout": _NEVER},
    }


def _router() -> Config:
    return {"@type": f"{_HTTP_FILTERS}.router.v3.Router", "suppress_envoy_headers": True, "dynamic_stats": False}


def _ext_authz(settings: EnvoySettings) -> Config:
    """Ask the authoriser with the method, path and Host of the request, and just the headers it judges by."""
    judged = [{"exact": name} for name in JUDGED_HEADERS]
    timeout = f"{settings.authorise_timeout_s:g}s"
    return {
        "@type": f"{_HTTP_FILTERS}.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "failure_mode_allow": False,
        "filter_enabled_metadata": {
            "filter": _OWN_METADATA,
            "path": [{"key": _ADMITTED}],
            "value": {"present_match": True},
            "invert": True,
        },
        "status_on_error": {"code": "BadGateway"},
        "allowed_headers": {"patterns": judged},
        "clear_route_cache": True,  # its answer decides the route
        "http_service": {
            "retry_policy": _wait_for_authoriser(timeout),
            "server_uri": {"uri": "http://authoriser", "cluster": _AUTHORISER, "timeout": timeout},
            "authorization_response": {
                "allowed_upstream_headers": {"patterns": [{"exact": name} for name in _TOLD_GUESTS]},
                "allowed_client_headers": {"patterns": [{"exact": "content-type"}]},
                "dynamic_metadata_from_headers": {
                    "patterns": [{"exact": name} for name in (*_VERDICT, ADMISSION_HEADER)]
                },
            },
        },
    }


def _verdict(name: str) -> str:
    """Write what the authoriser said as Envoy's format strings have it."""
    return f"%DYNAMIC_METADATA({_AUTHZ_METADATA}:{name})%"


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


def _pool_key() -> Config:
    """Part the connections to guests by incarnation: a hashable string that a connection is made with."""
    key = {
        "object_key": "emberbox.incarnation",
        "factory_key": "envoy.hashable_string",
        "format_string": {"text_format_source": {"inline_string": _verdict(INCARNATION_HEADER)}},
        "shared_with_upstream": "ONCE",
    }
    config = {"@type": f"{_HTTP_FILTERS}.set_filter_state.v3.Config", "on_request_headers": [key]}
    return _typed("envoy.filters.http.set_filter_state", config)


def _mutate(name: str, request: list[Config] | None = None, response: list[Config] | None = None) -> Config:
    """Change headers on their way to the guest, and on the way back."""
    mutations = {"request_mutations": request or [], "response_mutations": response or []}
    config = {"@type": f"{_HTTP_FILTERS}.header_mutation.v3.HeaderMutation", "mutations": mutations}
    return _typed(name, config)


def _remove(pattern: str) -> Config:
    """Remove headers whose names match."""
    return {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": pattern}}}}


def _set(name: str, value: str, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> Config:
    return {"append": {"header": {"key": name, "value": value}, "append_action": action}}


def _answer_subprotocol() -> Config:
    """Choose for the guest among the subprotocols of a browser, which fails when none is chosen."""
    return _set(SUBPROTOCOLS_HEADER, _verdict(SUBPROTOCOL_HEADER), "ADD_IF_ABSENT")


def _socket_cluster(name: str, path: Path) -> Config:
    """One of our own servers."""
    endpoint = {"address": {"pipe": {"path": str(path)}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": _no_circuit_breaker(),
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
        # Shorter than the server's own limit: it never closes a connection that Envoy is about to use.
        **_protocol(_only({"http_protocol_options": {}}), "300s"),
    }


def _guest_cluster(
    settings: EnvoySettings, name: Cluster, protocol: Config, transport_socket: Config | None = None
) -> Config:
    destination = {"metadata_key": {"key": _AUTHZ_METADATA, "path": [{"key": UPSTREAM_HEADER}]}}
    upstream_filters = [
        _mutate("scrub_guest", request=[_remove(_NOT_FOR_GUESTS)], response=[_remove(_ENVOYS)]),
        _typed("envoy.filters.http.upstream_codec", {"@type": f"{_HTTP_FILTERS}.upstream_codec.v3.UpstreamCodec"}),
    ]
    return {
        "name": name,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": destination,
        # No TCP keep-alive: a suspended microVM, whose connections are held, answers no probe. One that is gone has its
        # connections reset (TapNetwork.give_back).
        "connect_timeout": f"{settings.connect_timeout_s:g}s",
        "per_connection_buffer_limit_bytes": 256 << 10,
        "circuit_breakers": _no_circuit_breaker(),
        **({"transport_socket": transport_socket} if transport_socket else {}),
        **_protocol(protocol, "60s", upstream_filters),
    }


def _guest_tls(*alpn: str) -> Config:
    """Speak TLS and trust whatever certificate the guest has: the way to it is ours."""
    context = {
        "@type": f"{_TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {"alpn_protocols": list(alpn)},
    }
    return _typed("envoy.transport_sockets.tls", context)


def _only(protocol: Config) -> Config:
    return {"explicit_http_config": protocol}


def _by_alpn() -> Config:
    return {"auto_config": {"http_protocol_options": {}, "http2_protocol_options": _http2()}}


def _http2() -> Config:
    """Windows that keep a fast link with a long way busy, and WebSockets over HTTP/2 (RFC 8441)."""
    return {
        "allow_connect": True,
        "initial_stream_window_size": 1 << 20,
        "initial_connection_window_size": 4 << 20,
    }


def _protocol(protocol: Config, idle_timeout: str, http_filters: list[Config] | None = None) -> Config:
    options: Config = {
        "@type": f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": idle_timeout},
        **protocol,
    }
    if http_filters:
        options["http_filters"] = http_filters
    name = f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions".removeprefix("type.googleapis.com/")
    return {"typed_extension_protocol_options": {name: options}}


def _no_circuit_breaker() -> Config:
    """All guests share a cluster: with Envoy's defaults (1,024 of each) one could starve the others."""
    unlimited = 1_000_000
    names = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [{"priority": "DEFAULT", **dict.fromkeys(names, unlimited)}]}


def _overload_manager(settings: EnvoySettings) -> Config:
    monitors = f"{_TYPE}.extensions.resource_monitors"
    connections = {
        "@type": f"{monitors}.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": settings.max_connections,
    }
    heap = {
        "@type": f"{monitors}.fixed_heap.v3.FixedHeapConfig",
        "max_heap_size_bytes": settings.max_heap_mib << 20,
    }
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            _typed("envoy.resource_monitors.global_downstream_max_connections", connections),
            _typed("envoy.resource_monitors.fixed_heap", heap),
        ],
        "actions": [
            _heap_action("envoy.overload_actions.shrink_heap", 0.8),
            _heap_action("envoy.overload_actions.disable_http_keepalive", 0.9),
            _heap_action("envoy.overload_actions.stop_accepting_requests", 0.95),
        ],
    }


def _heap_action(name: str, share: float) -> Config:
    return {
        "name": name,
        "triggers": [{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": share}}],
    }


def _typed(name: str, config: Config) -> Config:
    return {"name": name, "typed_config": config}
