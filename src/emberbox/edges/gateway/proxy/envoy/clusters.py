"""Where requests go: to guests, each at the address that the authoriser told, and to our own servers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from emberbox.edges.gateway.judge.authoriser import UPSTREAM_HEADER, Cluster
from emberbox.edges.gateway.proxy.envoy.aws import API, S3
from emberbox.edges.gateway.proxy.envoy.settings import EnvoySettings, HttpsPort
from emberbox.edges.gateway.proxy.envoy.words import (
    AUTHORISER,
    AUTHZ_METADATA,
    ENVOYS,
    HTTP_FILTERS,
    TYPE,
    Config,
    http2,
    mutate,
    only,
    remove,
    typed,
)

# Names that no guest sees; also with underscores, which frameworks such as WSGI cannot tell from hyphens.
_NOT_FOR_GUESTS: Final = "x[-_](aws[-_]proxy|envoy|emberbox|forwarded)[-_].*|x[-_]amzn_.*|x_amzn[-_].*|forwarded"


def render_clusters(settings: EnvoySettings) -> list[Config]:
    """Make all clusters."""
    http1 = only({"http_protocol_options": {}})
    return [
        _socket_cluster(AUTHORISER, _pipe(settings.authoriser_path)),
        _socket_cluster(Cluster.DATA_PLANE, _pipe(settings.data_plane_path)),
        *([_socket_cluster(Cluster.E2B, _pipe(settings.e2b_path))] if settings.e2b_path else []),
        *_aws_clusters(settings.https),
        _guest_cluster(settings, Cluster.GUEST_HTTP1, http1),
        _guest_cluster(settings, Cluster.GUEST_HTTP2, only({"http2_protocol_options": http2()})),
        _guest_cluster(settings, Cluster.GUEST_TLS, _by_alpn(), _guest_tls("h2", "http/1.1")),
        _guest_cluster(settings, Cluster.GUEST_TLS_HTTP1, http1, _guest_tls("http/1.1")),
    ]


def _aws_clusters(https: HttpsPort | None) -> list[Config]:
    if https is None:
        return []
    clusters = [_socket_cluster(API, _pipe(https.api_path))]
    if https.s3_address is not None:
        address, port = https.s3_address
        where = {"socket_address": {"address": address, "port_value": port}}
        clusters.append(_socket_cluster(S3, where, idle_timeout="20s"))  # it closes idle connections itself, after 60 s
    return clusters


def _pipe(path: Path) -> Config:
    return {"pipe": {"path": str(path)}}


def _socket_cluster(name: str, address: Config, idle_timeout: str = "300s") -> Config:
    """One of our own servers."""
    endpoint = {"address": address}
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
        **_protocol(only({"http_protocol_options": {}}), idle_timeout),
    }


def _guest_cluster(
    settings: EnvoySettings, name: Cluster, protocol: Config, transport_socket: Config | None = None
) -> Config:
    destination = {"metadata_key": {"key": AUTHZ_METADATA, "path": [{"key": UPSTREAM_HEADER}]}}
    upstream_filters = [
        mutate("scrub_guest", request=[remove(_NOT_FOR_GUESTS)], response=[remove(ENVOYS)]),
        typed("envoy.filters.http.upstream_codec", {"@type": f"{HTTP_FILTERS}.upstream_codec.v3.UpstreamCodec"}),
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
        "@type": f"{TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {"alpn_protocols": list(alpn)},
    }
    return typed("envoy.transport_sockets.tls", context)


def _by_alpn() -> Config:
    return {"auto_config": {"http_protocol_options": {}, "http2_protocol_options": http2()}}


def _protocol(protocol: Config, idle_timeout: str, http_filters: list[Config] | None = None) -> Config:
    options: Config = {
        "@type": f"{TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": idle_timeout},
        **protocol,
    }
    if http_filters:
        options["http_filters"] = http_filters
    name = f"{TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions".removeprefix("type.googleapis.com/")
    return {"typed_extension_protocol_options": {name: options}}


def _no_circuit_breaker() -> Config:
    """All guests share a cluster: with Envoy's defaults (1,024 of each) one could starve the others."""
    unlimited = 1_000_000
    names = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [{"priority": "DEFAULT", **dict.fromkeys(names, unlimited)}]}
