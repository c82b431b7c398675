"""What a Dockerfile names, and what is changed in it before a builder reads it, which the build's log says.

Made of the standard library, and of what is, as it is used in sandboxes too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from emberbox.host.architecture import native
from emberbox.model.errors import BuildError

AWS_REGISTRY = "public.ecr.aws"

_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(.+?)[ \t]*\r?$")
_DIRECTIVES = ("syntax", "escape", "check")
_INSTRUCTION = re.compile(r"[ \t]*([A-Za-z]+)")
_HEREDOC = re.compile(r"(?<!<)<<(-?)(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\2")
_TAKES_HEREDOCS = ("RUN", "COPY", "ADD")
_PLATFORM = re.compile(r"[ \t]--platform=(\S+)")
_ARM_VARIANT = "/v8"
"""Of linux/arm64 the only one, so it may be left out (OCI image index specification)."""

_MODE = re.compile(r"[ \t]--chmod=(\S+)")
_NAME_MAX = 512
"""Characters of a name or value that is looked at, and of a directive: what is done with them may take their square."""

_ARG = re.compile(r"[ \t]*ARG[ \t]+([A-Za-z_][A-Za-z0-9_]*)=[\"']?([^\s\"']+)", re.IGNORECASE)
_FROM = re.compile(r"[ \t]*FROM((?:[ \t]+--\S+)*)[ \t]+(\S+)(?:[ \t]+AS[ \t]+(\S+))?", re.IGNORECASE)
_TAKEN_FROM = re.compile(r"(?:--from=|[,=]from=)([^\s,]+)")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")
_STAND_IN = re.compile(
    rf"{re.escape(AWS_REGISTRY)}/(?:lambda/microvms|amazonlinux/amazonlinux)(?::al2023|:2023)?(?:-minimal)?"
    r"(?:@sha256:[0-9a-f]{64})?(?![\w.:@/-])"
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A Dockerfile as it is built.

    Args:
        text: the file.
        stand_ins: names of AWS's base images in it.
        notes: lines for the build's log.
    """

    text: str
    stand_ins: tuple[str, ...]
    notes: tuple[str, ...]


def prepare(text: str, platform: str = "") -> Prepared:
    """Take out what cannot hold here; no line is added or removed, so errors name the author's lines.

    `# syntax=` names another frontend, an image to be fetched and run: the builder's own reads all files. And there is
    one processor architecture, whatever `FROM --platform` asks for.

    Args:
        text: the Dockerfile.
        platform: what images are built for; empty: what this machine has.

    Raises:
        BuildError: it has a mode in letters, which this BuildKit would pass over in silence.
    """
    lines = text.removeprefix("\ufeff").split("\n")
    notes: list[str] = []
    built_for = platform or native().platform
    _drop_syntax(lines, notes)
    for index in (*_lines_of(lines, "COPY"), *_lines_of(lines, "ADD")):
        _check_mode(lines[index])
    for index in _lines_of(lines, "FROM"):
        lines[index] = _PLATFORM.sub(lambda found: _drop_platform(found[1], built_for, notes), lines[index])
    return Prepared("\n".join(lines), tuple(dict.fromkeys(_STAND_IN.findall(text))), tuple(notes))


def _check_mode(line: str) -> None:
    for found in _MODE.finditer(line):
        if "$" not in found[1] and not re.fullmatch("[0-7]{1,4}", found[1]):
            raise BuildError(
                "CONTAINER_BUILD_FAILED", f"--chmod={found[1]}: write the mode as an octal number, such as --chmod=755"
            )


def _drop_syntax(lines: list[str], notes: list[str]) -> None:
    """Directives stand at the top, before any other comment; what is left of them must stay there."""
    directives: list[str] = []
    for line in lines:
        found = _DIRECTIVE.match(line[:_NAME_MAX])
        if found is None or found[1].lower() not in _DIRECTIVES:
            break
        if found[1].lower() == "syntax":
            notes.append(f"NOTE: # syntax={found[2]} is not fetched; the builder's own BuildKit reads the Dockerfile")
        else:
            directives.append(line)
    dropped = len(notes)
    lines[: len(directives) + dropped] = [*directives, *["#"] * dropped]


def _drop_platform(platform: str, built_for: str, notes: list[str]) -> str:
    if platform.removesuffix(_ARM_VARIANT) not in (
        built_for,
        "$BUILDPLATFORM",
        "$TARGETPLATFORM",
        "${BUILDPLATFORM}",
        "${TARGETPLATFORM}",
    ):
        notes.append(f"NOTE: --platform={platform} is ignored; images are {built_for} here")
    return ""


def find_platform(text: str) -> str:
    """Return the platform that the last stage asks for, or the one that it builds on; empty: none, or by a variable."""
    stages: dict[str, str] = {}
    platform = ""
    for line in _join(text.removeprefix("\ufeff").split("\n")):
        if base := _FROM.match(line[: 4 * _NAME_MAX]):
            asked = _PLATFORM.search(base[1])
            platform = asked[1] if asked else stages.get(base[2].lower(), "")
            stages[(base[3] or "").lower()] = platform
    return "" if "$" in platform else platform.removesuffix(_ARM_VARIANT)


def find_images(text: str) -> tuple[str, ...]:
    """Return the images that a Dockerfile builds on or copies from, in their order, each once.

    Names of its own stages are none. Variables are the defaults of ARGs; a name with others in it is left out.
    """
    defaults: dict[str, str] = {}
    stages: set[str] = set()
    found: dict[str, None] = {}
    for line in _join(prepare(text).text.split("\n")):
        if (argument := _ARG.match(line)) and len(argument[2]) <= _NAME_MAX:
            defaults.setdefault(argument[1], argument[2])
        base = _FROM.match(line)
        names = [base[2]] if base else _TAKEN_FROM.findall(line)
        short = [name for name in names if len(name) <= _NAME_MAX]
        for name in (_VARIABLE.sub(lambda one: _expand(one, defaults), name) for name in short):
            if "$" not in name and name.lower() not in stages and not name.isdecimal() and name != "scratch":
                found[name] = None
        if base and base[3]:
            stages.add(base[3].lower())
    return tuple(found)


def find_beginning(dockerfile: bytes) -> bytes:
    """Return a Dockerfile up to its first RUN, with it: what comes after is often other, and what is long is there."""
    lines = dockerfile.decode(errors="surrogateescape").split("\n")
    end = None
    for index, instruction, begins in _walk(lines):
        if begins and end is not None:
            break
        if instruction == "RUN":
            end = index + 1
    return "\n".join(lines[:end]).encode(errors="surrogateescape")


def _join(lines: list[str]) -> list[str]:
    """Return each instruction on one line, without heredocs."""
    escape, joined = _escape(lines), list[list[str]]()
    for index, _, begins in _walk(lines):
        if begins:
            joined.append([])
        joined[-1].append(lines[index].rstrip().removesuffix(escape))
    return [" ".join(parts) for parts in joined]


def _expand(found: re.Match[str], defaults: Mapping[str, str]) -> str:
    return defaults.get(found[1] or found[2]) or found[3] or found[0]


def _lines_of(lines: list[str], instruction: str) -> Iterator[int]:
    """Return where the lines of an instruction are, continued ones too."""
    return (index for index, current, _ in _walk(lines) if current == instruction)


def _walk(lines: list[str]) -> Iterator[tuple[int, str, bool]]:
    """Visit the lines of instructions: where each is, the instruction, and whether it begins there.

    Comments, empty lines and a heredoc's lines are none.
    """
    escape = _escape(lines)
    ends: list[tuple[str, bool]] = []
    current, is_continued = "", False
    for index, line in enumerate(lines):
        stripped = line.rstrip("\r")
        if ends and not is_continued:
            word, is_indented = ends[0]
            if (stripped.lstrip("\t") if is_indented else stripped) == word:
                ends.pop(0)
            continue
        if stripped.lstrip().startswith("#") or not stripped.strip():  # neither ends what is continued
            continue
        if not is_continued:
            found = _INSTRUCTION.match(stripped)
            current = found[1].upper() if found else ""
        if current in _TAKES_HEREDOCS:
            ends += [(found[3], found[1] == "-") for found in _HEREDOC.finditer(stripped)]
        yield index, current, not is_continued
        is_continued = stripped.rstrip().endswith(escape)


def _escape(lines: list[str]) -> str:
    for line in lines:
        found = _DIRECTIVE.match(line[:_NAME_MAX])
        if found is None:
            break
        if found[1].lower() == "escape":
            return found[2]
    return "\\"
