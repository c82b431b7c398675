"""What builders say when a Dockerfile's build fails, and what its author is told to do.

Sandboxes use it too, so it needs the standard library alone.
"""

from __future__ import annotations

import re
from typing import Final

_NO_SECRETS: Final = re.compile(r"secret \S+: not found|unset ssh forward key|(?:secret|ssh) required but no")
_NEWER: Final = re.compile(r'only supports the --|Unknown instruction|in substitution: |stat: "/<<')


def explain_failure(tail: str, *, in_sandbox: bool) -> str:
    """Return what is to be told of a build that failed in a step of its Dockerfile.

    Args:
        tail: the last lines of what the builder has said.
        in_sandbox: it was BuildKit in a sandbox; else the host's buildah, which knows less.
    """
    detail = "the Dockerfile's build failed; the lines above say where"
    if _NO_SECRETS.search(tail):
        return f"{detail}; builds have no secrets and no SSH keys, as on AWS: leave out required=true, or the mount"
    if _NEWER.search(tail) and not in_sandbox:
        return f"{detail}; the host's buildah does not know all of today's Dockerfiles: sandboxes do (docs/builds.md)"
    return detail
