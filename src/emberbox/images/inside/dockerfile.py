"""What is changed in a Dockerfile before BuildKit reads it, and what that is said of in the build's log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

AWS_REGISTRY = "public.ecr.aws"
PLATFORM = "linux/amd64"

_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(.+?)[ \t]*\r?$")
_DIRECTIVES = ("syntax", "escape", "check")
_INSTRUCTION = re.compile(r"[ \t]*([A-Za-z]+)")
_HEREDOC = re.compile(r"(?<!<)<<(-?)(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\2")
_TAKES_HEREDOCS = ("RUN", "COPY", "ADD")
_PLATFORM = re.compile(r"[ \t]--platform=(\S+)")
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


def prepare(text: str) -> Prepared:
    """Take out what cannot hold here; no line is added or removed, so errors name the author's lines.

    `# syntax=` names another frontend, an image to be fetched and run: the builder's own reads all files. And there is
    one processor architecture, whatever `FROM --platform` asks for.
    """
    lines = text.removeprefix("\ufeff").split("\n")
    notes: list[str] = []
    _drop_syntax(lines, notes)
    for index in _lines_of(lines, "FROM"):
        lines[index] = _PLATFORM.sub(lambda found: _drop_platform(found[1], notes), lines[index])
    return Prepared("\n".join(lines), tuple(dict.fromkeys(_STAND_IN.findall(text))), tuple(notes))


def _drop_syntax(lines: list[str], notes: list[str]) -> None:
    """Directives stand at the top, before any other comment; what is left of them must stay there."""
    directives: list[str] = []
    for line in lines:
        found = _DIRECTIVE.match(line)
        if found is None or found[1].lower() not in _DIRECTIVES:
            break
        if found[1].lower() == "syntax":
            notes.append(f"NOTE: # syntax={found[2]} is not fetched; the builder's own BuildKit reads the Dockerfile")
        else:
            directives.append(line)
    dropped = len(notes)
    lines[: len(directives) + dropped] = [*directives, *["#"] * dropped]


def _drop_platform(platform: str, notes: list[str]) -> str:
    if platform not in (PLATFORM, "$BUILDPLATFORM", "$TARGETPLATFORM", "${BUILDPLATFORM}", "${TARGETPLATFORM}"):
        notes.append(f"NOTE: --platform={platform} is ignored; images are {PLATFORM} here")
    return ""


def _lines_of(lines: list[str], instruction: str) -> Iterator[int]:
    """Return where the lines of an instruction are, continued ones too; a heredoc's lines are none."""
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
        if current == instruction:
            yield index
        is_continued = stripped.rstrip().endswith(escape)


def _escape(lines: list[str]) -> str:
    for line in lines:
        found = _DIRECTIVE.match(line)
        if found is None:
            break
        if found[1].lower() == "escape":
            return found[2]
    return "\\"
