"""Requests to the API, and what its answers mean; nothing here sends anything."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

from emberbox_sdk.config import Config
from emberbox_sdk.errors import (
    AccessError,
    ApiError,
    ConflictError,
    EmberboxError,
    NotFoundError,
    QuotaError,
    UnreachableError,
)
from emberbox_sdk.sigv4 import Signer

MICROVMS: Final = "/2025-09-09"
EMBERBOX: Final = "/emberbox/2026-11-24"

Members = dict[str, Any]
"""Of a request or an answer, by the names of the service model."""

RETRY_FIRST_S: Final = 0.1
RETRY_MOST_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request, not signed yet.

    Attributes:
        method: of HTTP.
        path: encoded.
        service: the signing name.
        query: parameters.
        body: what is sent.
        headers: beside those of the signature, by names in lower case.
        repeats: whether it may be sent again when nobody knows what became of it.
    """

    method: str
    path: str
    service: str = "lambda"
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    repeats: bool = True

    def url(self, base: str) -> str:
        """Return where it goes."""
        query = urlencode(self.query, quote_via=quote)
        return base.rstrip("/") + self.path + (f"?{query}" if query else "")

    def signed(self, config: Config, base: str) -> dict[str, str]:
        """Return all headers, with a signature of this instant."""
        signer = Signer(
            config.access_key_id, config.secret_access_key, config.session_token, config.region, self.service
        )
        digest = hashlib.sha256(self.body).hexdigest()
        return signer.sign(self.method, self.url(base), digest, self.headers)


def _json(method: str, path: str, members: Members, *, service: str = "lambda", repeats: bool = True) -> ApiRequest:
    body = json.dumps({name: value for name, value in members.items() if value is not None}).encode()
    return ApiRequest(method, path, service, body=body, headers={"content-type": "application/json"}, repeats=repeats)


def _microvm(identifier: str, rest: str = "", *, prefix: str = MICROVMS) -> str:
    return f"{prefix}/microvms/{quote(identifier, safe='')}{rest}"


def _image(identifier: str, rest: str = "") -> str:
    return f"{MICROVMS}/microvm-images/{quote(identifier, safe='')}{rest}"


def new_token() -> str:
    """Return a token by which the server knows a repeated request again."""
    return str(uuid.uuid4())


# --- microVMs


def run_microvm(members: Members) -> ApiRequest:
    """RunMicrovm."""
    return _json("POST", f"{MICROVMS}/microvms", {"clientToken": new_token(), **members})


def get_microvm(microvm_id: str) -> ApiRequest:
    """GetMicrovm."""
    return ApiRequest("GET", _microvm(microvm_id))


def list_microvms(next_token: str = "", image_arn: str = "") -> ApiRequest:
    """ListMicrovms, one page."""
    asked = {"maxResults": "50", "nextToken": next_token, "imageIdentifier": image_arn}
    return ApiRequest("GET", f"{MICROVMS}/microvms", query={name: value for name, value in asked.items() if value})


def suspend(microvm_id: str) -> ApiRequest:
    """SuspendMicrovm."""
    return _json("POST", _microvm(microvm_id, "/suspend"), {})


def resume(microvm_id: str) -> ApiRequest:
    """ResumeMicrovm."""
    return _json("POST", _microvm(microvm_id, "/resume"), {})


def terminate(microvm_id: str) -> ApiRequest:
    """TerminateMicrovm."""
    return ApiRequest("DELETE", _microvm(microvm_id))


def create_auth_token(microvm_id: str, minutes: int, ports: list[Members]) -> ApiRequest:
    """CreateMicrovmAuthToken."""
    members = {"expirationInMinutes": minutes, "allowedPorts": ports}
    return _json("POST", _microvm(microvm_id, "/auth-token"), members)


def create_shell_token(microvm_id: str, minutes: int) -> ApiRequest:
    """CreateMicrovmShellAuthToken."""
    return _json("POST", _microvm(microvm_id, "/shell-auth-token"), {"expirationInMinutes": minutes})


def fork_microvm(microvm_id: str, count: int) -> ApiRequest:
    """ForkMicrovm of Emberbox's own service."""
    members = {"count": count, "clientToken": new_token()}
    return _json("POST", _microvm(microvm_id, "/fork", prefix=EMBERBOX), members, service="emberbox")


def snapshot_microvm(microvm_id: str, status: str) -> ApiRequest:
    """SnapshotMicrovm of Emberbox's own service."""
    members = {"status": status, "clientToken": new_token()}
    return _json("POST", _microvm(microvm_id, "/snapshot", prefix=EMBERBOX), members, service="emberbox")


def list_events(microvm_id: str, after: int | None, limit: int) -> ApiRequest:
    """ListEvents of Emberbox's own service: the newest, or those after one, the oldest first."""
    asked = {"microvmIdentifier": microvm_id, "afterEventId": "" if after is None else str(after)}
    query = {name: value for name, value in asked.items() if value} | {"maxResults": str(limit)}
    return ApiRequest("GET", f"{EMBERBOX}/events", "emberbox", query=query)


def describe_host() -> ApiRequest:
    """DescribeHost of Emberbox's own service."""
    return ApiRequest("GET", f"{EMBERBOX}/host", "emberbox")


def describe_server() -> ApiRequest:
    """DescribeServer of Emberbox's own service."""
    return ApiRequest("GET", f"{EMBERBOX}/server", "emberbox")


def restore_microvm(microvm_id: str, version: str) -> ApiRequest:
    """RestoreMicrovm of Emberbox's own service; sent again it would take back what came after."""
    path = _microvm(microvm_id, "/restore", prefix=EMBERBOX)
    return _json("POST", path, {"imageVersion": version}, service="emberbox", repeats=False)


# --- images


def create_image(members: Members) -> ApiRequest:
    """CreateMicrovmImage."""
    return _json("POST", f"{MICROVMS}/microvm-images", {"clientToken": new_token(), **members})


def update_image(image_arn: str, members: Members) -> ApiRequest:
    """UpdateMicrovmImage: a further version."""
    return _json("PUT", _image(image_arn), {"clientToken": new_token(), **members})


def get_image(image_arn: str) -> ApiRequest:
    """GetMicrovmImage."""
    return ApiRequest("GET", _image(image_arn))


def get_image_version(image_arn: str, version: str) -> ApiRequest:
    """GetMicrovmImageVersion."""
    return ApiRequest("GET", _image(image_arn, f"/versions/{quote(version, safe='')}"))


def delete_image_version(image_arn: str, version: str) -> ApiRequest:
    """DeleteMicrovmImageVersion."""
    return ApiRequest("DELETE", _image(image_arn, f"/versions/{quote(version, safe='')}"))


def list_image_builds(image_arn: str, version: str) -> ApiRequest:
    """ListMicrovmImageBuilds of a version: how it was built, or why not."""
    return ApiRequest("GET", _image(image_arn, f"/versions/{quote(version, safe='')}/builds"))


def list_images(name: str = "", next_token: str = "") -> ApiRequest:
    """ListMicrovmImages whose names have `name` in them, one page."""
    asked = {"maxResults": "50", "nameFilter": name, "nextToken": next_token}
    query = {key: value for key, value in asked.items() if value}
    return ApiRequest("GET", f"{MICROVMS}/microvm-images", query=query)


def delete_image(image_arn: str) -> ApiRequest:
    """DeleteMicrovmImage."""
    return ApiRequest("DELETE", _image(image_arn))


# --- logs


def log_group(image: str) -> str:
    """Return the log group of an image, by its name or ARN: of its builds, and of what its sandboxes write."""
    return f"/aws/lambda-microvms/{image.rpartition(':')[2]}"


def filter_log_events(group: str, start_ms: int, next_token: str = "", streams: Sequence[str] = ()) -> ApiRequest:
    """FilterLogEvents of CloudWatch Logs, one page."""
    asked = {"logGroupName": group, "startTime": start_ms, "nextToken": next_token or None}
    return _logs("FilterLogEvents", {**asked, "logStreamNames": list(streams) or None})


def describe_log_groups(prefix: str, next_token: str = "") -> ApiRequest:
    """DescribeLogGroups of CloudWatch Logs whose names begin so, one page."""
    return _logs("DescribeLogGroups", {"logGroupNamePrefix": prefix or None, "nextToken": next_token or None})


def _logs(operation: str, members: Members) -> ApiRequest:
    asked = _json("POST", "/", members, service="logs")
    headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": f"Logs_20140328.{operation}"}
    return ApiRequest("POST", "/", "logs", body=asked.body, headers=headers)


# --- S3


def create_bucket(bucket: str, region: str) -> ApiRequest:
    """CreateBucket, by its path."""
    text = f"<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
    return ApiRequest("PUT", f"/{bucket}", "s3", body=b"" if region == "us-east-1" else text.encode())


def put_object(bucket: str, key: str, body: bytes) -> ApiRequest:
    """PutObject, by its path."""
    return ApiRequest("PUT", f"/{bucket}/{key}", "s3", body=body)


# --- answers


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """Return the error that an answer of the API stands for."""
    code = headers.get("x-amzn-errortype", "").partition(":")[0]
    message = ""
    try:
        content = json.loads(body)
        message = str(content.get("message") or content.get("Message") or "")
        code = code or str(content.get("__type", "")).rpartition("#")[2]
    except (ValueError, AttributeError):
        code = code or _between(body, b"<Code>", b"</Code>")
        message = _between(body, b"<Message>", b"</Message>")
    kind, hint = _KINDS.get(code) or _BY_STATUS.get(status, (ApiError, ""))
    request_id = headers.get("x-amzn-requestid", "")
    return kind(message or f"the server answered {status}", hint, code=code, status=status, request_id=request_id)


def _between(body: bytes, begin: bytes, end: bytes) -> str:
    return body.partition(begin)[2].partition(end)[0].decode(errors="replace")


_NO_KEY = 'the credentials are not of this server: run `eval "$(emberbox env)"` again'
_SLOWER = "ask less often, or let the operator raise the limit: emberbox quotas"
_KINDS: Final[Mapping[str, tuple[type[ApiError], str]]] = {
    "ResourceNotFoundException": (NotFoundError, "`emberbox ps --all` lists what there is"),
    "AccessDeniedException": (AccessError, "an administrator allows it with `emberbox policies`"),
    "UnrecognizedClientException": (AccessError, _NO_KEY),
    "InvalidSignatureException": (AccessError, _NO_KEY),
    "MissingAuthenticationTokenException": (AccessError, _NO_KEY),
    "ConflictException": (ConflictError, "wait until it has settled, then try again"),
    "ServiceQuotaExceededException": (QuotaError, "end some with terminate(), or raise the limit: emberbox quotas"),
    "ThrottlingException": (QuotaError, _SLOWER),
    "TooManyRequestsException": (QuotaError, _SLOWER),
}
_BY_STATUS: Final[Mapping[int, tuple[type[ApiError], str]]] = {
    HTTPStatus.NOT_FOUND: (NotFoundError, ""),
    HTTPStatus.FORBIDDEN: (AccessError, ""),
    HTTPStatus.CONFLICT: (ConflictError, ""),
    HTTPStatus.TOO_MANY_REQUESTS: (QuotaError, _SLOWER),
}


def should_repeat(request: ApiRequest, error: EmberboxError) -> bool:
    """Return whether sending a request again may help, and cannot do twice what was to be done once.

    Args:
        request: what was sent.
        error: what came of it; an `UnreachableError` with `status` None never reached the server.
    """
    if isinstance(error, QuotaError):
        return error.code != "ServiceQuotaExceededException"
    if isinstance(error, ApiError):
        return error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and request.repeats
    return isinstance(error, UnreachableError) and request.repeats


def pause_before(attempt: int, spread: float) -> float:
    """Return how many seconds to wait before a further attempt.

    Args:
        attempt: how many have failed, from 1.
        spread: a random number from 0 to 1, so that clients do not come back together.
    """
    longest: float = min(RETRY_FIRST_S * 2 ** (attempt - 1), RETRY_MOST_S)
    return longest * (0.5 + 0.5 * spread)
