"""A user namespace of one's own: how an ordinary user makes the other namespaces that a sandbox needs.

In it the user is root, over what is made in it and over nothing else (user_namespaces(7)). Only the user's own id is
mapped, so neither setuid programs nor ranges of subordinate ids (subuid(5)) are needed.
"""

from __future__ import annotations

import os
import resource
from typing import Final

OBSTACLE: Final = (
    "an ordinary user needs user namespaces: see that user.max_user_namespaces is not 0, where they exist that "
    "kernel.unprivileged_userns_clone (Debian) is 1 and kernel.apparmor_restrict_unprivileged_userns (Ubuntu) is 0, "
    "and in a container that /proc is not masked (systempaths=unconfined)"
)
"""What to look at where a process that was started by `enter_line` fails."""


def enter_line(processes_max: int) -> list[str]:
    """Return what begins the command line of a program that needs root's rights over namespaces of its own.

    The program is executed by the same process. For root it is nothing: who is root has the rights.

    Args:
        processes_max: how many processes and threads the namespace may have. The kernel counts them for each user in
            each user namespace (since Linux 5.14), so it holds without a cgroup, and holds nobody outside. Where the
            caller's own limit is lower, that counts.
    """
    if os.geteuid() == 0:
        return []
    _, own = resource.getrlimit(resource.RLIMIT_NPROC)
    most = processes_max if own == resource.RLIM_INFINITY else min(own, processes_max)
    return ["unshare", "--user", "--map-root-user", "--", "prlimit", f"--nproc={most}", "--"]
