"""The way of a request: who signed it, what it means, may they, do it, answer.

An operation that is not implemented, a query key that the operation does not know and a parameter that nothing here
understands are answered 501 before anything is touched.
"""

from __future__ import annotations

import errno
import logging
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from emberbox.control.access.artifact_reader import KEY_ID
from emberbox.model.errors import HostError
from emberbox.model.iam.access import Credential
from emberbox.model.iam.global_keys import header_keys, principal_keys
from emberbox.s3.addressing import Addressing, read_key
from emberbox.s3.buckets import Buckets
from emberbox.s3.call import Call, Handler, Reply
from emberbox.s3.documents import Documents
from emberbox.s3.errors import ClientGoneError, NotModifiedError, S3Error
from emberbox.s3.files import Files
from emberbox.s3.http import Answer, Request
from emberbox.s3.index import Bucket, Index
from emberbox.s3.listings import Listings
from emberbox.s3.object_deletes import ObjectDeletes
from emberbox.s3.object_notes import ObjectNotes
from emberbox.s3.object_reads import ObjectReads
from emberbox.s3.object_writes import ObjectWrites
from emberbox.s3.parse import parse_located
from emberbox.s3.permissions import Facts, bucket_arn, check, may, needed_actions, object_arn
from emberbox.s3.post_form import FORM_TYPE, Allowed, Form, check_policy, headers_of, read_form
from emberbox.s3.routing import SERVICE, Level, Route, find_route
from emberbox.s3.serialise import XML, serialise, serialise_error, xml_text
from emberbox.s3.signatures import SIGNED_BY_V2, FindCredential, Signed, authenticate
from emberbox.s3.uploads import Uploads
from emberbox.spec.models import load_operation

log = logging.getLogger(__name__)

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_OWNERLESS: Final = frozenset({"ListBuckets", "CreateBucket"})
_BY_POST: Final = "PutObject"
_UNDERSTOOD_NAMES: Final = """
    ACL BucketKeyEnabled BypassGovernanceRetention CacheControl ChecksumAlgorithm ChecksumCRC32 ChecksumCRC32C
    ChecksumCRC64NVME ChecksumMD5 ChecksumMode ChecksumSHA1 ChecksumSHA256 ChecksumSHA512 ChecksumType
    ConfirmRemoveSelfBucketAccess ContentDisposition
    ContentEncoding ContentLanguage ContentLength ContentMD5 ContentType ContinuationToken CopySource
    CopySourceIfMatch CopySourceIfModifiedSince CopySourceIfNoneMatch CopySourceIfUnmodifiedSince
    CopySourceRange Delimiter EncodingType ExpectedBucketOwner ExpectedSourceBucketOwner Expires FetchOwner
    GrantFullControl GrantRead GrantReadACP GrantWrite GrantWriteACP Id IfMatch IfModifiedSince IfNoneMatch
    IfUnmodifiedSince KeyMarker Marker MaxBuckets MaxKeys MaxParts MaxUploads Metadata MetadataDirective
    MpuObjectSize ObjectAttributes ObjectLockEnabledForBucket ObjectOwnership OptionalObjectAttributes
    PartNumber PartNumberMarker Prefix Range RequestPayer ResponseCacheControl ResponseContentDisposition
    ResponseContentEncoding ResponseContentLanguage ResponseContentType ResponseExpires SSEKMSKeyId
    ServerSideEncryption SkipDestinationValidation StartAfter StorageClass Tagging TaggingDirective
    TransitionDefaultMinimumObjectSize UploadId UploadIdMarker VersionId VersionIdMarker WebsiteRedirectLocation
"""
UNDERSTOOD: Final = frozenset(_UNDERSTOOD_NAMES.split())
"""The parameters that are honoured, or that change nothing here. Any other one is refused: it would mean something."""


class Service:
    """Answers requests; called by many threads.

    Args:
        index: the rows.
        files: the contents.
        find: finds credentials.
        region: the region that is played.
        domain: names of buckets may end in it.
    """

    def __init__(self, index: Index, files: Files, find: FindCredential, region: str, domain: str) -> None:
        self._index = index
        self._find = find
        self._region = region
        self._addressing = Addressing(domain)
        self._files = files
        reads = ObjectReads(index, files)
        self._writes = ObjectWrites(index, files, reads)
        parts = (
            Buckets(index, region),
            Documents(index),
            reads,
            self._writes,
            ObjectDeletes(index),
            ObjectNotes(index),
            Listings(index),
            Uploads(index, files, reads),
        )
        self._handlers: dict[str, Handler] = {}
        for part in parts:
            self._handlers |= part.handlers()

    @property
    def operations(self) -> frozenset[str]:
        """The names of the operations that are implemented."""
        return frozenset(self._handlers)

    def respond(self, request: Request) -> Answer:
        """Answer a request.

        Raises:
            ClientGoneError: the client hung up.
        """
        request_id = secrets.token_hex(8).upper()
        try:
            answer = self._respond(request)
        except NotModifiedError as error:
            answer = Answer(304, error.headers)
        except S3Error as error:
            answer = serialise_error(error, request.raw_path, request_id)
        except ClientGoneError:
            raise
        except OSError as error:
            answer = serialise_error(self._failed(error, request, request_id), request.raw_path, request_id)
        except Exception as error:
            log.error("%s %s %s failed", request_id, request.method, request.raw_path, exc_info=error)
            is_full = isinstance(error, HostError) and "full" in str(error)
            code = "InsufficientStorage" if is_full else "InternalError"
            answer = serialise_error(S3Error(code), request.raw_path, request_id)
        if request.method == "HEAD":
            answer = replace(answer, body=b"")
        return replace(answer, headers={"x-amz-request-id": request_id, **answer.headers})

    def _failed(self, error: OSError, request: Request, request_id: str) -> S3Error:
        if error.errno in _FULL:
            log.error("%s %s: the disk is full", request_id, request.raw_path)
            return S3Error("InsufficientStorage")
        log.error("%s %s %s failed", request_id, request.method, request.raw_path, exc_info=error)
        return S3Error("InternalError")

    def _respond(self, request: Request) -> Answer:
        host = request.headers.get("host", "")
        name, key = self._addressing.place(host, request.raw_path)
        level = Level.OBJECT if key else Level.BUCKET if name else Level.SERVICE
        content_type = request.headers.get("content-type", "")
        if request.method == "POST" and level is Level.BUCKET and content_type.lower().startswith(FORM_TYPE):
            return self._post_form(request, name, content_type)
        resource = request.raw_path if self._addressing.host_bucket(host) is None else f"/{name}{request.raw_path}"
        signed = authenticate(request, resource, self._find, datetime.now(UTC))
        query = _query(request)
        route = find_route(request.method, level, query, signed.headers)
        if signed.version == 2 and not route.literals.keys() <= SIGNED_BY_V2 | {"list-type"}:
            raise S3Error("NotImplemented", "This operation needs Signature Version 4.")
        handler = self._handlers.get(route.name)
        if handler is None:
            raise S3Error("NotImplemented", f"{route.name} is not implemented by Emberbox.")
        parameters = parse_located(route.model, query, signed.headers)
        for parameter in parameters:
            if parameter not in UNDERSTOOD:
                raise S3Error("NotImplemented", Parameter=parameter)
        call = self._open(route, signed, request, (name, key), parameters)
        return _answer(call, handler(call))

    def _open(
        self, route: Route, signed: Signed, request: Request, place: tuple[str, bytes], parameters: Mapping[str, Any]
    ) -> Call:
        """Check that the caller may do it, and find the bucket, which must be the caller's account's own."""
        name, key = place
        facts = self._facts(signed.credential, request, place, parameters)
        if route.name != "DeleteObjects":  # it asks for each object
            resource = object_arn(name, key) if key else bucket_arn(name) if name else "*"
            for action in needed_actions(route.name, parameters):
                check(signed.credential, action, resource, facts)
        if route.name in _OWNERLESS:
            bucket = Bucket(name, signed.credential.account_id, self._region, 0)
        else:
            bucket = self._own_bucket(name, signed.credential, parameters.get("ExpectedBucketOwner"))

        def caller_may(action: str, resource: str) -> bool:
            return may(signed.credential, action, resource, facts)

        return Call(route.name, route.model, bucket, key, parameters, signed, request, caller_may)

    def _own_bucket(self, name: str, credential: Credential, expected: str | None) -> Bucket:
        with self._index.reading() as rows:
            bucket = rows.bucket(name)
        if bucket is None:
            raise S3Error("NoSuchBucket", BucketName=name[:255])
        is_own = bucket.account_id == credential.account_id or credential.access_key_id == KEY_ID
        if not is_own or expected not in (None, bucket.account_id):
            raise S3Error("AccessDenied")
        return bucket

    def _facts(
        self, credential: Credential, request: Request, place: tuple[str, bytes], parameters: Mapping[str, Any]
    ) -> Facts:
        def existing_tags() -> list[tuple[str, str]]:
            with self._index.reading() as rows:
                found = rows.latest(*place)
            return [] if found is None else found.tags

        def owner() -> str:
            with self._index.reading() as rows:
                bucket = rows.bucket(place[0])
            return credential.account_id if bucket is None else bucket.account_id

        known = principal_keys(credential, request.source_ip, self._region) | header_keys(request.headers)
        return Facts(known, parameters, existing_tags, owner)

    # --- forms

    def _post_form(self, request: Request, name: str, content_type: str) -> Answer:
        if request.query:
            raise S3Error("NotImplemented", Query=request.query[:64])
        form = read_form(content_type, request.body())
        fields = dict(form.fields)
        fields["key"] = fields.get("key", "").replace("${filename}", form.file_name)
        if not fields["key"]:
            raise S3Error("InvalidArgument", "Bucket POST must contain a field named 'key'.", ArgumentName="key")
        allowed = check_policy(fields, name, self._find, datetime.now(UTC))
        key = read_key(fields["key"].encode())
        signed = Signed(allowed.credential, headers_of(fields), 4)
        model = load_operation(SERVICE, _BY_POST)
        parameters = parse_located(model, {}, signed.headers)
        for parameter in parameters:
            if parameter not in UNDERSTOOD:
                raise S3Error("NotImplemented", Parameter=parameter)
        sized = _sized(request, form, allowed)
        route = Route(_BY_POST, model, {}, frozenset(), frozenset(), is_copy=False)
        call = replace(self._open(route, signed, sized, (name, key), parameters), is_form=True)
        reply = self._writes.put(call)
        return _answer_form(call, reply, fields)


def _query(request: Request) -> dict[str, str]:
    pairs = request.query_pairs()
    query = dict(pairs)
    if len(query) != len(pairs):
        raise S3Error("InvalidArgument", "A query parameter is given twice.")
    return query


def _sized(request: Request, form: Form, allowed: Allowed) -> Request:
    """Return a request whose body is the form's file; its size is known when it has come."""

    def data() -> Iterator[bytes]:
        size = 0
        for piece in form.data:
            size += len(piece)
            if allowed.most is not None and size > allowed.most:
                raise S3Error("EntityTooLarge", ProposedSize=str(size), MaxSizeAllowed=str(allowed.most))
            yield piece
        if size < allowed.least:
            raise S3Error("EntityTooSmall", ProposedSize=str(size), MinSizeAllowed=str(allowed.least))

    return replace(request, body=data)


def _answer(call: Call, reply: Reply) -> Answer:
    headers, body = serialise(call.model, reply.members)
    if reply.text is not None:
        headers, body = {"Content-Type": XML}, reply.text
    headers |= reply.headers
    status = reply.status or int(call.model.http.get("responseCode", 200))
    return Answer(status, headers, body, reply.content, reply.length)


def _answer_form(call: Call, reply: Reply, fields: Mapping[str, str]) -> Answer:
    headers, _ = serialise(call.model, reply.members)
    etag, place = headers["ETag"], f"/{call.bucket.name}/{fields['key']}"
    redirect = fields.get("success_action_redirect") or fields.get("redirect")
    if redirect and redirect.startswith(("http://", "https://")) and redirect.isascii() and redirect.isprintable():
        more = urlencode({"bucket": call.bucket.name, "key": fields["key"], "etag": etag})
        return Answer(303, headers | {"Location": f"{redirect}{'&' if '?' in redirect else '?'}{more}"})
    if fields.get("success_action_status") == "201":
        inner = "".join(
            f"<{name}>{xml_text(value)}</{name}>"
            for name, value in (
                ("Location", place), ("Bucket", call.bucket.name), ("Key", fields["key"]), ("ETag", etag),
            )
        )  # fmt: skip
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<PostResponse>{inner}</PostResponse>'.encode()
        return Answer(201, headers | {"Content-Type": XML}, body)
    return Answer(200 if fields.get("success_action_status") == "200" else 204, headers)
