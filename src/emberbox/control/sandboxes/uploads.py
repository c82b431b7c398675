"""The files of template builds in S3: what E2B's SDKs upload for COPY steps, and the artifacts made of them.

They are objects of the account's own, in a bucket of its own. All of it blocks; call it in a thread.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from emberbox.control.sandboxes.contexts import write_context
from emberbox.control.sandboxes.recipes import Dockerfile
from emberbox.model.caller import Caller
from emberbox.model.errors import AccessDeniedError, HostError, ValidationError
from emberbox.model.templates import Recipe

UPLOAD_URL_S: Final = 3600
_ABSENT: Final = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NotFound"})
_THERE: Final = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})
_DENIED: Final = frozenset({"AccessDenied", "403", "Forbidden"})

ConnectS3 = Callable[[Caller], Any]
"""Makes a client of S3 with a caller's rights. Any: boto3 makes its classes at run time."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How large what a build copies may be.

    Args:
        archive_bytes: one upload, as it comes.
        unpacked_bytes: all of them, unpacked.
    """

    archive_bytes: int
    unpacked_bytes: int


class Uploads:
    """Keeps them.

    Args:
        connect: makes clients of S3.
        scratch: a directory that may have files while an artifact is made.
        limits: see there.
    """

    def __init__(self, connect: ConnectS3, scratch: Path, limits: UploadLimits) -> None:
        self._connect = connect
        self._scratch = scratch
        self._limits = limits

    def find(self, caller: Caller, files: str) -> bool:
        """Say whether files have been uploaded.

        Raises:
            AccessDeniedError: the caller may not know.
            HostError: S3 does not answer.
        """
        with _s3_errors():
            try:
                self._connect(caller).head_object(Bucket=_bucket(caller), Key=_key(files))
            except ClientError as error:
                if _code(error) in _ABSENT:
                    return False
                raise
        return True

    def make_url(self, caller: Caller, files: str) -> str:
        """Return where files are uploaded to with PUT, for an hour.

        Raises:
            AccessDeniedError: the caller may not make the bucket.
            HostError: S3 does not answer.
        """
        client = self._connect(caller)
        with _s3_errors():
            self._make_bucket(client, caller)
            place = {"Bucket": _bucket(caller), "Key": _key(files)}
            return str(client.generate_presigned_url("put_object", Params=place, ExpiresIn=UPLOAD_URL_S))

    def make_artifact(self, caller: Caller, build_id: str, dockerfile: Dockerfile, recipe: Recipe) -> str:
        """Put what a build needs into one zip in S3, and return its URI.

        Raises:
            AccessDeniedError: the caller may not read or write it.
            StepError: the files of a step are missing, too large, or no archive.
            HostError: S3 does not answer, or the disk is full.
        """
        client = self._connect(caller)
        key = f"templates/{build_id}.zip"
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="template-", dir=self._scratch) as directory:
            place = Path(directory, "artifact.zip")

            def fetch(files: str) -> Path:
                return self._fetch(client, caller, files, Path(directory, files))

            try:
                write_context(place, dockerfile, recipe, fetch, self._limits.unpacked_bytes)
            except OSError as error:
                raise HostError(f"the files of the template cannot be gathered: {error}") from error
            with _s3_errors():
                self._make_bucket(client, caller)
                client.upload_file(str(place), _bucket(caller), key)
        return f"s3://{_bucket(caller)}/{key}"

    def _fetch(self, client: Any, caller: Caller, files: str, place: Path) -> Path:
        with _s3_errors():
            try:
                size = client.head_object(Bucket=_bucket(caller), Key=_key(files))["ContentLength"]
                if size > self._limits.archive_bytes:
                    raise ValidationError(f"an upload has at most {self._limits.archive_bytes} bytes, not {size}")
                client.download_file(_bucket(caller), _key(files), str(place))
            except ClientError as error:
                if _code(error) in _ABSENT:
                    raise ValidationError("the files were not uploaded; build the template again") from error
                raise
        return place

    def _make_bucket(self, client: Any, caller: Caller) -> None:
        where = {} if caller.region == "us-east-1" else {"LocationConstraint": caller.region}
        options = {"CreateBucketConfiguration": where} if where else {}
        try:
            client.create_bucket(Bucket=_bucket(caller), **options)
        except ClientError as error:
            if _code(error) not in _THERE:
                raise


def _bucket(caller: Caller) -> str:
    return f"emberbox-e2b-{caller.account_id}"


def _key(files: str) -> str:
    return f"uploads/{files}"


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def _s3_errors() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if _code(error) in _DENIED:
            raise AccessDeniedError(f"the files of templates are in S3, and the key may not use it: {error}") from error
        raise HostError(f"S3 refused the files of a template: {error}") from error
    except BotoCoreError as error:
        raise HostError(f"S3 does not answer: {error}; try again") from error
