"""Contexts: interpreters with names.

What is known of one is in the guest, beside its socket: so forks have it, and a server that is started again knows it.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Final

from emberbox.edges.sandboxes.errors import ApiError
from emberbox.edges.sandboxes.scripts import run_script
from emberbox.edges.sandboxes.visit import Visit

DEFAULT: Final = "e2b-default"
CONTEXTS_MAX: Final = 200
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,39}")
_LANGUAGE: Final = re.compile(r"[a-z]{1,20}")

_DIRECTORY: Final = 'd=$(printf "$1" "$(id -u)"); mkdir -p -m 700 "$d" && [ -O "$d" ] || exit 3\n'
_CREATE: Final = _DIRECTORY + (
    'cd "${3:-${HOME:-/}}" 2>/dev/null || { test -z "$3" && cd /; } || exit 4\n'
    'printf "%s\\n%s\\n" "$4" "$(pwd)" >"$d/$2.context" && pwd\n'
)
_LIST: Final = _DIRECTORY + (
    'for f in "$d"/*.context; do [ -f "$f" ] || continue; n=${f##*/}\n'
    'echo "${n%.context}"; head -c 4096 "$f" | head -n 2; done; echo; echo "${HOME:-/}"\n'
)
_REMOVE: Final = (
    _DIRECTORY + '[ -f "$d/$2.context" ] || [ "$2" = "$3" ] || exit 5; rm -f "$d/$2.context"; [ -S "$d/$2" ]\n'
)
_FOREIGN, _NO_DIRECTORY, _ABSENT = 3, 4, 5


@dataclass(frozen=True, slots=True)
class Context:
    """A context.

    Args:
        id: names it.
        language: of its code.
        cwd: where it starts; empty is the user's home.
    """

    id: str
    language: str
    cwd: str

    def shown(self) -> dict[str, str]:
        """Return it as E2B's API has it."""
        return {"id": self.id, "language": self.language, "cwd": self.cwd}


class Contexts:
    """Finds, makes and removes contexts.

    Args:
        directory: in guests; a `%d` in it is the user's number.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    async def create(self, visit: Visit, language: str, cwd: str) -> Context:
        """Make one; its interpreter starts with its first code.

        Raises:
            ApiError: there is no such directory.
        """
        name = str(uuid.uuid4())
        done = await run_script(visit, _CREATE, self._directory, name, cwd, language)
        if done.exit_code == _NO_DIRECTORY:
            raise ApiError(400, f"cwd: there is no directory {cwd}")
        _check(done.exit_code, done.errors)
        return Context(name, language, done.output.decode(errors="replace").rstrip("\n"))

    async def list_all(self, visit: Visit) -> list[Context]:
        """Return all, the one that code has without naming any first."""
        done = await run_script(visit, _LIST, self._directory)
        _check(done.exit_code, done.errors)
        *lines, _, home = done.output.decode(errors="replace").removesuffix("\n").split("\n")
        found = [Context(DEFAULT, "python", home)]
        for name, language, cwd in zip(lines[::3], lines[1::3], lines[2::3], strict=False):
            if _ID.fullmatch(name) and _LANGUAGE.fullmatch(language) and len(found) < CONTEXTS_MAX:
                found.append(Context(name, language, cwd))
        return found

    async def find(self, visit: Visit, name: str) -> Context:
        """Return one.

        Raises:
            ApiError: there is none.
        """
        for context in await self.list_all(visit):
            if context.id == name:
                return context
        raise _no_such(name)

    async def remove(self, visit: Visit, name: str) -> bool:
        """Forget one; say whether its interpreter has to be ended.

        Raises:
            ApiError: there is none.
        """
        if not _ID.fullmatch(name):
            raise _no_such(name)
        done = await run_script(visit, _REMOVE, self._directory, name, DEFAULT)
        if done.exit_code == _ABSENT:
            raise _no_such(name)
        return done.exit_code == 0


def _no_such(name: str) -> ApiError:
    return ApiError(404, f"Context {name} not found")


def _check(exit_code: int, errors: str) -> None:
    if exit_code == _FOREIGN:
        raise ApiError(500, "the directory of interpreters cannot be used: it belongs to another user of the sandbox")
    if exit_code:
        raise ApiError(500, f"contexts cannot be kept in the sandbox: {errors or exit_code}")
