"""The JSON of OCI images and of Docker's: which image is meant, and what it says, in the form that it should have.

Sources: OCI image specification 1.1 (image-layout.md, image-index.md, manifest.md, config.md), and Docker's
"Image Manifest Version 2, Schema 2".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from emberbox.images.config import find_unheeded
from emberbox.model.errors import BuildError
from emberbox.model.image_references import DIGEST

DOCUMENT_BYTES_MAX: Final = 4 << 20
LAYERS_MAX: Final = 125
"""Docker's own limit, in which a stack of directories of the kernel's overlay fits."""

INDEX: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP: Final = f"{LAYER}+gzip"
_DOCKER: Final = "application/vnd.docker"
INDEXES: Final = (INDEX, f"{_DOCKER}.distribution.manifest.list.v2+json")
MANIFESTS: Final = (MANIFEST, f"{_DOCKER}.distribution.manifest.v2+json")
_CONFIGS: Final = (CONFIG, f"{_DOCKER}.container.image.v1+json")
_LAYERS: Final = {
    LAYER: LAYER,
    LAYER_GZIP: LAYER_GZIP,
    f"{_DOCKER}.image.rootfs.diff.tar": LAYER,
    f"{_DOCKER}.image.rootfs.diff.tar.gzip": LAYER_GZIP,
}
_ADVICE: Final = {
    "zstd": "push it once more with its layers compressed by gzip",
    "nondistributable": "its layers are elsewhere; push it with them",
    "foreign": "its layers are elsewhere; push it with them",
    "encrypted": "decrypt it, and push it once more",
}
_INDEXES_DEEP: Final = 4
_CONFIG_TEXTS: Final = ("User", "WorkingDir", "StopSignal")
_CONFIG_LISTS: Final = ("Entrypoint", "Cmd", "Env")
_PORT_MAX: Final = 65535


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Names a blob (OCI, "Content Descriptors").

    Args:
        media_type: what it is.
        digest: `sha256:` and its SHA-256 in hexadecimal.
        size: its bytes.
        platform: of the image that it leads to, `os/architecture`; None where nothing is said.
        variant: of the architecture.
    """

    media_type: str
    digest: str
    size: int
    platform: str | None = None
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON text and what it is said to be."""

    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Image:
    """One image, for one platform.

    Args:
        digest: of its manifest.
        config: the text of its config.
        layers: the lowest first; their media types are OCI's.
        diff_ids: the digests of the layers uncompressed.
        notes: lines for the build's log.
    """

    digest: str
    config: bytes
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    notes: tuple[str, ...]


class Source(Protocol):
    """Where an image's blobs are."""

    def top(self) -> Document:
        """Return the index or manifest to begin with."""
        ...

    def document(self, descriptor: Descriptor) -> bytes:
        """Return an index, a manifest or a config."""
        ...

    def blob(self, descriptor: Descriptor, write: Callable[[bytes], object]) -> None:
        """Pass on a layer, piece by piece, and no more than its size and a piece."""
        ...


def invalid(what: str) -> BuildError:
    """Return the failure of an image that is not as it should be."""
    return BuildError("ARCHIVE_INVALID", what)


def digest_of(content: bytes) -> str:
    """Return the digest of a text."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def read_image(source: Source, platform: str, *, is_base: bool = False) -> Image:
    """Find the image for a platform, and read what it says.

    Args:
        source: where it is.
        platform: `os/architecture`, in Go's words.
        is_base: it is built upon, so it need not say what to run.

    Raises:
        BuildError: there is none, or it is not as it should be.
    """
    found = source.top()
    for _ in range(_INDEXES_DEEP):
        if found.media_type in MANIFESTS:
            return _read_manifest(source, found.content, platform, is_base=is_base)
        if found.media_type not in INDEXES:
            raise invalid(
                f"{found.media_type!r} is neither an index nor a manifest of images; is it a container image?"
            )
        chosen = choose(read_index(found.content), platform)
        found = Document(chosen.media_type, read_checked(source, chosen))
    raise invalid(f"its indexes lead to indexes {_INDEXES_DEEP} times")


def read_checked(source: Source, descriptor: Descriptor) -> bytes:
    """Return a document, if it is the one that is meant.

    Raises:
        BuildError: it is another.
    """
    if descriptor.size > DOCUMENT_BYTES_MAX:
        raise invalid(f"the document {descriptor.digest} is larger than {DOCUMENT_BYTES_MAX} bytes")
    content = source.document(descriptor)
    if digest_of(content) != descriptor.digest or len(content) != descriptor.size:
        raise invalid(f"the blob {descriptor.digest} has another content than its digest says; make the image anew")
    return content


def choose(found: Sequence[Descriptor], platform: str) -> Descriptor:
    """Return the descriptor of an index that is for a platform.

    Where none of them says its platform there must be one alone: its config then has to say it. Of variants the first
    is taken, which asks least of the processor.

    Raises:
        BuildError: there is none, or several.
    """
    images = [one for one in found if one.media_type in (*INDEXES, *MANIFESTS)]
    if not images and found:
        raise invalid(f"{found[0].media_type!r} is neither an index nor a manifest of images; is it a container image?")
    stated = sorted((one for one in images if one.platform == platform), key=lambda one: one.variant)
    fitting = stated or [one for one in images if one.platform is None]
    if not fitting:
        there_is = ", ".join(sorted({one.platform for one in images if one.platform})) or "nothing"
        raise invalid(f"there is no image for {platform} in it, but for {there_is}; build it for {platform}")
    if len({one.digest for one in fitting if one.variant == fitting[0].variant}) > 1:
        raise invalid("it has several images; make an archive of one")
    return fitting[0]


def read_index(content: bytes) -> list[Descriptor]:
    """Read the descriptors of an index.

    Raises:
        BuildError: it is none.
    """
    index = parse(content, "the index")
    _check_schema(index, "the index")
    return [_descriptor(one, "the index") for one in as_list(index.get("manifests"), "manifests of the index")]


def _read_manifest(source: Source, content: bytes, platform: str, *, is_base: bool) -> Image:
    manifest = parse(content, "the manifest")
    _check_schema(manifest, "the manifest")
    config = _descriptor(manifest.get("config"), "config of the manifest")
    if config.media_type not in _CONFIGS:
        raise invalid(f"its config is of the media type {config.media_type!r}, which no container image has")
    layers = tuple(
        _layer(_descriptor(one, "layers of the manifest"))
        for one in as_list(manifest.get("layers"), "layers of the manifest")
    )
    text = read_checked(source, config)
    diff_ids, notes = read_config(text, platform, is_base=is_base)
    if len(diff_ids) != len(layers):
        raise invalid(f"it has {len(layers)} layers, but its config knows {len(diff_ids)}")
    if len(layers) > LAYERS_MAX:
        raise invalid(f"it has more than {LAYERS_MAX} layers; build it with fewer steps")
    return Image(digest_of(content), text, layers, diff_ids, notes)


def _check_schema(document: dict[str, Any], what: str) -> None:
    if document.get("schemaVersion") != 2:
        raise invalid(f"schemaVersion of {what} is {document.get('schemaVersion')!r} and not 2; push the image anew")


def _layer(descriptor: Descriptor) -> Descriptor:
    media_type = _LAYERS.get(descriptor.media_type)
    if media_type is None:
        advice = next((text for word, text in _ADVICE.items() if word in descriptor.media_type), "push it as OCI image")
        raise invalid(f"a layer is of the media type {descriptor.media_type!r}, which is not taken; {advice}")
    return Descriptor(media_type, descriptor.digest, descriptor.size)


def _descriptor(given: Any, where: str) -> Descriptor:
    entry = as_object(given, where)
    digest, size = entry.get("digest"), entry.get("size")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise invalid(f"{where} has a digest that is not sha256: and 64 hexadecimal digits: {digest!r}")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise invalid(f"{where} has a size that is no number of bytes: {size!r}")
    media_type = as_text(entry.get("mediaType"), f"mediaType in {where}")
    if entry.get("platform") is None:
        return Descriptor(media_type, digest, size)
    where = f"platform in {where}"
    stated = as_object(entry["platform"], where)
    platform = "/".join(as_text(stated.get(key), where) for key in ("os", "architecture"))
    variant = as_text(stated.get("variant") or "", where, may_be_empty=True)
    return Descriptor(media_type, digest, size, platform, variant)


def read_config(content: bytes, platform: str, *, is_base: bool = False) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Judge an image's config; return the digests of its layers uncompressed, and notes for the build's log.

    Args:
        content: its text.
        platform: what it has to be for.
        is_base: see `read_image`; there are no notes then.

    Raises:
        BuildError: it is not as it should be, or for another platform, or names nothing to run.
    """
    config = parse(content, "the config")
    if not config.get("os") or not config.get("architecture"):
        raise invalid("its config does not say for which platform it is (os, architecture); build it anew")
    stated = f"{config['os']}/{config['architecture']}"
    if stated != platform:
        raise invalid(f"it is for {stated}, and this machine runs {platform}; build it for {platform}")
    root = as_object(config.get("rootfs"), "rootfs of the config")
    diff_ids = tuple(as_text(one, "rootfs of the config") for one in as_list(root.get("diff_ids"), "diff_ids"))
    if any(not DIGEST.fullmatch(one) for one in diff_ids):
        raise invalid("rootfs of the config has a digest that is not sha256: and 64 hexadecimal digits")
    settings = as_object(config.get("config") or {}, "config")
    _check_settings(settings)
    if is_base:
        return diff_ids, ()
    if not settings.get("Entrypoint") and not settings.get("Cmd"):
        raise BuildError("CONTAINER_BUILD_FAILED", "the image has neither ENTRYPOINT nor CMD: nothing to run")
    return diff_ids, find_unheeded(settings)


def _check_settings(settings: dict[str, Any]) -> None:
    """Judge what an image says about how to run it, as `config.parse_config` reads it."""
    for key in _CONFIG_TEXTS:
        if settings.get(key) is not None:
            as_text(settings[key], f"{key} of the config", may_be_empty=True)
    for key in _CONFIG_LISTS:
        for one in as_list(settings.get(key) or [], f"{key} of the config"):
            as_text(one, f"{key} of the config", may_be_empty=True)
    for port in as_object(settings.get("ExposedPorts") or {}, "ExposedPorts of the config"):
        number = port.partition("/")[0]
        if not (number.isascii() and number.isdecimal() and 0 < int(number[:6]) <= _PORT_MAX):
            raise invalid(f"ExposedPorts of the config has {port!r}, which is no port")


def parse(content: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BuildError: it is none.
    """
    return as_object(parse_json(content, what), what)


def parse_json(content: bytes, what: str) -> Any:
    """Read a JSON text.

    Raises:
        BuildError: it is none.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise invalid(f"{what} is no JSON ({error})") from error


def as_object(value: Any, what: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        BuildError: it is something else.
    """
    if not isinstance(value, dict):
        raise invalid(f"{what} is no JSON object")
    return value


def as_list(value: Any, what: str) -> list[Any]:
    """Return a JSON array.

    Raises:
        BuildError: it is something else.
    """
    if not isinstance(value, list):
        raise invalid(f"{what} is no JSON array")
    return value


def as_text(value: Any, what: str, *, may_be_empty: bool = False) -> str:
    """Return a text without a NUL.

    Raises:
        BuildError: it is something else.
    """
    if not isinstance(value, str) or "\0" in value or not (value or may_be_empty):
        raise invalid(f"{what} has {value!r} where a text is wanted")
    return value
