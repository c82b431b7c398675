"""The policy of networks as nftables has it; nothing here touches the machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from emberbox.host.network.slots import (
    DNS_ADDRESS,
    GATEWAY_ADDRESS,
    GUEST_ADDRESS,
    METADATA_ADDRESS,
    METADATA_PORT,
    SLOTS_PER_INSTANCE,
    DeviceKind,
    plan_slot,
)
from emberbox.model.egress import EgressPolicy, EgressRule

QUERIES_PER_S = 500
FLOWS_PER_S, FLOWS_MAX = 500, 16_384
"""What one guest may have of the host's connection tracking, which all share; to count flows takes time for each."""

REFUSED_NETWORKS = (
    "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, "
    "192.0.0.0/24, 192.0.2.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/4, 240.0.0.0/4"
)

NEVER_ALLOWED = "0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/4, 240.0.0.0/4"
_REFUSE = "reject with icmp type admin-prohibited"
_NAMES = f"ip daddr {DNS_ADDRESS} meta l4proto {{ tcp, udp }} th dport 53"


def render_namespace_rules(
    direct: str | None, policy: EgressPolicy | None = None, relayed: Collection[int] = (),
    kind: DeviceKind = DeviceKind.TAP,
) -> str:  # fmt: skip
    """Return the nftables rules inside a slot's namespace.

    Args:
        direct: the host's name server, if packets reach it; else this process answers at 10.0.2.3.
        policy: where the guest's packets may go; None lets them to public addresses.
        relayed: ports of the guest that this process listens for, at the slot's address.
        kind: which of the guest's addresses clients' packets are for.

    Only the packets of connections that the guest began are held against the policy, each of them, so that another
    policy counts at once and what comes in through the gateway is not touched.
    """
    return f"""
table ip emberbox {{
  map host_names {{
    type inet_service : ipv4_addr
    {f"elements = {{ 53 : {direct} }}" if direct else ""}
  }}
  set relayed {{
    type inet_service
    {f"elements = {{ {', '.join(map(str, relayed))} }}" if relayed else ""}
  }}{_render_translation(policy, kind)}{_render_filters(policy)}
}}
"""


def _render_translation(policy: EgressPolicy | None, kind: DeviceKind) -> str:
    """Return the chains that lead packets elsewhere."""
    server = policy.resolver if policy else None
    names = f"{_NAMES} dnat to {server or 'th dport map @host_names'}" if has_names(policy) else ""
    return f"""
  chain flood {{
    type filter hook prerouting priority raw
    iifname "tap0" {_NAMES} limit rate over {QUERIES_PER_S}/second burst {2 * QUERIES_PER_S} packets drop
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat
    iifname "up0" tcp dport @relayed accept
    iifname "up0" meta l4proto {{ tcp, udp }} dnat to {kind.value}
    iifname "tap0" jump names
  }}
  chain local {{
    type nat hook output priority -100
    jump names
  }}
  chain names {{
    {names}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat
    oifname "up0" masquerade
  }}"""


def _render_filters(policy: EgressPolicy | None) -> str:
    """Return the chains that let packets pass or refuse them."""
    names = f"ct original ip daddr {DNS_ADDRESS} ct status dnat accept" if has_names(policy) else ""
    answers_here = has_names(policy) and not (policy and policy.resolver)
    return f"""
  chain allowed {{
    {_render_allowed(policy)}
  }}
  chain egress {{
    {names}
    {_render_egress(policy)}
  }}
  chain input {{
    type filter hook input priority filter; policy drop
    iifname {{ "up0", "lo" }} ct state established,related accept
    iifname "up0" tcp dport @relayed accept
    {f"{_NAMES} accept" if answers_here else ""}
    ip daddr {DNS_ADDRESS} meta l4proto tcp reject with tcp reset
    ip daddr {DNS_ADDRESS} reject
    iifname "lo" accept
    iifname "tap0" ip daddr {METADATA_ADDRESS} tcp dport {METADATA_PORT} accept
    iifname "tap0" ip daddr {GATEWAY_ADDRESS} icmp type echo-request accept
  }}
  chain output {{
    type filter hook output priority filter
    oifname "tap0" ip protocol icmp accept
    ct direction reply accept
    oifname "lo" accept
    jump egress
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop
    iifname "up0" ct state established,related accept
    iifname "up0" oifname "tap0" ct status dnat accept
    iifname "tap0" ct direction reply accept
    iifname "tap0" ip saddr != {GUEST_ADDRESS} drop
    iifname "tap0" ct state new limit rate over {FLOWS_PER_S}/second burst {2 * FLOWS_PER_S} packets drop
    iifname "tap0" ct state new ct count over {FLOWS_MAX} {_REFUSE}
    iifname "tap0" oifname "up0" jump egress
  }}"""


def has_names(policy: EgressPolicy | None) -> bool:
    """Say whether the guests and builds with a policy have a name server."""
    return policy is None or policy.resolver is not None or policy.internet


def _render_egress(policy: EgressPolicy | None) -> str:
    """Return the rules for packets that go out, after the one for the name server."""
    if policy is None:
        return f"ip daddr {{ {REFUSED_NETWORKS} }} {_REFUSE}\n    accept"
    lines = [f"ip daddr {{ {NEVER_ALLOWED} }} {_REFUSE}"]
    if policy.networks:
        lines.append(f"ip daddr {{ {', '.join(policy.networks)} }} jump allowed")
    if policy.internet:
        lines.append(f"ip daddr != {{ {REFUSED_NETWORKS} }} jump allowed")
    return "\n    ".join([*lines, _REFUSE])


def _render_allowed(policy: EgressPolicy | None) -> str:
    """Return the rules for destinations in a policy's networks."""
    if policy is None or policy.rules is None:
        return "accept"
    return "\n    ".join(map(_render_rule, policy.rules))


def _render_rule(rule: EgressRule) -> str:
    match rule.protocol, rule.ports:
        case "all", _:
            return f"ip daddr {rule.cidr} accept"
        case protocol, None:
            return f"ip daddr {rule.cidr} ip protocol {protocol} accept"
        case protocol, (first, last):
            return f"ip daddr {rule.cidr} {protocol} dport {first}-{last} accept"
    raise AssertionError(rule)


def render_host_rules(instance: int, network: ipaddress.IPv4Network, users: tuple[int, ...]) -> str:
    """Return the nftables rules on the host for all slots of an instance."""
    first = plan_slot(network, instance, 0).host_address
    last = plan_slot(network, instance, SLOTS_PER_INSTANCE - 1).address
    return f"""
table inet {table_name(instance)} {{
  chain input {{
    type filter hook input priority filter - 5
    iifname "eb{instance}-*" ct state established,related accept
    iifname "eb{instance}-*" drop
  }}
  chain output {{
    type filter hook output priority filter - 5
    oifname "eb{instance}-*" meta skuid != {{ {", ".join(map(str, users))} }} ct state new reject with tcp reset
  }}
  chain forward {{
    type filter hook forward priority filter - 5
    oifname "eb{instance}-*" ct state new drop
    iifname "eb{instance}-*" oifname "eb*" drop
    iifname "eb{instance}-*" fib daddr type local drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat
    ip saddr {first}-{last} oifname != "eb*" masquerade
  }}
}}
"""


def table_name(instance: int) -> str:
    """Return the name of an instance's table on the host."""
    return f"emberbox_{instance}"
