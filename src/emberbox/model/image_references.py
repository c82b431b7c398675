"""Names of images in registries, as artifacts of images say them: `oci://registry/name:tag`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from emberbox.model.errors import ValidationError

SCHEMES: Final = ("oci://", "docker://")
DOCKER_HUB: Final = "docker.io"
FORM: Final = "oci://<registry>/<name>[:<tag>|@sha256:<digest>]"
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")

_REGISTRY: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?(?::[0-9]{1,5})?")
_PART: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_NAME_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image in a registry.

    Args:
        registry: its host, with a port where it has one.
        name: of the repository there.
        tag: which of its images; without effect where there is a digest.
        digest: of its manifest; None where the tag says which.
    """

    registry: str
    name: str
    tag: str
    digest: str | None = None

    @property
    def version(self) -> str:
        """What names it in its repository."""
        return self.digest or self.tag

    def __str__(self) -> str:
        return f"{self.registry}/{self.name}" + (f"@{self.digest}" if self.digest else f":{self.tag}")


def is_image_uri(uri: str) -> bool:
    """Say whether an artifact is an image in a registry."""
    return uri.startswith(SCHEMES)


def parse_image_uri(uri: str) -> ImageReference:
    """Read the URI of an image in a registry.

    Raises:
        ValidationError: it is none.
    """
    scheme = next((scheme for scheme in SCHEMES if uri.startswith(scheme)), "")
    try:
        return parse_reference(uri.removeprefix(scheme))
    except ValidationError as error:
        raise ValidationError(f"CodeArtifact URI must name an image in the format: {FORM}. {error}") from error


def parse_reference(text: str) -> ImageReference:
    """Read the name of an image as `docker pull` takes it (the distribution project's grammar of references).

    Raises:
        ValidationError: it is none.
    """
    rest, at, digest = text.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise ValidationError(f"The digest {digest!r} is not sha256: and 64 hexadecimal digits.")
    first, slash, below = rest.partition("/")
    is_host = bool(slash) and (first == "localhost" or any(mark in first for mark in ".:"))
    registry, path = (first, below) if is_host else (DOCKER_HUB, rest)
    name, colon, tag = path.partition(":")
    if not is_host and "/" not in name:
        name = f"library/{name}"
    for pattern, part, what in ((_REGISTRY, registry, "registry"), (_NAME, name, "name")):
        if not pattern.fullmatch(part) or len(part) > _NAME_MAX:
            raise ValidationError(f"{part!r} is not the {what} of an image: {text!r}.")
    if colon and not _TAG.fullmatch(tag):
        raise ValidationError(f"{tag!r} is not the tag of an image: {text!r}.")
    return ImageReference(registry, name, tag or "latest", digest or None)
