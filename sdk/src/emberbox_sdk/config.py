"""Where the server is and who asks: from arguments, or from the environment that `emberbox env` prints."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from emberbox_sdk.errors import ConfigurationError

ENV_HINT: Final = 'run `eval "$(emberbox env)"`, or give it as an argument of Config'


@dataclass(frozen=True, slots=True)
class Config:
    """How a server is reached.

    Attributes:
        api_url: of the API.
        access_key_id: who asks.
        secret_access_key: what requests are signed with.
        session_token: of temporary credentials.
        region: the region that the server plays.
        s3_url: where images are uploaded to; only builds need it.
        gateway: host:port that endpoints are reached at; without it each endpoint's own name is looked up.
        ca_bundle: the authority that signs endpoints' certificates; without it the system's.
        account_id: whose build role builds have.
        timeout_s: how long one request may take to be answered.
        wake_timeout_s: the same of a request to a sandbox, which may have to be resumed first.
        retries: how often a request that may be repeated is tried again.
    """

    api_url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    region: str = "us-east-1"
    s3_url: str = ""
    gateway: str = ""
    ca_bundle: Path | None = None
    account_id: str = "000000000000"
    timeout_s: float = 60.0
    wake_timeout_s: float = 150.0
    retries: int = 4

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Config:
        """Read what `emberbox env` prints.

        Args:
            environment: in place of this process's own.

        Raises:
            ConfigurationError: something is missing; the text names the variable.
        """
        found = os.environ if environment is None else environment
        config = cls(
            api_url=_need(found, "AWS_ENDPOINT_URL_LAMBDA_MICROVMS"),
            access_key_id=_need(found, "AWS_ACCESS_KEY_ID"),
            secret_access_key=_need(found, "AWS_SECRET_ACCESS_KEY"),
            session_token=found.get("AWS_SESSION_TOKEN", ""),
            region=found.get("AWS_REGION") or found.get("AWS_DEFAULT_REGION") or "us-east-1",
            s3_url=found.get("AWS_ENDPOINT_URL_S3", ""),
            gateway=found.get("EMBERBOX_GATEWAY", ""),
            ca_bundle=Path(found["EMBERBOX_CA_BUNDLE"]) if found.get("EMBERBOX_CA_BUNDLE") else None,
        )
        account = found.get("EMBERBOX_ACCOUNT_ID")
        return replace(config, account_id=account) if account else config

    def tls(self) -> ssl.SSLContext:
        """Return what certificates of endpoints are checked with.

        Raises:
            ConfigurationError: the authority's file cannot be read.
        """
        try:
            return ssl.create_default_context(cafile=self.ca_bundle)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"the authority {self.ca_bundle} cannot be read: {error}", ENV_HINT) from error


def _need(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise ConfigurationError(f"{name} is not set", ENV_HINT)
    return value
