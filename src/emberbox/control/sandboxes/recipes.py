"""From a recipe of E2B's template builder to a Dockerfile, and which line of it comes from which step.

Every instruction is one line, so a line's number is the instruction's, which builders name where it fails. Commands are
in the form of JSON, which the shell of the image gets as they are.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from emberbox.model.container_labels import READY_LABEL
from emberbox.model.errors import ValidationError
from emberbox.model.templates import HOME, USER, Recipe, Step, StepKind

BASE_STEP: Final = "base"
FINAL_STEP: Final = "finalize"
"""What E2B's SDKs call what comes before the first step, and after the last."""

FILES: Final = "files"
SCRIPTS: Final = "/opt/emberbox"

_COMMAND_MAX: Final = 50_000
"""Builders take lines of 64 KiB, in which JSON makes characters longer."""
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,31})?")
_MODE: Final = re.compile(r"[0-7]{3,4}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_WILD: Final = re.compile(r"[*?\[{]")

_SHELL: Final = 'if command -v bash >/dev/null 2>&1; then exec bash -c "$0"; fi; exec sh -c "$0"'
_PROVISION: Final = f"""set -e
id {USER} >/dev/null 2>&1 || useradd -m -s "$(command -v bash || echo /bin/sh)" {USER} 2>/dev/null ||
    adduser -D {USER} 2>/dev/null ||
    {{ echo '{USER}:x:1000:1000::{HOME}:/bin/sh' >>/etc/passwd; echo '{USER}:x:1000:' >>/etc/group; }}
mkdir -p {HOME} && chown {USER}: {HOME}
if [ -d /etc/sudoers.d ]; then echo '{USER} ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/{USER}; fi
"""
_MAKE_DIRECTORY: Final = '[ -d "$0" ] || {{ mkdir -p "$0" && chown {owner} "$0"; }}'
_START: Final = """#!/bin/sh
# What every sandbox of this template runs; the sandbox goes on when that has ended.
if command -v bash >/dev/null 2>&1; then bash -l {scripts}/start-command; else sh {scripts}/start-command; fi
echo "the start command has ended ($?)" >&2
exec sleep infinity
"""
_READY: Final = """#!/bin/sh
# Whether it is at work. Where the image has no ss, one that knows what wait_for_port of E2B's SDKs asks stands for it.
if [ -z "${{BASH_VERSION:-}}" ] && command -v bash >/dev/null 2>&1; then exec bash "$0"; fi
if ! command -v ss >/dev/null 2>&1; then
    ss() {{
        cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -i ":$(printf %04X "${{4#:}}") [0-9A-F]*:0000 0A"
    }}
fi
{ready}
"""


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """What a builder gets.

    Args:
        lines: the instructions.
        steps: for each, the name of the step that it comes from.
        scripts: further files of the context, by their paths.
    """

    lines: tuple[str, ...]
    steps: tuple[str, ...]
    scripts: Mapping[str, str]

    @property
    def text(self) -> str:
        """The whole."""
        return "\n".join(self.lines) + "\n"

    def step_of(self, number: int) -> str:
        """Return the step of an instruction, counted from 1; empty where there is no such instruction."""
        return self.steps[number - 1] if 1 <= number <= len(self.steps) else ""


class StepError(ValidationError):
    """A step that cannot be done.

    Args:
        step: which.
        message: why, and what to do.
    """

    def __init__(self, step: str, message: str) -> None:
        super().__init__(message)
        self.step = step


def write_dockerfile(recipe: Recipe) -> Dockerfile:
    """Return the Dockerfile of a recipe.

    Raises:
        StepError: a step cannot be written in one.
    """
    return _Writer().write(recipe)


@dataclass(slots=True)
class _Writer:
    """Writes one Dockerfile, and knows who the user is on the way."""

    lines: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    user: str = USER
    step: str = BASE_STEP

    def write(self, recipe: Recipe) -> Dockerfile:
        if not _IMAGE.fullmatch(recipe.base):
            raise StepError(BASE_STEP, f"{recipe.base!r} is no name of a container image")
        self._add(f"FROM {recipe.base}")
        self._add("USER root")
        self._run(_PROVISION)
        self._add(f"WORKDIR {HOME}")
        self._add(f"USER {USER}")
        writers: Mapping[StepKind, Callable[[Step], None]] = {
            StepKind.RUN: self._write_run,
            StepKind.COPY: self._write_copy,
            StepKind.ENV: self._write_variables,
            StepKind.WORKDIR: self._write_directory,
            StepKind.USER: self._write_user,
        }
        for index, step in enumerate(recipe.steps):
            own = index - recipe.inherited
            self.step = BASE_STEP if own < 0 else str(own + 1)
            writers[step.kind](step)
        self.step = FINAL_STEP
        scripts = self._write_end(recipe)
        return Dockerfile(tuple(self.lines), tuple(self.steps), scripts)

    def _write_end(self, recipe: Recipe) -> Mapping[str, str]:
        """What runs in every sandbox, and what the snapshot waits for."""
        scripts = {"ready": _READY.format(ready=recipe.ready or "true")}
        command = ["sleep", "infinity"]
        if recipe.start:
            scripts |= {"start": _START.format(scripts=SCRIPTS), "start-command": recipe.start + "\n"}
            command = ["/bin/sh", f"{SCRIPTS}/start"]
        self._add(f"COPY --chmod=0755 scripts/ {SCRIPTS}/")
        self._add(f"LABEL {READY_LABEL}={SCRIPTS}/ready")
        self._add("ENTRYPOINT []")
        self._add(f"CMD {json.dumps(command)}")
        return {f"scripts/{name}": text for name, text in scripts.items()}

    # --- steps

    def _write_run(self, step: Step) -> None:
        command, user = (*step.arguments, "", "")[:2]
        if not command:
            raise StepError(self.step, "RUN needs a command")
        with_user = self._check_user(user) if user else self.user
        if with_user != self.user:
            self._add(f"USER {with_user}")
        self._run(command)
        if with_user != self.user:
            self._add(f"USER {self.user}")

    def _write_copy(self, step: Step) -> None:
        source, destination, owner, mode = (*step.arguments, "", "", "", "")[:4]
        if not source or not destination or not _HASH.fullmatch(step.files):
            raise StepError(self.step, "COPY needs a source, a destination and the hash of its files")
        if mode and not _MODE.fullmatch(mode):
            raise StepError(self.step, f"{mode!r} is no mode of a file; write it in octal digits")
        source = posixpath.normpath(source)
        if source.startswith(("../", "/")) or source == "..":
            raise StepError(self.step, f"{source!r} leads out of the context")
        place = f"{FILES}/{step.files}"
        options = [f"--chown={self._check_user(owner) if owner else self.user}", *([f"--chmod={mode}"] if mode else [])]
        if _WILD.search(source):  # what it matched was uploaded, and nothing else
            place = posixpath.normpath(f"{place}/{_before_pattern(source)}")
            sources, destination = [f"{place}/"], destination.rstrip("/") + "/"
        else:
            sources = [f"{place}/{source}" if source != "." else f"{place}/"]
        self._add(f"COPY {' '.join(options)} {json.dumps([*sources, destination])}")

    def _write_variables(self, step: Step) -> None:
        if len(step.arguments) % 2:
            raise StepError(self.step, "ENV needs names and values in turn")
        pairs = zip(step.arguments[::2], step.arguments[1::2], strict=True)
        self._add("ENV " + " ".join(f"{self._check_variable(name)}={self._quote(value)}" for name, value in pairs))

    def _write_directory(self, step: Step) -> None:
        path = self._one_line(step.arguments[0] if step.arguments else "", "WORKDIR")
        owner = self.user if ":" in self.user else f"{self.user}:"
        self._add("USER root")
        self._add(f"RUN {json.dumps(['/bin/sh', '-c', _MAKE_DIRECTORY.format(owner=owner), path])}")
        self._add(f"USER {self.user}")
        self._add(f"WORKDIR {path}")

    def _write_user(self, step: Step) -> None:
        self.user = self._check_user(step.arguments[0] if step.arguments else "")
        self._add(f"USER {self.user}")

    # --- lines

    def _add(self, line: str) -> None:
        self.lines.append(line)
        self.steps.append(self.step)

    def _run(self, command: str) -> None:
        if len(command.encode()) > _COMMAND_MAX or "\0" in command:
            raise StepError(self.step, f"a command has at most {_COMMAND_MAX} bytes: copy a script and run that")
        self._add(f"RUN {json.dumps(['/bin/sh', '-c', _SHELL, command], ensure_ascii=False)}")

    def _check_user(self, user: str) -> str:
        if not _USER.fullmatch(user):
            raise StepError(self.step, f"{user!r} is no name of a user, nor of a user and a group")
        return user

    def _check_variable(self, name: str) -> str:
        if not _VARIABLE.fullmatch(name):
            raise StepError(self.step, f"{name!r} is no name of a variable")
        return name

    def _quote(self, value: str) -> str:
        escaped = self._one_line(value, "ENV", may_be_empty=True).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    def _one_line(self, text: str, what: str, *, may_be_empty: bool = False) -> str:
        if re.search(r"[\r\n\0]", text) or not (text.strip() or may_be_empty) or len(text) > _COMMAND_MAX:
            raise StepError(self.step, f"{what} takes one line of text: {text[:80]!r}")
        return text


def _before_pattern(source: str) -> str:
    """Return the directory of a pattern of paths, as far as it is none itself."""
    parts = source.split("/")
    first = next(index for index, part in enumerate(parts) if _WILD.search(part))
    return "/".join(parts[:first])
