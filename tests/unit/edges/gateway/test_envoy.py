"""The bootstrap, as Envoy itself judges it, and the few properties that no request would show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emberbox.edges.gateway.proxy.envoy.bootstrap import envoy_args, render_bootstrap, validate, write_bootstrap
from emberbox.edges.gateway.proxy.envoy.settings import EnvoySettings
from emberbox.edges.gateway.tls.certificates import ensure_certificates
from emberbox.model.errors import HostError


@pytest.fixture
def settings(tmp_path: Path) -> EnvoySettings:
    made = ensure_certificates(tmp_path / "tls", ["localhost"])
    return EnvoySettings(
        "127.0.0.1",
        8443,
        made.certificate_path,
        made.key_path,
        tmp_path / "a.sock",
        tmp_path / "d.sock",
        tmp_path / "admissions",
        1,
        tmp_path / "r",
    )


async def test_envoy_accepts_the_bootstrap(settings: EnvoySettings, tmp_path: Path) -> None:
    write_bootstrap(settings, tmp_path / "envoy.json")
    await validate(tmp_path / "envoy.json")


async def test_a_bootstrap_that_envoy_refuses_is_reported_in_its_words(settings: EnvoySettings, tmp_path: Path) -> None:
    config: dict[str, Any] = render_bootstrap(settings)
    config["static_resources"]["listeners"][0]["no_such_member"] = 1
    (tmp_path / "envoy.json").write_text(json.dumps(config))
    with pytest.raises(HostError, match="no_such_member"):
        await validate(tmp_path / "envoy.json")


def test_a_socket_path_that_the_kernel_would_refuse_is_refused(settings: EnvoySettings, tmp_path: Path) -> None:
    long = replace(settings, authoriser_path=tmp_path / ("x" * 108))
    with pytest.raises(HostError, match="shorter state directory"):
        write_bootstrap(long, tmp_path / "envoy.json")


def test_there_is_no_admin_interface_and_no_shared_port(settings: EnvoySettings) -> None:
    config = render_bootstrap(settings)
    assert "admin" not in config
    assert config["static_resources"]["listeners"][0]["enable_reuse_port"] is False


def test_the_command_line_keeps_instances_apart(tmp_path: Path) -> None:
    args = envoy_args(tmp_path / "envoy.json", 3)
    assert "--disable-hot-restart" in args
    assert args[args.index("--concurrency") + 1] == "3"
