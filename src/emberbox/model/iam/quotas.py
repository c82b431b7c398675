"""The quotas of an account, with AWS's published values to start from (dossier, section 11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MEMORY: Final = "ConcurrentMemoryInMiB"
IMAGES: Final = "Images"
VERSIONS: Final = "VersionsPerImage"
BUILDS: Final = "ConcurrentBuilds"
CONNECTORS: Final = "NetworkConnectors"
RATE_SUFFIX: Final = "Rate"
"""The quota of an operation's requests per second is its name with this."""

_GIB: Final = 1024
_LARGE_REGIONS: Final = frozenset({"us-east-1", "us-east-2", "us-west-2", "ap-northeast-1"})


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota.

    Attributes:
        code: its name here.
        aws_code: its code in AWS's Service Quotas.
        default: its value where none was put.
        unit: what is counted.
        description: for people.
        refusal: the text of the error; `{limit}` stands for the value.
    """

    code: str
    aws_code: str
    default: int
    unit: str
    description: str
    refusal: str = "Rate exceeded"


@dataclass(frozen=True, slots=True)
class QuotaValue:
    """What a quota is for one account.

    Attributes:
        code: the quota's name here.
        account_id: the account.
        value: so much is allowed; None without a limit.
        default: what counts where nothing was put; None without a limit.
        aws_code: its code in AWS's Service Quotas; None for a rate that AWS does not publish.
        unit: what is counted.
        description: for people.
    """

    code: str
    account_id: str
    value: int | None
    default: int | None
    aws_code: str | None
    unit: str
    description: str


def default_quotas(region: str) -> Mapping[str, Quota]:
    """Return the quotas with their defaults for a region, by code; four regions have more than the others."""
    large = region in _LARGE_REGIONS
    counted = (
        Quota(
            MEMORY,
            "L-CD1C0CC4",
            (1024 if large else 400) * _GIB,
            "MiB",
            "baseline memory of all microVMs that are not terminated",
            "The base maximum allocated memory limit has been reached for this account.",
        ),
        Quota(
            IMAGES,
            "L-942E56BE",
            100,
            "images",
            "images",
            "The maximum number of MicroVM images ({limit}) has been reached for this account.",
        ),
        Quota(
            VERSIONS,
            "L-F8BECE9C",
            50,
            "versions",
            "versions of one image",
            "The maximum number of versions ({limit}) has been reached for this MicroVM image.",
        ),
        Quota(
            BUILDS,
            "L-72E0D058",
            10 if large else 5,
            "builds",
            "builds that run or wait",
            "The maximum number of concurrent builds ({limit}) has been reached for this account.",
        ),
        Quota(
            CONNECTORS,
            "",
            1000,
            "connectors",
            "network connectors",
            "The maximum number of network connectors ({limit}) has been reached for this account.",
        ),
    )
    rates = (
        Quota(
            f"{operation}{RATE_SUFFIX}",
            aws_code,
            rate,
            "requests/s",
            f"{operation} requests, the same number at once",
        )
        for operation, aws_code, rate in _RATES
    )
    return {quota.code: quota for quota in (*counted, *rates)}


_RATES: Final = (
    ("CreateMicrovmAuthToken", "L-7712260B", 50),
    ("CreateMicrovmShellAuthToken", "L-B78D2ECC", 5),
    ("GetMicrovm", "L-CE98C9E3", 100),
    ("ResumeMicrovm", "L-118C44B3", 5),
    ("RunMicrovm", "L-535CA9B6", 5),
    ("SuspendMicrovm", "L-90045317", 2),
    ("TerminateMicrovm", "L-74787B8A", 10),
)
