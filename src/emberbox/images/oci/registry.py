"""An image in a registry (OCI distribution specification 1.1, "Pull"; Docker's token authentication)."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final

from emberbox.images.oci.credentials import Login
from emberbox.images.oci.documents import (
    DOCUMENT_BYTES_MAX,
    INDEXES,
    MANIFESTS,
    Descriptor,
    Document,
    digest_of,
    invalid,
)
from emberbox.images.oci.layers import CHUNK
from emberbox.model.errors import BuildError
from emberbox.model.image_references import DOCKER_HUB, ImageReference

ANSWER_TIMEOUT_S: Final = 60.0
TRIES: Final = 3
_TRY_AGAIN_S: Final = 1.0
_HOST_OF_DOCKER_HUB: Final = "registry-1.docker.io"
_CHALLENGE: Final = re.compile(r'([a-zA-Z_]+)="([^"]*)"')
_TOKEN_BYTES_MAX: Final = 1 << 20
_REASONS: Final = {
    401: "it asks for a login; the operator gives one in the file of EMBERBOX_REGISTRY_AUTH",
    403: "it denies access; check the name, and the login in the file of EMBERBOX_REGISTRY_AUTH",
    404: "it has no such image; check name and tag",
    429: "it has answered too often lately; try later, or with a login (EMBERBOX_REGISTRY_AUTH)",
}
_PASSING: Final = (500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Access:
    """How a registry is spoken to.

    Args:
        is_plain: by HTTP, without TLS.
        is_direct: without a proxy that the environment names.
        login: whose images; None for everybody's.
    """

    is_plain: bool = False
    is_direct: bool = False
    login: Login | None = None


class Registry:
    """The image of a reference: see `documents.Source`.

    Args:
        reference: which image.
        access: how the registry is spoken to.
    """

    def __init__(self, reference: ImageReference, access: Access) -> None:
        self._reference = reference
        self._access = access
        host = _HOST_OF_DOCKER_HUB if reference.registry == DOCKER_HUB else reference.registry
        self._base = f"{'http' if access.is_plain else 'https'}://{host}/v2/{reference.name}"
        self._authorization: str | None = None
        proxies = [urllib.request.ProxyHandler({})] if access.is_direct else []
        self._opener = urllib.request.build_opener(_Redirects(), *proxies)

    def top(self) -> Document:
        """See there."""
        with self._get(f"manifests/{self._reference.version}", {"Accept": ", ".join(MANIFESTS + INDEXES)}) as answer:
            content = _read_document(answer)
            media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if self._reference.digest not in (None, digest_of(content)):
            raise invalid(f"the registry sent another image than {self._reference}; it is not to be trusted")
        return Document(_stated_type(content) or media_type, content)

    def document(self, descriptor: Descriptor) -> bytes:
        """See there."""
        kind = "manifests" if descriptor.media_type in MANIFESTS + INDEXES else "blobs"
        with self._get(f"{kind}/{descriptor.digest}", {"Accept": descriptor.media_type}) as answer:
            return _read_document(answer)

    def blob(self, descriptor: Descriptor, write: Callable[[bytes], object]) -> None:
        """See there."""
        with self._get(f"blobs/{descriptor.digest}", {}) as answer:
            try:
                while piece := answer.read(CHUNK):
                    write(piece)
            except (OSError, http.client.HTTPException) as error:
                raise self._failed(f"a layer broke off ({error}); try again") from error

    def _get(self, path: str, headers: Mapping[str, str]) -> Any:
        """Ask for something; what fails in passing is asked for again, and a login that has expired is made anew."""
        has_logged_in = False
        for left in reversed(range(TRIES)):
            try:
                return self._open(f"{self._base}/{path}", headers)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 401 and not has_logged_in and (asked := error.headers["WWW-Authenticate"]):
                    self._authorization, has_logged_in = self._log_in(asked), True
                elif error.code not in _PASSING or not left:
                    raise self._failed(_REASONS.get(error.code, f"it answered {error.code}; try again")) from error
                else:
                    time.sleep(_TRY_AGAIN_S)
            except (OSError, http.client.HTTPException) as error:
                if not left:
                    raise self._failed(
                        f"it cannot be reached ({getattr(error, 'reason', error)}); builds have the network of "
                        "microVMs, and registries of the host's own are named by the operator (EMBERBOX_REGISTRIES)"
                    ) from error
                time.sleep(_TRY_AGAIN_S)
        raise self._failed(_REASONS[401])

    def _open(self, url: str, headers: Mapping[str, str]) -> Any:
        request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - http or https, see _base
        if self._authorization is not None:
            request.add_unredirected_header("Authorization", self._authorization)
        return self._opener.open(request, timeout=ANSWER_TIMEOUT_S)

    def _log_in(self, challenge: str) -> str:
        """Return the value of Authorization that a challenge asks for (RFC 7235; Docker's "Bearer" of its own)."""
        scheme, _, rest = challenge.partition(" ")
        login = self._access.login
        if scheme.lower() == "basic":
            if login is None:
                raise self._failed(_REASONS[401])
            return login.basic
        asked = {key.lower(): value for key, value in _CHALLENGE.findall(rest)}
        realm = asked.pop("realm", "")
        wanted = ("http", "https") if self._access.is_plain else ("https",)
        if scheme.lower() != "bearer" or urllib.parse.urlsplit(realm).scheme not in wanted:
            raise self._failed(f"it asks for a login in a way that is not known here: {challenge[:200]!r}")
        scope = asked.get("scope") or f"repository:{self._reference.name}:pull"
        query = urllib.parse.urlencode({"service": asked.get("service", ""), "scope": scope})
        request = urllib.request.Request(f"{realm}{'&' if '?' in realm else '?'}{query}")  # noqa: S310 - checked above
        if login is not None:
            request.add_unredirected_header("Authorization", login.basic)
        return f"Bearer {self._fetch_token(request)}"

    def _fetch_token(self, request: urllib.request.Request) -> str:
        try:
            with self._opener.open(request, timeout=ANSWER_TIMEOUT_S) as answer:
                told = json.loads(answer.read(_TOKEN_BYTES_MAX))
                token = told.get("token") or told["access_token"]
        except urllib.error.HTTPError as error:
            error.close()
            raise self._failed(_REASONS.get(error.code, f"no login is to be had: {error.code}")) from error
        except (OSError, http.client.HTTPException, ValueError, KeyError, AttributeError) as error:
            raise self._failed(f"no login is to be had from {request.host}: {error}") from error
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise self._failed("it gave a token that makes no sense")
        return token

    def _failed(self, why: str) -> BuildError:
        return BuildError("CONTAINER_BUILD_FAILED", f"{self._reference} cannot be had of its registry: {why}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections, as to where blobs are stored, but from HTTPS never to HTTP."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See `HTTPRedirectHandler`; headers that were added as unredirected stay behind."""
        if req.type == "https" and urllib.parse.urlsplit(newurl).scheme != "https":
            raise urllib.error.HTTPError(req.full_url, code, "it leads from HTTPS to HTTP", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _read_document(answer: Any) -> bytes:
    content: bytes = answer.read(DOCUMENT_BYTES_MAX + 1)
    if len(content) > DOCUMENT_BYTES_MAX:
        raise invalid(f"the registry sent a document larger than {DOCUMENT_BYTES_MAX} bytes")
    return content


def _stated_type(content: bytes) -> str | None:
    """Return the media type that a document says of itself, which counts more than the header does (OCI, 1.1)."""
    try:
        found = json.loads(content).get("mediaType")
    except (ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) else None
