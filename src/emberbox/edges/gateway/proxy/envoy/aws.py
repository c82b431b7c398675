"""AWS's own host names, by SNI: the API and the embedded S3 for clients that know no other address.

    client ──TLS, lambda.us-east-1.amazonaws.com──► API at its Unix socket
           ──TLS, bucket.s3.us-east-1.amazonaws.com──► S3 at its port

Nothing is asked of the authoriser here: what is behind checks signatures itself. Host, path and all that is signed pass
as they are.
"""

from __future__ import annotations

from typing import Final

from emberbox.edges.forwarded import SOURCE_HEADER
from emberbox.edges.gateway.proxy.envoy.settings import AwsFront
from emberbox.edges.gateway.proxy.envoy.words import (
    ENVOYS,
    HTTP_FILTERS,
    NEVER,
    TYPE,
    Config,
    http2,
    mutate,
    remove,
    set_header,
    typed,
)

API: Final = "api"
S3: Final = "s3"


def render_aws_manager(front: AwsFront, privacy: Config, limits: Config) -> Config:
    """Make the connection manager of AWS's names.

    Args:
        front: the names.
        privacy: how headers and paths are left as they are.
        limits: what a client may hold.
    """
    manager = f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    source = set_header(SOURCE_HEADER, "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")
    hosts = [_host(API, front.api_names)]
    if front.s3_names:
        hosts.append(_host(S3, front.s3_names))
    return {
        "@type": manager,
        "stat_prefix": "aws",
        "codec_type": "AUTO",
        **privacy,
        **limits,
        "http2_protocol_options": {**http2(), "max_concurrent_streams": 100},
        "route_config": {"name": "aws", "ignore_port_in_host_matching": True, "virtual_hosts": hosts},
        "http_filters": [
            mutate("scrub_aws", request=[remove(ENVOYS), source]),
            typed(
                "envoy.filters.http.router",
                {"@type": f"{HTTP_FILTERS}.router.v3.Router", "suppress_envoy_headers": True, "dynamic_stats": False},
            ),
        ],
    }


def _host(cluster: str, names: tuple[str, ...]) -> Config:
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": NEVER, "idle_timeout": NEVER}}
    return {"name": cluster, "domains": list(names), "routes": [route]}
