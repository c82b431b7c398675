"""EC2's descriptions of networks: the subnets and security groups that the operator defined in networks.toml.

They lie in one VPC, the default one, as clients look for subnets in a VPC. Nothing of EC2 is made or changed here.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from emberbox.control.connectors.networks import FILE_NAME, Networks, Subnet
from emberbox.control.requests.paging import PageRequest, PageTokens, cut_page
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.edges.aws.operations.offered import offer
from emberbox.model.caller import Caller
from emberbox.model.egress import EgressRule
from emberbox.model.errors import ServiceError, ValidationError

_PAGE: Final = ("NextToken", "MaxResults")
_PAGE_DEFAULT: Final = 1000
_ANYWHERE: Final = ipaddress.IPv4Network("0.0.0.0/0")
_RESERVED: Final = 5
"""Addresses of each subnet that AWS keeps for itself ("Subnet CIDR blocks")."""

_VPC_FILTERS: Final = {
    "vpc-id": "VpcId",
    "is-default": "IsDefault",
    "isDefault": "IsDefault",
    "cidr": "CidrBlock",
    "state": "State",
    "owner-id": "OwnerId",
}
_SUBNET_FILTERS: Final = {
    "subnet-id": "SubnetId",
    "vpc-id": "VpcId",
    "cidr-block": "CidrBlock",
    "availability-zone": "AvailabilityZone",
    "availabilityZone": "AvailabilityZone",
    "default-for-az": "DefaultForAz",
    "state": "State",
    "owner-id": "OwnerId",
}
_GROUP_FILTERS: Final = {
    "group-id": "GroupId",
    "group-name": "GroupName",
    "vpc-id": "VpcId",
    "description": "Description",
    "owner-id": "OwnerId",
}
"""The members that filters look at."""


class NotThereError(ServiceError):
    """An id that names nothing; EC2 has a code for each kind.

    Args:
        code: EC2's.
        message: the text for the caller.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # one class for all of EC2's codes


def handlers(networks: Callable[[], Networks], pages: PageTokens, region: str) -> dict[str, Handler]:
    """Return the handler of each operation that is offered, by its name in the service model.

    Args:
        networks: reads networks.toml.
        pages: for the lists.
        region: the region played.
    """

    async def vpcs(caller: Caller, parameters: Parameters) -> Members:
        found = show_vpcs(networks(), caller.account_id)
        found = _of_ids(found, "VpcId", parameters.get("VpcIds"), "InvalidVpcID.NotFound", "vpc ID")
        return _show(pages, "Vpcs", _VPC_FILTERS, found, parameters)

    async def subnets(caller: Caller, parameters: Parameters) -> Members:
        found = show_subnets(networks(), caller.account_id, region)
        found = _of_ids(found, "SubnetId", parameters.get("SubnetIds"), "InvalidSubnetID.NotFound", "subnet ID")
        return _show(pages, "Subnets", _SUBNET_FILTERS, found, parameters)

    async def groups(caller: Caller, parameters: Parameters) -> Members:
        found = show_security_groups(networks(), caller.account_id, region)
        for member, name in (("GroupId", "GroupIds"), ("GroupName", "GroupNames")):
            found = _of_ids(found, member, parameters.get(name), "InvalidGroup.NotFound", "security group")
        return _show(pages, "SecurityGroups", _GROUP_FILTERS, found, parameters)

    return {
        "DescribeVpcs": offer(vpcs, "VpcIds", "Filters", *_PAGE),
        "DescribeSubnets": offer(subnets, "SubnetIds", "Filters", *_PAGE),
        "DescribeSecurityGroups": offer(groups, "GroupIds", "GroupNames", "Filters", *_PAGE),
    }


def vpc_id(account_id: str) -> str:
    """Return the id of an account's VPC."""
    return "vpc-" + hashlib.sha256(account_id.encode()).hexdigest()[:17]


def show_vpcs(networks: Networks, account_id: str) -> list[Members]:
    """Return the VPC as EC2 shows it; none where nothing is defined."""
    if not networks.subnets and not networks.security_groups:
        return []
    return [
        {
            "VpcId": vpc_id(account_id),
            "OwnerId": account_id,
            "IsDefault": True,
            "State": "available",
            "CidrBlock": str(_cover(network for subnet in networks.subnets.values() for network in subnet.networks)),
            "InstanceTenancy": "default",
            "Tags": _name_tag("emberbox"),
        }
    ]


def show_subnets(networks: Networks, account_id: str, region: str) -> list[Members]:
    """Return the subnets as EC2 shows them; one of several networks has the range that covers them."""
    return [_show_subnet(name, subnet, account_id, region) for name, subnet in networks.subnets.items()]


def _show_subnet(name: str, subnet: Subnet, account_id: str, region: str) -> Members:
    addresses = sum(network.num_addresses for network in ipaddress.collapse_addresses(subnet.networks))
    return {
        "SubnetId": name,
        "SubnetArn": f"arn:aws:ec2:{region}:{account_id}:subnet/{name}",
        "VpcId": vpc_id(account_id),
        "OwnerId": account_id,
        "State": "available",
        "CidrBlock": str(_cover(subnet.networks)),
        "AvailableIpAddressCount": min(max(0, addresses - _RESERVED), (1 << 31) - 1),
        "AvailabilityZone": f"{region}a",
        "DefaultForAz": True,
        "MapPublicIpOnLaunch": False,
        "Tags": _name_tag(name.removeprefix("subnet-")),
    }


def show_security_groups(networks: Networks, account_id: str, region: str) -> list[Members]:
    """Return the security groups as EC2 shows them; guests are reached through their endpoints alone."""
    return [
        {
            "GroupId": name,
            "GroupName": name.removeprefix("sg-"),
            "SecurityGroupArn": f"arn:aws:ec2:{region}:{account_id}:security-group/{name}",
            "Description": f"defined in {FILE_NAME} of this server",
            "VpcId": vpc_id(account_id),
            "OwnerId": account_id,
            "IpPermissions": [],
            "IpPermissionsEgress": [_show_rule(rule) for rule in rules],
            "Tags": _name_tag(name.removeprefix("sg-")),
        }
        for name, rules in networks.security_groups.items()
    ]


def _show_rule(rule: EgressRule) -> Members:
    first, last = rule.ports or (None, None)
    if rule.protocol == "icmp":
        first, last = -1, -1
    return {
        "IpProtocol": "-1" if rule.protocol == "all" else rule.protocol,
        "FromPort": first,
        "ToPort": last,
        "IpRanges": [{"CidrIp": rule.cidr}],
        "UserIdGroupPairs": [],
        "Ipv6Ranges": [],
        "PrefixListIds": [],
    }


def _cover(networks: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """Return the smallest range that has all of some networks in it; the whole internet for none."""
    found = list(networks)
    if not found:
        return _ANYWHERE
    cover = found[0]
    while not all(network.subnet_of(cover) for network in found):
        cover = cover.supernet()
    return cover


def _name_tag(name: str) -> list[dict[str, str]]:
    return [{"Key": "Name", "Value": name}]


def _of_ids(found: list[Members], member: str, ids: Sequence[str] | None, code: str, kind: str) -> list[Members]:
    """Return those that are asked for by id; all where none is."""
    if not ids:
        return found
    known = {item[member] for item in found}
    if missing := [name for name in ids if name not in known]:
        raise NotThereError(code, f"The {kind} '{missing[0]}' does not exist; {FILE_NAME} of this server defines them.")
    return [item for item in found if item[member] in ids]


def _show(
    pages: PageTokens, member: str, filters: Mapping[str, str], found: list[Members], parameters: Parameters
) -> Members:
    """Return the page of a filtered list that a request asks for."""
    for asked in parameters.get("Filters", ()):
        found = [item for item in found if _passes(item, asked, filters)]
    page = cut_page(
        pages,
        f"ec2:{member}",
        found,
        PageRequest(parameters.get("MaxResults", _PAGE_DEFAULT), parameters.get("NextToken")),
    )
    return {member: list(page.items), "NextToken": page.next_token}


def _passes(item: Members, asked: Parameters, filters: Mapping[str, str]) -> bool:
    """Say whether an item has one of a filter's values, in which `*` and `?` stand for others."""
    name = asked.get("Name", "")
    if name.startswith("tag:"):
        values = [tag["Value"] for tag in item["Tags"] if tag["Key"] == name[4:]]
    elif name == "tag-key":
        values = [tag["Key"] for tag in item["Tags"]]
    elif name in filters:
        values = [_filter_text(item[filters[name]])]
    else:
        raise ValidationError(f"The filter '{name}' is not offered by Emberbox; docs/services.md lists what is.")
    return any(fnmatchcase(value, pattern) for value in values for pattern in asked.get("Values", ()))


def _filter_text(value: Any) -> str:
    """Return a member as filters name it. Any: a member has whatever type its shape has."""
    return str(value).lower() if isinstance(value, bool) else str(value)
