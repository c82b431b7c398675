"""What is changed in a Dockerfile, and that nothing else is."""

from __future__ import annotations

import time

import pytest

from emberbox.images.dockerfile import find_beginning, find_images, find_platform, prepare
from emberbox.model.errors import BuildError

DIGEST = "@sha256:" + "05cb9b38" * 8


def test_an_ordinary_file_stays_as_it_is() -> None:
    text = "FROM debian AS a\nRUN <<EOT\nFROM --platform=linux/arm64 x\nEOT\nCMD x\n"
    prepared = prepare(text)
    assert (prepared.text, prepared.notes, prepared.stand_ins) == (text, (), ())


@pytest.mark.parametrize(
    ("text", "built"),
    [
        ("FROM --platform=linux/arm64 a\n", "FROM a\n"),
        ("from  --platform=linux/arm64 a AS b\r\n", "from  a AS b\r\n"),
        ("FROM \\\n  --platform=linux/arm64 \\\n# a word\n\n  a\n", "FROM \\\n  \\\n# a word\n\n  a\n"),
        ("# escape=`\nFROM `\n --platform=linux/arm64 a\n", "# escape=`\nFROM `\n a\n"),
    ],
)
def test_another_platform_is_dropped_with_a_note(text: str, built: str) -> None:
    prepared = prepare(text)
    assert prepared.text == built
    assert prepared.notes == ("NOTE: --platform=linux/arm64 is ignored; images are linux/amd64 here",)


def test_the_platform_of_the_builder_needs_no_note() -> None:
    assert prepare("FROM --platform=$BUILDPLATFORM a\n").notes == ()


@pytest.mark.parametrize(
    "text",
    [
        "RUN cat <<'EOT' > /x\nFROM --platform=linux/arm64 a\nEOT\n",
        "RUN <<-EOT\n\tFROM --platform=linux/arm64 a\n\tEOT\nCMD a\n",
        "COPY <<A <<B /x/\nFROM --platform=linux/arm64 a\nA\nFROM --platform=linux/arm64 b\nB\n",
        "RUN echo \\\nFROM --platform=linux/arm64\n",
        "RUN true \\\n  <<EOT\nFROM --platform=linux/arm64 a\nEOT\n",
        "# FROM --platform=linux/arm64 a\n",
    ],
)
def test_what_only_looks_like_a_base_is_left_alone(text: str) -> None:
    assert prepare(text).text == text


def test_the_frontend_is_the_builders_and_lines_keep_their_numbers() -> None:
    prepared = prepare("\ufeff# syntax=docker/dockerfile:1\n# escape=`\nFROM a\n")
    assert prepared.text == "# escape=`\n#\nFROM a\n"
    assert "docker/dockerfile:1 is not fetched" in prepared.notes[0]


def test_a_syntax_further_down_is_a_comment() -> None:
    text = "# a word\n# syntax=docker/dockerfile:1\nFROM a\n"
    assert prepare(text).text == text


def test_the_names_that_have_a_stand_in_are_found() -> None:
    base = "public.ecr.aws/lambda/microvms"
    text = (
        f"ARG BASE={base}:al2023\nFROM ${{BASE}}\nFROM {base}:al2023-minimal{DIGEST} AS a\nFROM {base}:al2023\n"
        "FROM public.ecr.aws/amazonlinux/amazonlinux:2023-minimal\n"
        f"FROM public.ecr.aws/docker/library/python:3.13\nFROM {base}:other\nFROM {base}x:al2023\n"
    )
    assert prepare(text).stand_ins == (
        f"{base}:al2023",
        f"{base}:al2023-minimal{DIGEST}",
        "public.ecr.aws/amazonlinux/amazonlinux:2023-minimal",
    )


@pytest.mark.parametrize("instruction", ["COPY", "ADD", "COPY --link \\\n "])
def test_a_mode_in_letters_is_refused(instruction: str) -> None:
    """BuildKit of this age passes over it without a word."""
    with pytest.raises(BuildError, match="octal"):
        prepare(f"FROM a\n{instruction} --chmod=u=rwx,go=r x /y\n")
    for fine in ("--chmod=0755", "--chmod=$MODE"):
        prepare(f"FROM a\n{instruction} {fine} x /y\n")
    prepare("FROM a\nRUN <<EOT\nCOPY --chmod=u+x\nEOT\n")


def test_the_images_that_it_names_are_found() -> None:
    """Stages of its own, numbers of stages and names with unknown variables are none; heredocs are not looked into."""
    text = """\
ARG VERSION=3.12
ARG BASE="debian:12"
FROM --platform=linux/arm64 python:${VERSION}-slim AS Builder
FROM \\
  # a word
  $BASE as other
COPY --link --from=ghcr.io/astral-sh/uv:1 /uv /uv
COPY --from=builder /x /x
COPY --from=0 /x /x
RUN --mount=type=bind,from=busybox:1,target=/b --mount=from=other,target=/o true
RUN <<EOT
FROM nothing
EOT
FROM ${UNKNOWN}/x
FROM ${TAG:-alpine}
FROM scratch
from builder
"""
    images = ("python:3.12-slim", "debian:12", "ghcr.io/astral-sh/uv:1", "busybox:1", "alpine")
    assert find_images(text.replace("\n", "\r\n")) == images
    assert find_images(text) == images


@pytest.mark.parametrize(
    "text",
    [
        "# syntax=a" + " " * 900_000 + "x\nFROM a\n",
        "FROM " + "${a:-" * 200_000 + "\n",
        "RUN \\\n" * 100_000 + "true\n",
        "ARG A=" + "x" * 900_000 + "\n" + "FROM $A$A$A\n" * 10,
    ],
)
def test_a_file_that_means_harm_takes_no_longer_than_others(text: str) -> None:
    """The text is a stranger's, and the host looks into it where the operator has a table."""
    started = time.process_time()
    find_images(text)
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("FROM a\n", ""),
        ("# escape=`\nFROM `\n --platform=linux/arm64 a\n", "linux/arm64"),
        ("FROM --platform=linux/arm64/v8 a\n", "linux/arm64"),
        ("FROM --platform=linux/arm64 a AS b\nFROM c\n", ""),
        ("FROM --platform=linux/arm64 a AS B\nFROM b AS d\nFROM d\n", "linux/arm64"),
        ("FROM --platform=$BUILDPLATFORM a AS b\nFROM --platform=linux/arm64 c\n", "linux/arm64"),
        ("FROM --platform=$TARGETPLATFORM a\n", ""),
        ("RUN <<E\nFROM --platform=linux/arm64 a\nE\n", ""),
        ("no Dockerfile", ""),
    ],
)
def test_the_platform_of_the_last_stage_is_found(text: str, platform: str) -> None:
    assert find_platform(text) == platform


def test_what_it_is_built_for_is_no_note() -> None:
    text = "FROM --platform=linux/arm64/v8 a AS b\nFROM --platform=linux/amd64 b\n"
    prepared = prepare(text, "linux/arm64")
    assert prepared.text == "FROM a AS b\nFROM b\n"
    assert prepared.notes == ("NOTE: --platform=linux/amd64 is ignored; images are linux/arm64 here",)


@pytest.mark.parametrize(
    ("dockerfile", "beginning"),
    [
        (b"FROM a\nRUN one\nCOPY . .\nRUN two\n", b"FROM a\nRUN one"),
        (b"FROM a\n  run one \\\n && two \\\r\n && three\nCMD x\n", b"FROM a\n  run one \\\n && two \\\r\n && three"),
        (b"FROM a\n# RUN of the mill\nENV RUN=1\nCOPY . .\n", b"FROM a\n# RUN of the mill\nENV RUN=1\nCOPY . .\n"),
        (b"RUN a \\", b"RUN a \\"),
        (b"# escape=`\nRUN a `\n b \\\nUSER x\n", b"# escape=`\nRUN a `\n b \\"),
        (b"COPY <<E /x\nRUN no\nE\nRUN a\nUSER x\n", b"COPY <<E /x\nRUN no\nE\nRUN a"),
        (b"\xff", b"\xff"),
        (b"", b""),
    ],
)
def test_a_dockerfile_begins_with_its_first_step(dockerfile: bytes, beginning: bytes) -> None:
    assert find_beginning(dockerfile) == beginning
