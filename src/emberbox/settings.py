"""Every setting: one table feeds the environment variables, the file, the checks and `emberbox settings`.

Only this module reads the environment. `load` makes one frozen object; the composition root passes it down.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from emberbox.model.engines import ENGINE_NAMES
from emberbox.model.errors import HostError

PREFIX = "EMBERBOX_"
FILE_NAME = "settings.toml"

_GIB = 1 << 30
_FIRST_USER_ID, _LAST_USER_ID = 1000, (1 << 31) - 32768
_RESOLV_CONF = Path("/etc/resolv.conf")
_DEFAULT_NETWORK = ipaddress.IPv4Network("10.213.0.0/16")


def default_home() -> Path:
    """Return where state lives when EMBERBOX_HOME does not say: /var/lib/emberbox for root."""
    if os.geteuid() == 0:
        return Path("/var/lib/emberbox")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    return Path(base) / "emberbox"


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError("a port is 0 (any free one) to 65535")
    return port


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("it must be at least 1")
    return number


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError("it must not be negative")
    return number


def _user_id(text: str) -> int:
    number = int(text)
    if not _FIRST_USER_ID <= number <= _LAST_USER_ID:
        raise ValueError(f"it must be {_FIRST_USER_ID} to {_LAST_USER_ID}")
    return number


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("it is true or false")
    return text.lower() == "true"


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"it is one of {', '.join(allowed)}")
        return text

    return parse


def _matching(pattern: str, form: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"it must be {form}")
        return text

    return parse


def _network(text: str) -> ipaddress.IPv4Network:
    network = ipaddress.IPv4Network(text)
    if network.prefixlen > 16:
        raise ValueError("it must be a /16 or larger")
    return network


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^/?#\s]+/?", text):
        raise ValueError("it must be https:// or http:// with a host, and a port where it needs one")
    return text.rstrip("/")


_REGISTRY = re.compile(r"(?:https?://)?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?")


def _registries(text: str) -> str:
    if not all(_REGISTRY.fullmatch(part) for part in text.split(",")):
        raise ValueError("it is host:port, or several with commas between; for plain HTTP with http:// before it")
    return text


def _row(default: Any, parse: Callable[[str], Any], help_text: str) -> Any:  # makes a dataclass field
    return field(default=default, metadata={"parse": parse, "help": help_text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings; the environment variable of `api_port` is EMBERBOX_API_PORT, and so on."""

    home: Path = field(metadata={"parse": Path, "help": "the one directory that holds all state"})
    region: str = _row("us-east-1", _matching(r"[a-z]{2}(-[a-z]+)+-\d", "a region name"), "the region it plays")
    account_id: str = _row("000000000000", _matching(r"\d{12}", "12 digits"), "the account of the first key")
    domain: str = _row("localhost", _matching(r"[a-z0-9.-]{1,200}", "a domain name"), "microVM endpoints end in it")
    api_host: str = _row("127.0.0.1", str, "the address that the API listens on")
    api_port: int = _row(9070, _port, "the API's port; 0 takes a free one")
    console: str = _row("on", _one_of("off", "on"), "whether the console is served (docs/console.md)")
    console_port: int = _row(9073, _port, "its port, at api_host; 0 takes a free one")
    console_url: str = _row("", _url, "where browsers find it, behind a proxy that has TLS (docs/console.md)")
    e2b: str = _row("off", _one_of("off", "on"), "whether E2B's API is served too (docs/e2b.md)")
    e2b_port: int = _row(9072, _port, "its port, at api_host; 0 takes a free one")
    e2b_domain: str = _row("", str, "what names of its sandboxes end with (docs/e2b.md)")
    e2b_template: str = _row("", str, "the image that stands for E2B's templates `base` and `code-interpreter-v1`")
    daytona: str = _row("off", _one_of("off", "on"), "whether Daytona's API is served too (docs/daytona.md)")
    daytona_port: int = _row(9074, _port, "its port, at api_host; 0 takes a free one")
    daytona_domain: str = _row("", str, "what host names of its sandboxes' ports end with (docs/daytona.md)")
    daytona_snapshot: str = _row("", str, "the image of sandboxes where Daytona's clients name no snapshot")
    gateway_host: str = _row("127.0.0.1", str, "the address that the gateway listens on")
    gateway_port: int = _row(9443, _port, "the gateway's HTTPS port; 0 takes a free one")
    https_port: int = _row(443, _port, "a second port of it, where it is free and allowed; 0: none (docs/gateway.md)")
    connections_per_vcpu: int = _row(8, _not_negative, "client connections to a microVM for each vCPU; 0: no limit")
    requests_per_vcpu: int = _row(0, _not_negative, "requests a second for each vCPU (AWS: 10); 0: no limit")
    tls_certificate: str = _row("", str, "a certificate (PEM) for endpoints, instead of the local authority's")
    tls_key: str = _row("", str, "the key (PEM) of tls_certificate")
    tls_authority: str = _row("", str, "what clients check tls_certificate with; by default the system's store")
    token_key_age_s: int = _row(86400, _positive, "seconds after which new tokens are encrypted with a new key")
    s3_port: int = _row(9071, _port, "the embedded S3 server's port; 0 takes a free one")
    s3_endpoint_url: str = _row("", str, "an S3 endpoint to use instead of the embedded one")
    database_url: str = _row("", str, "a SQLAlchemy URL instead of the SQLite file in the home")
    network: str = _row("auto", _one_of("auto", "tap", "user"), "how microVMs are connected (docs/network.md)")
    network_cidr: ipaddress.IPv4Network = _row(  # noqa: RUF009 - it returns a dataclass field
        _DEFAULT_NETWORK, _network, "addresses for the host's side of microVM networks"
    )
    resolv_conf: Path = _row(  # noqa: RUF009 - it returns a dataclass field
        _RESOLV_CONF, Path, "the file that names the name servers of builds and microVMs (docs/network.md)"
    )
    engine: str = _row(
        "auto", _one_of("auto", *ENGINE_NAMES), "what runs microVMs; auto takes what isolates here (docs/engines.md)"
    )
    runsc: str = _row("", str, "gVisor's program runsc; by default it is fetched into the home when it is needed")
    accelerator: str = _row("auto", _one_of("auto", "kvm", "tcg"), "auto takes KVM where a tiny guest runs on it")
    arm64: str = _row(
        "host",
        _one_of("host", "refuse", "emulate"),
        "images for ARM_64 on an x86 machine: host builds for what it has, emulate runs AArch64 (docs/arm.md)",
    )
    uid_base: int = _row(1_900_000_000, _user_id, "first of 32,768 user ids that VMM processes run as")
    artifact_max_bytes: int = _row(2 * _GIB, _positive, "largest zip of a code artifact")
    artifact_max_unpacked_bytes: int = _row(8 * _GIB, _positive, "largest unpacked code artifact")
    disk_reserve_bytes: int = _row(0, _not_negative, "free bytes of the disk below which nothing new begins; 0: 5 %")
    concurrent_builds: int = _row(2, _positive, "builds that run at the same time; more wait")
    build_timeout_s: int = _row(3600, _positive, "seconds after which a container build is stopped")
    builds: str = _row("auto", _one_of("auto", "sandbox", "host"), "where Dockerfiles are built (docs/builds.md)")
    build_memory_bytes: int = _row(4 * _GIB, _positive, "memory of one build, in a sandbox")
    build_processors: int = _row(4, _positive, "processors whose time one build may use, in a sandbox")
    build_disk_bytes: int = _row(16 * _GIB, _positive, "disk of one build, in a sandbox")
    build_cache_bytes: int = _row(2 * _GIB, _not_negative, "layers kept of an account's builds in sandboxes; 0: none")
    build_ca: str = _row("", str, "authorities (PEM) that builds and guests trust; none; else the machine's added ones")
    stand_ins: str = _row("", str, "a file with what is used in place of images that Dockerfiles name (docs/builds.md)")
    registries: str = _row("", _registries, "registries that are asked from the host's network (docs/builds.md)")
    registry_auth: str = _row("", str, "a file with logins for registries, in the form of Docker's config.json")
    terminated_retention_s: int = _row(86400, _positive, "seconds that a terminated microVM stays in lists")
    warm_pool: int = _row(1, _not_negative, "microVMs kept prepared for each image version launched lately; 0: none")
    log_retention_days: int = _row(30, _positive, "days that log events are kept, where their group does not say")
    log_max_bytes: int = _row(2 * _GIB, _positive, "size of all log events; the oldest go when it is passed")
    event_retention_s: int = _row(604_800, _positive, "seconds that events of microVMs are kept")
    strict_roles: bool = _row(False, _truth, "a role that is not defined is refused (docs/access.md)")
    rate_limits: str = _row("aws", _one_of("aws", "off"), "request rates per account; AWS's values, or none")
    audit_file_bytes: int = _row(64 << 20, _positive, "size of one file of the audit trail")
    audit_files: int = _row(16, _positive, "files of the audit trail that are kept")
    log_level: str = _row("info", _one_of("debug", "info", "warning", "error"), "how much the server says")


def load(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings: arguments, then the environment, then settings.toml in the home, then defaults.

    Args:
        environment: by default that of the process.
        overrides: values that come first, already of the right type.

    Raises:
        HostError: a value is not allowed, or the file names a setting that does not exist.
    """
    environment = os.environ if environment is None else environment
    home = Path(overrides.get("home") or environment.get(f"{PREFIX}HOME") or default_home()).absolute()
    values = _read_file(home) | _read_environment(environment) | overrides | {"home": home}
    return Settings(**values)


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    names = {f"{PREFIX}{row.name.upper()}": row for row in fields(Settings)}
    found = {name: environment[name] for name in names if environment.get(name)}
    return {names[name].name: _parse(name, names[name].metadata["parse"], text) for name, text in found.items()}


def _read_file(home: Path) -> dict[str, Any]:
    path = home / FILE_NAME
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise HostError(f"{path} cannot be read: {error}") from error
    rows = {row.name: row for row in fields(Settings)}
    unknown = sorted(content.keys() - rows.keys())
    if unknown:
        raise HostError(f"{path} names settings that do not exist: {', '.join(unknown)}")
    return {name: _parse(name, rows[name].metadata["parse"], str(value)) for name, value in content.items()}


def _parse(name: str, parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise HostError(f"{name} cannot be {text!r}: {error}") from error
