"""The networks' names, addresses and rules: pure functions, and nftables' own opinion of them."""

from __future__ import annotations

import ipaddress
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from emberbox.host.network import rules as network_rules
from emberbox.host.network.commands import find_obstacle
from emberbox.host.network.rules import render_host_rules, render_namespace_rules
from emberbox.host.network.slots import INSTANCES, SLOTS_PER_INSTANCE, plan_slot
from emberbox.model.egress import NO_EGRESS, EgressPolicy, EgressRule

CIDR = ipaddress.IPv4Network("10.213.0.0/16")


def test_a_slot_has_its_names_and_a_pair_of_addresses() -> None:
    slot = plan_slot(CIDR, 3, 5)
    assert (slot.namespace, slot.interface) == ("emberbox-3-5", "eb3-5")
    assert (slot.host_address, slot.address) == ("10.213.12.10", "10.213.12.11")


def test_no_two_slots_of_any_instance_share_an_address_and_all_fit() -> None:
    slots = [plan_slot(CIDR, instance, number) for instance in range(INSTANCES) for number in (0, 255, 511)]
    addresses = [address for slot in slots for address in (slot.host_address, slot.address)]
    assert len(set(addresses)) == len(addresses)
    assert all(ipaddress.ip_address(address) in CIDR for address in addresses)
    pair = ipaddress.ip_network(f"{slots[0].host_address}/31")
    assert ipaddress.ip_address(slots[0].address) in pair


def test_the_last_slot_ends_where_the_network_ends() -> None:
    last = plan_slot(CIDR, INSTANCES - 1, SLOTS_PER_INSTANCE - 1)
    assert last.address == "10.213.255.255"


def test_interface_names_are_short_enough_for_the_kernel() -> None:
    assert len(plan_slot(CIDR, INSTANCES - 1, SLOTS_PER_INSTANCE - 1).interface) <= 15


def test_the_rules_refuse_private_networks_but_the_name_server() -> None:
    rules = render_namespace_rules("192.0.2.53")
    for refused in ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"):
        assert refused in rules
    assert "elements = { 53 : 192.0.2.53 }" in rules
    assert "ip daddr 10.0.2.3 meta l4proto { tcp, udp } th dport 53 dnat to th dport map @host_names" in rules
    egress = rules[rules.index("chain egress") :]
    order = [
        egress.index("ct original ip daddr 10.0.2.3 ct status dnat accept"),
        egress.index("reject with icmp type admin-prohibited"),
        egress.index("accept\n  }"),
        egress.index("ip saddr != 10.0.2.15 drop"),
        egress.index('iifname "tap0" oifname "up0" jump egress'),
    ]
    assert order == sorted(order)


def test_where_packets_cannot_reach_the_hosts_name_server_this_process_answers() -> None:
    rules = render_namespace_rules(None)
    assert "elements" not in rules
    assert f"{NAMES} accept" in chain(rules, "input")


def test_a_policy_says_who_answers_names() -> None:
    own = render_namespace_rules("192.0.2.53", OPEN)
    assert f"{NAMES} dnat to 10.0.0.53" in chain(own, "names")
    assert f"{NAMES} accept" not in chain(own, "input")
    nobody = render_namespace_rules("192.0.2.53", WEB)
    assert chain(nobody, "names") == ""
    assert f"{NAMES} accept" not in chain(nobody, "input")
    for rules in (own, nobody):  # and whoever asks all the same is told at once
        assert chain(rules, "input").index("ip daddr 10.0.2.3 reject") < chain(rules, "input").index('iifname "lo"')


def test_what_a_guest_begins_is_counted_before_it_may_leave() -> None:
    """Its share of the host's connection tracking; what came in by the gateway has been accepted by then."""
    forward = chain(render_namespace_rules(None), "forward")
    order = [
        "ct status dnat accept",
        "ct direction reply accept",
        "limit rate over 500/",
        "ct count over 16384",
        "jump",
    ]
    assert sorted(order, key=forward.index) == order


def test_ports_that_this_process_listens_for_are_left_alone() -> None:
    rules = render_namespace_rules(None, relayed=[8082, 5173])
    assert "elements = { 8082, 5173 }" in rules
    assert chain(rules, "prerouting").index("@relayed accept") < chain(rules, "prerouting").index("dnat to 127.0.0.1")


NAMES = "ip daddr 10.0.2.3 meta l4proto { tcp, udp } th dport 53"


def chain(rules: str, name: str) -> str:
    """Return the rules of one chain."""
    return rules[rules.index(f"chain {name} {{") :].partition("{")[2].partition("\n  }")[0].strip()


WEB = EgressPolicy(("192.168.0.0/16", "10.1.0.0/16"), False, (EgressRule("192.168.10.0/24", "tcp", (443, 443)),), None)
OPEN = EgressPolicy(("10.0.0.0/8",), True, None, "10.0.0.53")


def test_a_policy_lets_through_what_networks_and_rules_both_allow() -> None:
    rules = render_namespace_rules(None, WEB)
    assert "ip daddr 192.168.10.0/24 tcp dport 443-443 accept" in rules
    assert "ip daddr { 192.168.0.0/16, 10.1.0.0/16 } jump allowed\n    reject" in rules
    assert "ip daddr !=" not in rules
    opened = render_namespace_rules("10.0.0.53", OPEN)
    assert "ip daddr != {" in opened
    assert "chain allowed {\n    accept\n  }" in opened


def test_no_egress_is_nothing_but_a_refusal() -> None:
    rules = render_namespace_rules(None, NO_EGRESS)
    chain = rules[rules.index("chain egress {") :].partition("}\n  chain")[0]
    assert "accept" not in chain
    assert "jump" not in chain


def test_the_hosts_rules_let_only_the_named_users_in() -> None:
    rules = render_host_rules(2, CIDR, (0, 1000))
    assert "table inet emberbox_2" in rules
    assert 'oifname "eb2-*" meta skuid != { 0, 1000 } ct state new reject with tcp reset' in rules
    assert "ip saddr 10.213.8.0-10.213.11.255" in rules


@pytest.mark.parametrize(
    "rules",
    [
        render_namespace_rules("192.0.2.53"),
        render_namespace_rules(None, relayed=[5173, 8082]),
        render_namespace_rules(None, NO_EGRESS),
        render_namespace_rules("10.0.0.53", OPEN),
        render_namespace_rules(
            None,
            replace(WEB, rules=(*(WEB.rules or ()), *(EgressRule("0.0.0.0/0", p) for p in ("udp", "icmp", "all")))),
        ),
        render_host_rules(63, CIDR, (0,)),
    ],
)
def test_nftables_accepts_the_rules(tmp_path: Path, rules: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("nftables answers root alone")
    (tmp_path / "rules").write_text(rules)
    done = subprocess.run(["nft", "--check", "--file", tmp_path / "rules"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


async def test_a_kernel_that_lacks_a_rule_is_told_before_networks_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has such networks")
    assert await find_obstacle() is None
    monkeypatch.setattr(network_rules, "FLOWS_MAX", "no-number")
    obstacle = await find_obstacle()
    assert obstacle is not None
    assert "no-number" in obstacle
