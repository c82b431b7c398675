"""`emberbox images`: what there is, away with it, and an image of containers becomes an image of microVMs."""

from __future__ import annotations

import contextlib
import math
import secrets
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from emberbox.cli.context import Server, get_server
from emberbox.cli.logs import render_time
from emberbox.cli.progress import build_view, waiting
from emberbox.host.architecture import ARCHITECTURES
from emberbox.model.errors import HostError, ValidationError
from emberbox.model.image_references import SCHEMES, parse_reference
from emberbox.settings import load

_PARTS = ("oci-layout", "index.json", "manifest.json", "blobs")
"""What of a directory is sent; other tools keep more in the same one."""

images = typer.Typer(no_args_is_help=True, help="List and remove images, and make images of what is there already.")


@images.command("ls")
def list_images() -> None:
    """List the images with the version that is launched when none is named."""
    from emberbox_sdk import Image

    with get_server(load().home).open() as client:
        for image in sorted(Image.list(client=client), key=lambda one: one.name):
            print(f"{image.name}  {image.version or '(none that can be launched)'}")


@images.command("rm")
def remove_images(names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names or ARNs.")]) -> None:
    """Delete images with all their versions; microVMs of them must have ended."""
    from emberbox_sdk import wire

    with get_server(load().home).open() as client:
        for name in names:
            client.call(wire.delete_image(client.find_image(name)))
            print(f"deleted {name}")


@images.command("import")
def import_image(
    name: Annotated[str, typer.Argument(help="The image's name; one that is there gets a new version.")],
    source: Annotated[
        str,
        typer.Argument(
            metavar="ARCHIVE|REGISTRY/NAME",
            help="An OCI layout (a directory or a tar), a `docker save` archive, or a name with tag or digest.",
        ),
    ],
    memory: Annotated[int | None, typer.Option(help="MiB of memory of its microVMs.")] = None,
    platform: Annotated[
        str | None, typer.Option(help="linux/amd64 or linux/arm64: which one, where there are several (docs/arm.md).")
    ] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE; may be repeated.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all lines of the build's log.")] = False,
) -> None:
    """Make an image of a container image: its layers are the files, its config says what runs."""
    options: dict[str, Any] = {
        "memory_mib": memory,
        "architecture": None if platform is None else find_architecture(platform),
        "environment": read_environment(env or []),
    }
    uri = find_uri(source)
    server = get_server(load().home)
    if uri is not None:
        print(build(server, name, uri, options, verbose=verbose))
        return
    with archive_of(Path(source)) as archive, uploaded(server, name, archive) as sent:
        print(build(server, name, sent, options, verbose=verbose))


def find_architecture(platform: str) -> str:
    """Return what the API calls a platform.

    Raises:
        HostError: it has none.
    """
    names = {one.platform: one.name for one in ARCHITECTURES}
    if platform not in names:
        raise HostError(f"--platform {platform}: it is {' or '.join(names)}")
    return names[platform]


def read_environment(given: list[str]) -> dict[str, str]:
    """Read variables.

    Raises:
        HostError: one is no NAME=VALUE.
    """
    for one in given:
        if "=" not in one:
            raise HostError(f"--env {one}: it is NAME=VALUE")
    return dict(one.split("=", 1) for one in given)


def find_uri(source: str) -> str | None:
    """Return the URI of an image in a registry; None where the source is a file or directory.

    Raises:
        HostError: it is neither.
    """
    scheme = next((scheme for scheme in SCHEMES if source.startswith(scheme)), "")
    if not scheme and Path(source).exists():
        return None
    try:
        return f"{SCHEMES[0]}{parse_reference(source.removeprefix(scheme))}"
    except ValidationError as error:
        raise HostError(f"{source} is neither a file here nor an image of a registry. {error}") from error


@contextlib.contextmanager
def archive_of(source: Path) -> Iterator[Path]:
    """Give an archive of an image: the file itself, or a tar of a directory for as long as the block lasts.

    Raises:
        HostError: there is no image in it.
    """
    if not source.is_dir():
        if not tarfile.is_tarfile(source):
            raise HostError(f"{source} is neither a tar of an OCI layout nor what `docker save` writes")
        yield source
        return
    if not (source / "index.json").is_file():
        raise HostError(f"there is no OCI layout in {source}: it has no index.json")
    with tempfile.NamedTemporaryFile(prefix="emberbox-import-", suffix=".tar") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for part in _PARTS:
                if (source / part).exists():
                    archive.add(source / part, part)
        file.flush()
        yield Path(file.name)


@contextlib.contextmanager
def uploaded(server: Server, name: str, archive: Path) -> Iterator[str]:
    """Give the URI of an archive in S3; it is removed once nothing needs it any more.

    Who leaves early (Ctrl-C) leaves it there: the build may not have read it yet.
    """
    s3, bucket = server.client("s3"), f"emberbox-imports-{server.account_id}"
    where = {"LocationConstraint": server.region}
    more = {} if server.region == "us-east-1" else {"CreateBucketConfiguration": where}
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=bucket, **more)
    key = f"{name}-{secrets.token_hex(4)}.tar"
    print(f"uploading {archive.stat().st_size / 1e6:.1f} MB to s3://{bucket}/{key}", flush=True)
    with waiting(f"uploading {archive.name}") as tell:
        s3.upload_file(str(archive), bucket, key, Callback=_summed(tell) if tell else None)
    try:
        yield f"s3://{bucket}/{key}"
    except KeyboardInterrupt:
        print(f"\nthe build goes on; when it has ended, remove s3://{bucket}/{key}")
        raise
    except BaseException:
        s3.delete_object(Bucket=bucket, Key=key)
        raise
    s3.delete_object(Bucket=bucket, Key=key)


def _summed(tell: Callable[[int], None]) -> Callable[[int], None]:
    """Return what takes how many bytes more are sent, as boto3 tells it from several threads."""
    sent, lock = 0, threading.Lock()

    def add(more: int) -> None:
        nonlocal sent
        with lock:
            sent += more
            tell(sent)

    return add


def build(server: Server, name: str, uri: str, options: dict[str, Any], *, verbose: bool = False) -> str:
    """Build an image of what is at a URI, with its log, and return a line about it.

    Args:
        server: where to.
        name: the image's; one that is there gets a further version, whatever it was built from.
        uri: of an image in a registry, or of an archive in S3.
        options: what else `Image.build` is told.
        verbose: the log is not folded.

    Raises:
        HostError: the build failed.
    """
    from emberbox_sdk import BuildError, Image

    def say(line: str) -> None:
        print(f"{render_time(datetime.now(UTC))} {line}", flush=True)

    with server.open() as client, build_view(say, everything=verbose) as view:
        try:
            made = Image.build(
                uri=uri, name=name, again=True, timeout_s=math.inf, on_progress=view.take, client=client, **options
            )
        except BuildError as error:
            raise HostError(f"{name} {error.version} failed: {error.reason}") from error
    return f"{name} {made.version}: {made.arn}"
