"""The whole of Envoy's configuration in one file, Envoy's opinion of it, and its command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from emberbox import process
from emberbox.edges.gateway.proxy.envoy.clusters import render_clusters
from emberbox.edges.gateway.proxy.envoy.listener import render_https_listener, render_listener
from emberbox.edges.gateway.proxy.envoy.settings import AwsFront, EnvoySettings
from emberbox.edges.gateway.proxy.envoy.words import TYPE, Config, typed
from emberbox.host.supervisor import find_program
from emberbox.model.errors import HostError
from emberbox.process import CommandError

_REPORT_INTERVAL_MS: Final = 10


def render_bootstrap(settings: EnvoySettings) -> Config:
    """Make the bootstrap. It has no admin interface: nothing can be changed or read from outside."""
    return {
        "node": {"id": "emberbox", "cluster": "emberbox"},
        "static_resources": {
            "listeners": [render_listener(settings)],
            "clusters": render_clusters(settings),
        },
        **_second_port(settings),
        "overload_manager": _overload_manager(settings),
        "stats_config": {"stats_matcher": {"reject_all": True}},  # there is no way to read them
    }


def _second_port(settings: EnvoySettings) -> Config:
    """Read the second listener from a file: it may come and go, and a port that is taken only leaves it out."""
    if settings.https is None:
        return {}
    source = {"path_config_source": {"path": str(settings.https.listeners_path)}, "resource_api_version": "V3"}
    return {"dynamic_resources": {"lds_config": source}}


def write_listeners(settings: EnvoySettings, path: Path, port: int | None, front: AwsFront | None = None) -> None:
    """Write the file with the second listener, whole: Envoy looks at it as soon as it is in its place.

    Args:
        settings: see there.
        path: the file.
        port: where it listens; None for no second listener.
        front: AWS's host names, where they are answered.
    """
    kind = {"@type": f"{TYPE}.config.listener.v3.Listener"}
    listeners = [] if port is None else [{**kind, **render_https_listener(settings, port, front)}]
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps({"resources": listeners}, indent=2) + "\n")
    scratch.replace(path)


def write_bootstrap(settings: EnvoySettings, path: Path) -> None:
    """Write the bootstrap as JSON.

    Raises:
        HostError: the socket's path is longer than the kernel allows.
    """
    more = [settings.e2b_path, settings.https and settings.https.api_path]
    for socket_path in (settings.authoriser_path, settings.data_plane_path, *filter(None, more)):
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


def _overload_manager(settings: EnvoySettings) -> Config:
    monitors = f"{TYPE}.extensions.resource_monitors"
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
            typed("envoy.resource_monitors.global_downstream_max_connections", connections),
            typed("envoy.resource_monitors.fixed_heap", heap),
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
