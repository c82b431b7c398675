"""The OpenAPI document of what a shell token opens. It is the rule, too: requests are held against its schemas."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any, Final

from jsonschema import Draft202012Validator

from emberbox.edges.gateway.data_plane.commands import RefusedError

DOCUMENT: Final[dict[str, Any]] = json.loads(resources.files(__package__).joinpath("openapi.json").read_text())


@functools.cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(DOCUMENT["components"]["schemas"][schema])


def check(content: Any, schema: str) -> None:
    """Hold JSON against a schema of the document.

    Raises:
        RefusedError: it breaks the schema; the text names the member and the limit.
    """
    error = next(_validator(schema).iter_errors(content), None)
    if error is not None:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
        raise RefusedError(400, f"{where.lstrip('.') or 'the request'}: {error.message}"[:1000])
