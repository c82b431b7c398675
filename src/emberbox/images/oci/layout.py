"""The one form in which an image is handed on: an OCI layout that Docker's `load` can read as well.

All names in it are digests that were computed here. Sources: OCI image layout specification; `manifest.json` is of
Docker's image specification 1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from emberbox.images.oci.documents import (
    CONFIG,
    INDEX,
    MANIFEST,
    Descriptor,
    Image,
    Source,
    digest_of,
    invalid,
    read_image,
)
from emberbox.images.oci.layers import Budget, check_layer

NAME: Final = "emberbox-build"
"""What the image is called in its layout."""


def write_layout(
    source: Source, layout: Path, platform: str, packed_bytes: int, budget: Budget, say: Callable[[str], None],
    *, is_base: bool = False,
) -> None:  # fmt: skip
    """Write the image of a source as a layout, once all of it is judged.

    Args:
        source: where the image is.
        layout: the directory to make.
        platform: which image, `os/architecture`.
        packed_bytes: how large its layers may be as they come.
        budget: what they may become.
        say: takes lines for the build's log.
        is_base: see `read_image`.

    Raises:
        BuildError: the image is not as it should be.
    """
    image = read_image(source, platform, is_base=is_base)
    size = sum(layer.size for layer in set(image.layers))
    if size > packed_bytes:
        raise invalid(f"its layers have {size} bytes, more than {packed_bytes} (EMBERBOX_ARTIFACT_MAX_BYTES)")
    say(f"The image is {image.digest}: {len(image.layers)} layers, {size / 1e6:.1f} MB")
    for note in image.notes:
        say(note)
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    for number, (layer, diff_id) in enumerate(zip(image.layers, image.diff_ids, strict=True), 1):
        path = _path(blobs, layer.digest)
        if not path.exists():
            say(f"Reading layer {number} of {len(image.layers)}: {layer.size / 1e6:.1f} MB")
            copy_blob(source, layer, path)
        check_layer(path, layer.media_type, diff_id, budget)
    _write_documents(layout, blobs, image)


def copy_blob(source: Source, descriptor: Descriptor, path: Path) -> None:
    """Copy a blob into a file, if it is the one that is meant.

    Raises:
        BuildError: it is another.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:

        def write(piece: bytes) -> None:
            nonlocal size
            size += len(piece)
            if size > descriptor.size:
                raise invalid(f"the blob {descriptor.digest} is larger than {descriptor.size} bytes, as is said of it")
            digest.update(piece)
            file.write(piece)

        source.blob(descriptor, write)
    if f"sha256:{digest.hexdigest()}" != descriptor.digest or size != descriptor.size:
        raise invalid(f"the blob {descriptor.digest} has another content than its digest says; make the image anew")


def _write_documents(layout: Path, blobs: Path, image: Image) -> None:
    config = Descriptor(CONFIG, digest_of(image.config), len(image.config))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _describe(config),
        "layers": [_describe(layer) for layer in image.layers],
    }
    content = json.dumps(manifest).encode()
    about = Descriptor(MANIFEST, digest_of(content), len(content))
    named = _describe(about) | {"annotations": {"org.opencontainers.image.ref.name": NAME}}
    for_docker = {
        "Config": f"blobs/sha256/{_name(config.digest)}",
        "RepoTags": [f"{NAME}:latest"],
        "Layers": [f"blobs/sha256/{_name(layer.digest)}" for layer in image.layers],
    }
    _path(blobs, config.digest).write_bytes(image.config)
    _path(blobs, about.digest).write_bytes(content)
    (layout / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]}))
    (layout / "manifest.json").write_text(json.dumps([for_docker]))


def _describe(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}


def _path(blobs: Path, digest: str) -> Path:
    return blobs / _name(digest)


def _name(digest: str) -> str:
    return digest.removeprefix("sha256:")
