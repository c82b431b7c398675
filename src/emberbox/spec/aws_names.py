"""The host names of AWS that programs with fixed addresses ask for: those of the services that are played here.

They are read off botocore's rules for endpoints, so nothing here lists them by hand but the older global ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError
from botocore.loaders import Loader

from emberbox.spec.models import AROUND, CORE, LOGS, MICROVMS

FLAG: Final = Path("runtime/aws-names")
"""In a home: while this file is there, the server answers AWS's names at its HTTPS port."""

_GLOBAL: Final = ("sts.amazonaws.com", "ec2.amazonaws.com")  # not in the rules; older SDKs ask for them
_GLOBAL_S3: Final = "s3.amazonaws.com"


@dataclass(frozen=True, slots=True)
class AwsNames:
    """Host names in a region.

    Args:
        api: of the services that the API plays.
        s3: of S3; those of buckets are one label below each of them.
    """

    api: tuple[str, ...]
    s3: tuple[str, ...]

    @property
    def patterns(self) -> tuple[str, ...]:
        """All of them, as a certificate has them: buckets' with a wildcard."""
        return (*self.api, *self.s3, *self.buckets)

    @property
    def buckets(self) -> tuple[str, ...]:
        """The names of buckets, with a wildcard."""
        return tuple(f"*.{name}" for name in self.s3)


def aws_names(region: str) -> AwsNames:
    """Return the names in a region.

    Args:
        region: the one that is played.
    """
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    partitions = loader.load_data("partitions")
    found = [
        name for service in (MICROVMS, CORE, LOGS, *AROUND) for name in _names(loader, partitions, service, region)
    ]
    s3 = [*_names(loader, partitions, "s3", region), f"s3.{region}.amazonaws.com", _GLOBAL_S3]
    return AwsNames(tuple(dict.fromkeys([*found, *_GLOBAL])), tuple(dict.fromkeys(s3)))


def _names(loader: Loader, partitions: dict[str, Any], service: str, region: str) -> list[str]:
    """Return a service's names; Any: the rules are JSON that botocore alone reads."""
    provider = EndpointProvider(loader.load_service_model(service, "endpoint-rule-set-1"), partitions)
    names = []
    for dual_stack in (False, True):
        try:
            url = provider.resolve_endpoint(Region=region, UseDualStack=dual_stack, UseFIPS=False).url
        except EndpointProviderError:  # it has none of this kind there
            continue
        names.append(str(urlsplit(url).hostname))
    return names
