"""Who signed, in every form that clients sign: headers and URLs of both versions, forms, and bodies in chunks."""

from __future__ import annotations

import hashlib
import hmac
import socket
import urllib.error
import urllib.parse
import urllib.request
import zlib
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from emberbox.s3.chunks import ChunkedBody
from emberbox.s3.errors import S3Error
from emberbox.s3.signatures import signing_key
from support.s3 import REGION, World


def fetch(url: str, method: str = "GET", data: Any = None, **headers: str) -> tuple[int, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_presigned_urls(world: World, bucket: str, version: str) -> None:
    s3 = world.client(signature_version=version)
    where = {"Bucket": bucket, "Key": "a b/ü+.txt"}
    described = where | {"ContentType": "text/plain", "Metadata": {"m": "1"}}
    put = s3.generate_presigned_url("put_object", described)
    assert fetch(put, "PUT", b"content", Content_Type="text/plain", x_amz_meta_m="1")[0] == 200
    assert s3.head_object(**where)["Metadata"] == {"m": "1"}
    get = s3.generate_presigned_url("get_object", where | {"ResponseContentDisposition": "inline; x=1"})
    assert fetch(get) == (200, b"content")
    assert fetch(get, "DELETE")[0] == 403
    assert fetch(get.replace("%2B", "x"))[0] == 403
    assert fetch(get + "&versionId=null")[0] == 403
    assert fetch(s3.generate_presigned_url("delete_object", where), "DELETE")[0] == 204
    assert fetch(get)[0] == 404


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_presigned_urls_end(world: World, bucket: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = world.client(signature_version=version)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    earlier = datetime.now(UTC) - timedelta(hours=2)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: earlier.replace(tzinfo=None))
    monkeypatch.setattr("botocore.auth.time.time", earlier.timestamp)
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"}, ExpiresIn=60)
    status, body = fetch(url)
    assert status == 403
    assert b"Request has expired" in body


def form(fields: dict[str, str], name: str, content: bytes) -> tuple[bytes, str]:
    lines = b""
    for key, value in fields.items():
        lines += f'--X\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
    head = (
        f'--X\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: a/b\r\n\r\n'.encode()
    )
    return lines + head + content + b"\r\n--X--\r\n", "multipart/form-data; boundary=X"


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_a_form_with_a_signed_policy(world: World, bucket: str, version: str) -> None:
    s3 = world.client(signature_version=version)
    conditions: list[Any] = [
        ["starts-with", "$key", "up/"],
        ["content-length-range", 2, 1_000_000],
        {"x-amz-meta-m": "1"},
        {"success_action_status": "201"},
    ]
    more = {"x-amz-meta-m": "1", "success_action_status": "201"}
    post = s3.generate_presigned_post(bucket, "up/${filename}", more, conditions)
    content = bytes(range(256)) * 1000 + b"\r\n--X-not-the-end"

    def send(change: dict[str, str | None], content: bytes = content) -> tuple[int, bytes]:
        fields = {key: value for key, value in (post["fields"] | change).items() if value is not None}
        body, kind = form(fields, "file.bin", content)
        return fetch(post["url"], "POST", body, Content_Type=kind)

    status, body = send({})
    assert status == 201, body
    assert b"<Key>up/file.bin</Key>" in body
    answer = s3.get_object(Bucket=bucket, Key="up/file.bin")
    assert (answer["Body"].read(), answer["Metadata"]) == (content, {"m": "1"})
    for change in (
        {"key": "elsewhere"},
        {"x-amz-meta-m": "ü€"},
        {"x-amz-meta-m": "2"},
        {"x-amz-meta-n": "1"},
        {"policy": b64encode(b'{"expiration":"2099-01-01T00:00:00Z","conditions":[]}').decode()},
        {"policy": None},
    ):
        assert send({**change, "success_action_status": "201"})[0] == 403
    assert send({}, b"x")[0] == 400
    assert send({}, b"x" * 1_000_001)[0] == 400
    assert s3.get_object(Bucket=bucket, Key="up/file.bin")["Body"].read() == content
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


@pytest.mark.parametrize(
    "host", ["{}.s3.us-east-1.amazonaws.com", "{}.s3.amazonaws.com", "{}.localhost", "{}.s3.localhost", "{}.ember.test"]
)
@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_the_bucket_is_in_the_host_name(
    world: World, bucket: str, host: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = host.format(bucket)
    own = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *more, **named: own("127.0.0.1", *more, **named))
    virtual = {"addressing_style": "virtual"}
    s3 = world.client(endpoint=f"http://{name.partition('.')[2]}:{world.port}", s3=virtual, signature_version=version)
    s3.put_object(Bucket=bucket, Key="a/ü", Body=b"content")
    assert s3.get_object(Bucket=bucket, Key="a/ü")["Body"].read() == b"content"
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["a/ü"]
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a/ü"})
    assert urllib.parse.urlsplit(url).netloc.startswith(f"{bucket}.")
    assert fetch(url) == (200, b"content")


# --- bodies in chunks


class Chunks:
    """Makes requests with a body in AWS's chunks, as SDKs do that stream."""

    def __init__(self, world: World, bucket: str) -> None:
        self.world, self.bucket = world, bucket
        who = world.home.operator
        self.credentials = Credentials(who.access_key_id, who.secret_access_key)

    def sign(self, kind: str, size: int, **headers: str) -> AWSRequest:
        url = f"{self.world.endpoint_url}/{self.bucket}/k"
        request = AWSRequest("PUT", url, headers={"host": f"127.0.0.1:{self.world.port}"})
        named = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(size), **headers}
        for name, value in named.items():
            request.headers[name] = value

        class Signer(S3SigV4Auth):
            def payload(self, request: Any) -> str:
                return kind

        Signer(self.credentials, "s3", REGION).add_auth(request)
        return request

    def send(self, request: AWSRequest, pieces: Iterator[bytes] | list[bytes], *, chunked: bool) -> int:
        """Send it, with Content-Length or with Transfer-Encoding; return the status."""
        raw = b"".join(pieces)
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        head += "Transfer-Encoding: chunked\r\n" if chunked else f"Content-Length: {len(raw)}\r\n"
        with socket.create_connection(("127.0.0.1", self.world.port), timeout=60) as peer:
            peer.sendall(f"PUT /{self.bucket}/k HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
            if chunked:
                for start in range(0, len(raw), 7001):
                    piece = raw[start : start + 7001]
                    peer.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                peer.sendall(b"0\r\n\r\n")
            else:
                peer.sendall(raw)
            return int(peer.recv(65536).split()[1])

    def signed_pieces(self, request: AWSRequest, data: list[bytes], trailer: bytes | None) -> list[bytes]:
        date = request.headers["X-Amz-Date"]
        scope = f"{date[:8]}/{REGION}/s3/aws4_request"
        key = signing_key(self.credentials.secret_key, (date[:8], REGION, "s3"))
        previous = request.headers["Authorization"].rpartition("Signature=")[2]

        def sign(algorithm: str, rest: str) -> str:
            nonlocal previous
            text = f"{algorithm}\n{date}\n{scope}\n{previous}\n{rest}"
            previous = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
            return previous

        empty, pieces = hashlib.sha256(b"").hexdigest(), []
        for one in [*data, b""]:
            signature = sign("AWS4-HMAC-SHA256-PAYLOAD", f"{empty}\n{hashlib.sha256(one).hexdigest()}")
            pieces.append(f"{len(one):x};chunk-signature={signature}\r\n".encode() + one + (b"\r\n" if one else b""))
        if trailer is not None:
            signature = sign("AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(trailer + b"\n").hexdigest())
            pieces += [trailer + b"\r\n", f"x-amz-trailer-signature:{signature}\r\n".encode()]
        return [*pieces, b"\r\n"]


@pytest.fixture
def chunks(world: World, bucket: str) -> Chunks:
    return Chunks(world, bucket)


DATA = [bytes([number]) * 70_000 for number in range(3)]
WHOLE = b"".join(DATA)
CRC = b"x-amz-checksum-crc32:" + b64encode(zlib.crc32(WHOLE).to_bytes(4, "big"))
WRONG = b"x-amz-checksum-crc32:AAAAAA=="


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("trailer", "status"), [(CRC, 200), (WRONG, 400)])
def test_unsigned_chunks_with_a_trailer(chunks: Chunks, chunked: bool, trailer: bytes, status: int) -> None:
    s3 = chunks.world.client()
    s3.put_object(Bucket=chunks.bucket, Key="k", Body=b"old")
    more = {"x-amz-trailer": "x-amz-checksum-crc32"}
    request = chunks.sign("STREAMING-UNSIGNED-PAYLOAD-TRAILER", len(WHOLE), **more)
    pieces = [f"{len(one):x}\r\n".encode() + one + b"\r\n" for one in DATA] + [b"0\r\n", trailer + b"\r\n\r\n"]
    assert chunks.send(request, pieces, chunked=chunked) == status
    answer = s3.get_object(Bucket=chunks.bucket, Key="k")
    assert answer["Body"].read() == (WHOLE if status == 200 else b"old")
    assert "ContentEncoding" not in answer


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("trailer", [None, CRC])
def test_signed_chunks(chunks: Chunks, chunked: bool, trailer: bytes | None) -> None:
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")
    more = {"x-amz-trailer": "x-amz-checksum-crc32"} if trailer else {}
    s3 = chunks.world.client()
    s3.put_object(Bucket=chunks.bucket, Key="k", Body=b"old")
    for damage in (0, 1, 2):
        request = chunks.sign(kind, len(WHOLE), **more)
        pieces = chunks.signed_pieces(request, DATA, trailer)
        if damage == 1:
            pieces[1] = pieces[1][:-3] + b"?\r\n"
        if damage == 2:
            pieces[0], pieces[1] = pieces[1], pieces[0]
        status = chunks.send(request, pieces, chunked=chunked)
        assert status == (403 if damage else 200)
        if not damage:
            assert s3.get_object(Bucket=chunks.bucket, Key="k")["Body"].read() == WHOLE
            s3.put_object(Bucket=chunks.bucket, Key="k", Body=b"old")
    assert s3.get_object(Bucket=chunks.bucket, Key="k")["Body"].read() == b"old"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"5\r\nabc",
        b"zz\r\n",
        b"3\r\nabcX\r\n0\r\n\r\n",
        b"-1\r\n",
        b"1" * 20 + b"\r\n",
        b"1" * 9000,
        b"3\r\nabc\r\n",
    ],
)
def test_chunks_that_are_malformed_are_refused(raw: bytes) -> None:
    with pytest.raises(S3Error):
        list(ChunkedBody([raw], None, has_trailer=False))


def test_chunks_may_be_cut_anywhere() -> None:
    raw = b"".join(f"{len(one):x}\r\n".encode() + one + b"\r\n" for one in (b"a" * 300, b"b")) + b"0\r\nn: v\r\n\r\n"
    for size in (1, 2, 3, 7, 64, 1000):
        body = ChunkedBody((raw[at : at + size] for at in range(0, len(raw), size)), None, has_trailer=True)
        assert b"".join(body) == b"a" * 300 + b"b"
        assert body.trailers == {"n": "v"}


def test_requests_far_from_now_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = datetime.now(UTC) - timedelta(minutes=20)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: earlier.replace(tzinfo=None))
    s3 = world.client()
    with pytest.raises(s3.exceptions.ClientError, match="RequestTimeTooSkewed"):
        s3.list_buckets()


def test_a_body_that_is_not_what_was_signed_changes_nothing(chunks: Chunks) -> None:
    s3 = chunks.world.client()
    s3.put_object(Bucket=chunks.bucket, Key="k", Body=b"old")
    request = chunks.sign(hashlib.sha256(b"this").hexdigest(), 4)
    del request.headers["content-encoding"]
    plain = AWSRequest("PUT", request.url, headers={"host": f"127.0.0.1:{chunks.world.port}"})

    class Signer(S3SigV4Auth):
        def payload(self, request: Any) -> str:
            return hashlib.sha256(b"this").hexdigest()

    Signer(chunks.credentials, "s3", REGION).add_auth(plain)
    assert chunks.send(plain, [b"that"], chunked=False) == 400
    assert chunks.send(plain, [b"this"], chunked=True) == 411
    assert s3.get_object(Bucket=chunks.bucket, Key="k")["Body"].read() == b"old"
    assert chunks.send(plain, [b"this"], chunked=False) == 200
