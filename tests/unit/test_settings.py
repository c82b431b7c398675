"""Settings: where they come from, and how wrong ones are refused."""

from __future__ import annotations

import ipaddress
from dataclasses import fields
from pathlib import Path

import pytest

from emberbox.model.errors import HostError
from emberbox.settings import Settings, load


def test_registries_are_hosts_with_or_without_a_scheme(tmp_path: Path) -> None:
    given = "http://127.0.0.1:5000,registry.test,https://other.test:444"
    assert load({"EMBERBOX_HOME": str(tmp_path), "EMBERBOX_REGISTRIES": given}).registries == given
    for wrong in ("ftp://x", "x/y", "a b", "a,,b"):
        with pytest.raises(HostError, match="EMBERBOX_REGISTRIES"):
            load({"EMBERBOX_HOME": str(tmp_path), "EMBERBOX_REGISTRIES": wrong})


def test_without_anything_the_defaults_count(tmp_path: Path) -> None:
    settings = load({"EMBERBOX_HOME": str(tmp_path)})
    assert settings == Settings(home=tmp_path)
    assert (settings.api_port, settings.region, settings.network) == (9070, "us-east-1", "auto")


def test_no_two_listeners_have_one_port_by_default() -> None:
    ports = [row.default for row in fields(Settings) if row.name.endswith("_port")]
    assert len(ports) == len(set(ports)) >= 7


def test_arguments_beat_the_environment_and_that_beats_the_file(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('api_port = 1\ngateway_port = 2\ns3_port = 3\nregion = "eu-west-1"\n')
    environment = {"EMBERBOX_HOME": str(tmp_path), "EMBERBOX_GATEWAY_PORT": "20", "EMBERBOX_S3_PORT": "30"}
    settings = load(environment, s3_port=300)
    assert (settings.api_port, settings.gateway_port, settings.s3_port) == (1, 20, 300)
    assert settings.region == "eu-west-1"


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    assert load({"EMBERBOX_HOME": str(tmp_path), "EMBERBOX_API_PORT": ""}).api_port == 9070


def test_a_relative_home_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load({"EMBERBOX_HOME": "state"}).home == tmp_path / "state"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_PORT", "70000"),
        ("API_PORT", "-1"),
        ("API_PORT", "http"),
        ("REGION", "nowhere"),
        ("ACCOUNT_ID", "123"),
        ("DOMAIN", "UPPER CASE"),
        ("NETWORK", "bridge"),
        ("NETWORK_CIDR", "10.0.0.0/24"),
        ("NETWORK_CIDR", "10.0.0.1/8"),
        ("ACCELERATOR", "hvf"),
        ("CONCURRENT_BUILDS", "0"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_refused_by_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(HostError, match=f"EMBERBOX_{name} cannot be '{value}'"):
        load({"EMBERBOX_HOME": str(tmp_path), f"EMBERBOX_{name}": value})


def test_an_unknown_setting_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("api_prot = 1\n")
    with pytest.raises(HostError, match="settings that do not exist: api_prot"):
        load({"EMBERBOX_HOME": str(tmp_path)})


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("api_port: 1\n")
    with pytest.raises(HostError, match="cannot be read"):
        load({"EMBERBOX_HOME": str(tmp_path)})


def test_a_network_is_parsed(tmp_path: Path) -> None:
    settings = load({"EMBERBOX_HOME": str(tmp_path), "EMBERBOX_NETWORK_CIDR": "172.20.0.0/14"})
    assert settings.network_cidr == ipaddress.IPv4Network("172.20.0.0/14")
