"""The networks that connectors name: subnets and security groups, as the operator defines them in networks.toml.

    [subnet-office]                      # what guests may reach through it
    cidrs = ["192.168.10.0/24"]
    dns = "192.168.10.53"                # their name server; without one they have none
    internet = false                     # true adds every public address, and the host's name server

    [sg-web]                             # what of that a security group leaves: protocol, network, ports
    allow = ["tcp 192.168.10.0/24 443", "tcp 192.168.10.7/32 8000-8999", "icmp 0.0.0.0/0", "all 192.168.10.9/32"]

The file is read whenever a connector is made, changed or used, so a change needs no restart. Guests have IPv4 only.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emberbox.model.connectors import VpcEgress
from emberbox.model.egress import EgressPolicy, EgressRule
from emberbox.model.errors import HostError

FILE_NAME: Final = "networks.toml"
_ID = re.compile(r"subnet-[0-9a-z]+|sg-[0-9a-zA-Z]+")
_RULE: Final = "a rule is a protocol (tcp, udp, icmp, all), a network, and for tcp and udp a port or a range of ports"
_PORT_MAX: Final = 65535

_Table = Mapping[str, Any]
"""A table of the file. Any: what TOML has; it is checked here, and nothing else sees it."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """What guests may reach through a subnet."""

    networks: tuple[ipaddress.IPv4Network, ...]
    dns: str | None
    internet: bool


@dataclass(frozen=True, slots=True)
class Networks:
    """All that the operator has defined."""

    subnets: Mapping[str, Subnet]
    security_groups: Mapping[str, tuple[EgressRule, ...]]

    def find_problem(self, configuration: VpcEgress) -> tuple[str, str] | None:
        """Return code and sentence of what is undefined in a connector's configuration, None where all is well."""
        for code, names, known in (
            ("InvalidSubnet", configuration.subnet_ids, self.subnets),
            ("InvalidSecurityGroup", configuration.security_group_ids, self.security_groups),
        ):
            for name in names or ():
                if name not in known:
                    return code, f"{name} is not defined in {FILE_NAME} of this server"
        return None

    def policy(self, configuration: VpcEgress) -> EgressPolicy:
        """Return what a connector's configuration allows: its subnets, as far as its security groups allow it.

        Raises:
            HostError: it names what is not defined any more.
        """
        problem = self.find_problem(configuration)
        if problem is not None:
            raise HostError(f"the network connector cannot be used: {problem[1]}")
        subnets = [self.subnets[name] for name in configuration.subnet_ids or ()]
        groups = [self.security_groups[name] for name in configuration.security_group_ids or ()]
        merged = ipaddress.collapse_addresses(network for subnet in subnets for network in subnet.networks)
        return EgressPolicy(
            networks=tuple(map(str, merged)),
            internet=any(subnet.internet for subnet in subnets),
            rules=tuple(rule for group in groups for rule in group) if groups else None,
            resolver=next((subnet.dns for subnet in subnets if subnet.dns), None),
        )


def load_networks(home: Path) -> Networks:
    """Read networks.toml; without the file nothing is defined.

    Raises:
        HostError: the file cannot be read, or something in it has no meaning; the text names the place.
    """
    path = home / FILE_NAME
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError:
        content = {}
    except (OSError, ValueError) as error:
        raise HostError(f"{path} cannot be read: {error}") from error
    subnets, groups = {}, {}
    for name, table in content.items():
        try:
            if not _ID.fullmatch(name) or not isinstance(table, dict):
                raise ValueError("a table is named subnet-<small letters and digits> or sg-<letters and digits>")
            if name.startswith("subnet-"):
                subnets[name] = _read_subnet(table)
            else:
                groups[name] = _read_security_group(table)
        except (ValueError, TypeError) as error:
            raise HostError(f"{path}, [{name}]: {error}") from error
    return Networks(subnets, groups)


def _read_subnet(table: _Table) -> Subnet:
    _refuse_unknown(table, ("cidrs", "dns", "internet"))
    dns, internet = table.get("dns"), table.get("internet", False)
    if not isinstance(internet, bool):
        raise ValueError("internet is true or false")
    return Subnet(
        networks=tuple(ipaddress.IPv4Network(cidr) for cidr in _strings(table, "cidrs")),
        dns=None if dns is None else str(ipaddress.IPv4Address(dns)),
        internet=internet,
    )


def _read_security_group(table: _Table) -> tuple[EgressRule, ...]:
    _refuse_unknown(table, ("allow",))
    return tuple(map(_read_rule, _strings(table, "allow")))


def _read_rule(text: str) -> EgressRule:
    match text.split():
        case [("tcp" | "udp") as protocol, cidr, ports]:
            return EgressRule(str(ipaddress.IPv4Network(cidr)), protocol, _read_ports(ports))
        case [("tcp" | "udp" | "icmp" | "all") as protocol, cidr]:
            return EgressRule(str(ipaddress.IPv4Network(cidr)), protocol)
    raise ValueError(f"{text!r} has no meaning: {_RULE}")


def _read_ports(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= _PORT_MAX:
        raise ValueError(f"{text!r} is no port and no range of ports from 1 to {_PORT_MAX}")
    return first, last


def _strings(table: _Table, key: str) -> Sequence[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{key} is a list of strings")
    return value


def _refuse_unknown(table: _Table, known: Sequence[str]) -> None:
    if unknown := sorted(table.keys() - set(known)):
        raise ValueError(f"unknown: {', '.join(unknown)}; known here: {', '.join(known)}")
