"""networks.toml: what it may say, and how it says no."""

from __future__ import annotations

from pathlib import Path

import pytest

from emberbox.control.connectors.networks import load_networks
from emberbox.model.egress import EgressRule
from emberbox.model.errors import HostError


def test_without_a_file_nothing_is_defined(tmp_path: Path) -> None:
    networks = load_networks(tmp_path)
    assert (networks.subnets, networks.security_groups) == ({}, {})


def test_every_form_of_a_rule_is_read(tmp_path: Path) -> None:
    (tmp_path / "networks.toml").write_text(
        '[sg-A]\nallow = ["tcp 10.0.0.0/8 443", "udp 10.0.0.0/8 1000-2000", "tcp 10.1.0.0/16", "icmp 0.0.0.0/0",'
        ' "all 10.9.9.9/32"]\n[subnet-a]\ncidrs = ["10.0.0.0/8"]\ninternet = true\n'
    )
    networks = load_networks(tmp_path)
    assert networks.security_groups["sg-A"] == (
        EgressRule("10.0.0.0/8", "tcp", (443, 443)),
        EgressRule("10.0.0.0/8", "udp", (1000, 2000)),
        EgressRule("10.1.0.0/16", "tcp"),
        EgressRule("0.0.0.0/0", "icmp"),
        EgressRule("10.9.9.9/32", "all"),
    )
    assert networks.subnets["subnet-a"].internet


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[subnet-A]\n", "a table is named"),
        ("subnet-a = 1\n", "a table is named"),
        ("[subnet-a]\ncidrs = ['10.0.0.1/8']\n", "has host bits set"),
        ("[subnet-a]\ncidrs = '10.0.0.0/8'\n", "cidrs is a list of strings"),
        ("[subnet-a]\ncidrs = [1]\n", "cidrs is a list of strings"),
        ("[subnet-a]\ninternet = 'yes'\n", "internet is true or false"),
        ("[subnet-a]\ndns = 'one'\n", "one"),
        ("[subnet-a]\nallow = []\n", "unknown: allow; known here: cidrs, dns, internet"),
        ("[sg-a]\nallow = ['tcp']\n", "has no meaning"),
        ("[sg-a]\nallow = ['icmp 10.0.0.0/8 7']\n", "has no meaning"),
        ("[sg-a]\nallow = ['gre 10.0.0.0/8']\n", "has no meaning"),
        ("[sg-a]\nallow = ['tcp 10.0.0.0/8 0']\n", "'0' is no port"),
        ("[sg-a]\nallow = ['tcp 10.0.0.0/8 9-8']\n", "'9-8' is no port"),
        ("[sg-a]\nallow = ['tcp 10.0.0.0/8 65536']\n", "'65536' is no port"),
        ("[sg-a]\nallow = ['tcp 10.0.0.0/8 1;drop']\n", "is no port"),
        ("[broken\n", "cannot be read"),
    ],
)
def test_what_has_no_meaning_is_refused_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "networks.toml").write_text(text)
    with pytest.raises(HostError, match=r"networks\.toml") as refused:
        load_networks(tmp_path)
    assert problem in str(refused.value)
