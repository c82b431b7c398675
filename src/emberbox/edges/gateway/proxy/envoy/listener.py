"""Where clients connect: TLS, HTTP, limits, routes and reports."""

from __future__ import annotations

from typing import Final

from emberbox.edges.forwarded import SOURCE_HEADER
from emberbox.edges.gateway.judge.authoriser import CLUSTER_HEADER, TARGET_HEADER, Cluster
from emberbox.edges.gateway.judge.request import REQUEST_ID_HEADER
from emberbox.edges.gateway.proxy.envoy.aws import render_aws_manager
from emberbox.edges.gateway.proxy.envoy.filters import admissions, answer_subprotocol, ext_authz, pool_key, scrub_client
from emberbox.edges.gateway.proxy.envoy.settings import AwsFront, EnvoySettings
from emberbox.edges.gateway.proxy.envoy.words import (
    ADMITTED,
    AUTHZ_METADATA,
    HTTP_FILTERS,
    NEVER,
    OWN_METADATA,
    TYPE,
    Config,
    http2,
    mutate,
    set_header,
    typed,
)

_STREAM_REPORT: Final = (
    f"stream %ACCESS_LOG_TYPE% %DYNAMIC_METADATA({AUTHZ_METADATA}:{TARGET_HEADER})% %REQ({REQUEST_ID_HEADER})% "
    "%DOWNSTREAM_WIRE_BYTES_RECEIVED% %DOWNSTREAM_WIRE_BYTES_SENT% %RESPONSE_FLAGS% "
    f"%DYNAMIC_METADATA({OWN_METADATA}:{ADMITTED})%"
)
_UPSTREAM_FAILED: Final = ["UF", "UC", "UH", "UR", "UO", "UPE", "LR", "URX"]
_SOL_SOCKET, _SO_KEEPALIVE = 1, 9
_IPPROTO_TCP, _TCP_KEEPIDLE, _TCP_KEEPINTVL, _TCP_KEEPCNT = 6, 4, 5, 6


def render_listener(settings: EnvoySettings) -> Config:
    """Make the listener that is always there."""
    return _listener(settings, "endpoint", settings.port, [_endpoints_chain(settings)])


def render_https_listener(settings: EnvoySettings, port: int, front: AwsFront | None) -> Config:
    """Make the listener of the second port.

    Args:
        settings: see there.
        port: where it listens.
        front: AWS's host names, where they are answered too; everything else is endpoints'.
    """
    chains = [_endpoints_chain(settings)]
    if front is not None:
        manager = render_aws_manager(front, _privacy(), _limits())
        names = {"server_names": [*front.api_names, *front.s3_names]}
        chains.insert(0, {"name": "aws", "filter_chain_match": names, **_chain(front, manager)})
    inspector = typed(
        "envoy.filters.listener.tls_inspector",
        {"@type": f"{TYPE}.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
    )
    listener = _listener(settings, "https", port, chains)
    return {**listener, "listener_filters": [inspector], "listener_filters_timeout": "10s"}


def _endpoints_chain(settings: EnvoySettings) -> Config:
    return {"name": "endpoints", **_chain(settings, _connection_manager(settings))}


def _chain(certificate: AwsFront | EnvoySettings, manager: Config) -> Config:
    return {
        "transport_socket_connect_timeout": "10s",
        "transport_socket": _tls(certificate),
        "filters": [typed("envoy.http_connection_manager", manager)],
    }


def _listener(settings: EnvoySettings, name: str, port: int, chains: list[Config]) -> Config:
    return {
        "name": name,
        "address": {"socket_address": {"address": settings.address, "port_value": port}},
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
        "filter_chains": chains,
    }


def _socket_option(level: int, name: int, value: int) -> Config:
    return {"level": level, "name": name, "int_value": value, "state": "STATE_LISTENING"}


def _tls(settings: AwsFront | EnvoySettings) -> Config:
    certificate = {
        "certificate_chain": {"filename": str(settings.certificate_path)},
        "private_key": {"filename": str(settings.key_path)},
    }
    context = {
        "@type": f"{TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificates": [certificate],
        },
    }
    return typed("envoy.transport_sockets.tls", context)


def _connection_manager(settings: EnvoySettings) -> Config:
    manager = f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return {
        "@type": manager,
        "stat_prefix": "endpoint",
        "codec_type": "AUTO",
        **_privacy(),
        **_limits(),
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http2_protocol_options": {**http2(), "max_concurrent_streams": 100},
        "access_log": [_report(settings, _STREAM_REPORT)],
        "access_log_options": {"access_log_flush_interval": "1s"},
        "local_reply_config": _local_replies(),
        "route_config": {"name": "endpoint", "virtual_hosts": [_virtual_host(settings)]},
        "http_filters": [
            mutate("scrub_client", request=scrub_client(), response=[answer_subprotocol()]),
            admissions(settings),
            typed(AUTHZ_METADATA, ext_authz(settings)),
            pool_key(),
            typed("envoy.filters.http.router", _router()),
        ],
    }


def _report(settings: EnvoySettings, line: str) -> Config:
    config = {
        "@type": f"{TYPE}.extensions.access_loggers.file.v3.FileAccessLog",
        "path": str(settings.reports_path),
        "log_format": {"text_format_source": {"inline_string": line + "\n"}},
    }
    return typed("envoy.access_loggers.file", config)


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
        "request_timeout": NEVER,
        "stream_idle_timeout": NEVER,
        "delayed_close_timeout": "0.2s",
        "common_http_protocol_options": {"idle_timeout": "120s", "max_headers_count": 100},
    }


def _local_replies() -> Config:
    failed: Config = {"response_flag_filter": {"flags": _UPSTREAM_FAILED}}
    return {"mappers": [{"filter": failed, "status_code": 502, "body": {"inline_string": ""}}]}


def _virtual_host(settings: EnvoySettings) -> Config:
    """The authoriser names the cluster; until it has, and should it ever name none, a request leads nowhere."""
    nowhere = {"match": {"prefix": "/"}, "direct_response": {"status": 502}}
    clusters = [cluster for cluster in Cluster if cluster is not Cluster.E2B]
    routes = [_route(cluster) for cluster in clusters]
    if settings.e2b_path is not None:
        source = set_header(SOURCE_HEADER, "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")["append"]
        routes.append({**_route(Cluster.E2B), "request_headers_to_add": [source]})
    return {"name": "guests", "domains": ["*"], "routes": [*routes, nowhere]}


def _route(cluster: Cluster) -> Config:
    named = {
        "filter": AUTHZ_METADATA,
        "path": [{"key": CLUSTER_HEADER}],
        "value": {"string_match": {"exact": cluster}},
    }
    return {
        "match": {"prefix": "/", "dynamic_metadata": [named]},
        "route": {"cluster": cluster, "timeout": NEVER, "idle_timeout": NEVER},
    }


def _router() -> Config:
    return {"@type": f"{HTTP_FILTERS}.router.v3.Router", "suppress_envoy_headers": True, "dynamic_stats": False}
