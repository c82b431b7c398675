"""The page: what console/build.py has bundled, with names that say what is in each file."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response

DIRECTORY: Final = Path(__file__).resolve().parents[2] / "_console"
_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".map": "application/json", ".txt": "text/plain"}
_FOR_EVER: Final = {"cache-control": "public, max-age=31536000, immutable"}
_MISSING: Final = (
    "The console's page has not been made: run `python console/build.py` in the checkout, which needs a registry of "
    "npm packages (docs/console.md).\n"
)
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Emberbox</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="assets/{style}">
<script type="module" nonce="{nonce}" src="assets/{script}"></script>
</head>
<body><div id="app"></div><noscript>The console needs JavaScript.</noscript></body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Assets:
    """The bundled files of one directory.

    Args:
        directory: where they are.
    """

    directory: Path = DIRECTORY

    def page(self) -> Response:
        """Return the page, with a nonce for what may put styles into it; 503 where it has not been made."""
        try:
            manifest = json.loads((self.directory / "manifest.json").read_text())
        except FileNotFoundError:
            return PlainTextResponse(_MISSING, 503)
        nonce = secrets.token_urlsafe(16)
        response = HTMLResponse(_PAGE.format(nonce=nonce, **manifest))
        response.headers["content-security-policy"] = policy(nonce)
        return response

    def file(self, name: str) -> Response:
        """Return a bundled file; 404 where there is none of the name."""
        path = self.directory / name
        if "/" in name or path.suffix not in _TYPES or not path.is_file():
            return PlainTextResponse("There is no such file.\n", 404)
        return FileResponse(path, media_type=_TYPES[path.suffix], headers=_FOR_EVER)


def policy(nonce: str | None = None) -> str:
    """Return the content security policy: everything from here, nothing in the text of the page.

    Args:
        nonce: of the styles that the terminal makes while it runs; None where nothing is shown.
    """
    if nonce is None:
        return "default-src 'none'; frame-ancestors 'none'; sandbox"
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            f"style-src 'self' 'nonce-{nonce}'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
