"""User ids for VMM processes: each microVM's VMM runs as a user that owns nothing else."""

from __future__ import annotations

import secrets

from emberbox.model.errors import HostError

USERS = 32768


class UserPool:
    """Hands out user ids that no other VMM of this server has.

    They are drawn at random from the range, so that two servers on one machine do not meet.

    Args:
        base: the first id of the range.
    """

    def __init__(self, base: int) -> None:
        self._base = base
        self._taken: set[int] = set()

    def take(self) -> int:
        """Return an id.

        Raises:
            HostError: all are taken.
        """
        if len(self._taken) >= USERS:
            raise HostError(f"{USERS} VMM processes run already")
        while (uid := self._base + secrets.randbelow(USERS)) in self._taken:
            pass
        self._taken.add(uid)
        return uid

    def adopt(self, uid: int) -> None:
        """Mark an id as taken: a VMM that an earlier server started runs as it."""
        self._taken.add(uid)

    def give_back(self, uid: int) -> None:
        """Make an id free again."""
        self._taken.discard(uid)
