"""An OCI runtime for the steps of builds: runc, after the container was made to trust authorities.

    python3 step_runtime.py AUTHORITIES RUNC ARGUMENTS...

It is run as a file, by the host's builder and in sandboxes, so it imports the standard library alone. It adds a mount
and variables to the bundle's config.json (OCI runtime specification). The mount lies in the container's own /dev, which
is memory: the file that runc makes for it is in no layer.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

IN_STEP = "/dev/emberbox-authorities.pem"
VARIABLES = (
    "SSL_CERT_FILE",  # OpenSSL: Python's ssl, Ruby, PHP; Go; rustls-native-certs
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",  # Node, npm, yarn
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "DENO_CERT",
)
"""What programs read the file's path from. Each of them takes the file in place of what it would trust otherwise, or
besides, so it has the system's authorities too."""


def main(arguments: Sequence[str]) -> None:
    """Change the bundle and become runc."""
    authorities, runc, *given = arguments
    extend(find_bundle(given) / "config.json", authorities)
    os.execv(runc, [runc, *given])  # noqa: S606 - it replaces this process


def find_bundle(arguments: Sequence[str]) -> Path:
    """Return the directory that `--bundle` names (runc(8)); by default it is the current one."""
    for position, argument in enumerate(arguments):
        if argument in ("--bundle", "-b"):
            return Path(arguments[position + 1])
        if argument.startswith("--bundle="):
            return Path(argument.partition("=")[2])
    return Path()


def extend(config: Path, authorities: str) -> None:
    """Add the mount and the variables; a variable that the Dockerfile has set stays as it is."""
    told = json.loads(config.read_text())
    environment = told["process"].setdefault("env", [])
    present = {entry.partition("=")[0] for entry in environment}
    environment += [f"{name}={IN_STEP}" for name in VARIABLES if name not in present]
    mount = {"destination": IN_STEP, "type": "bind", "source": authorities, "options": ["rbind", "ro"]}
    told["mounts"] = [*told.get("mounts", []), mount]
    config.write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
