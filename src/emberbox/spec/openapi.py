"""An OpenAPI 3.1 document of a rest-json service, made from its service model.

Emberbox's own operations are described once, in botocore's form; this is the same description for everybody whose
tools read OpenAPI. Requests are signed with SigV4, which OpenAPI can only name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

from botocore.model import OperationModel, Shape

from emberbox.spec.models import EMBERBOX, load_operation, load_service, operation_names

Document = dict[str, Any]

_LOCATIONS: Final = {"uri": "path", "querystring": "query", "header": "header"}
_SCALARS: Final[dict[str, Document]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "float": {"type": "number"},
    "double": {"type": "number"},
    "boolean": {"type": "boolean"},
    "blob": {"type": "string", "contentEncoding": "base64"},
    "timestamp": {"type": "number", "description": "Seconds since 1970."},
}
_LIMITS: Final = {
    "string": {"min": "minLength", "max": "maxLength", "pattern": "pattern"},
    "integer": {"min": "minimum", "max": "maximum"},
    "long": {"min": "minimum", "max": "maximum"},
    "list": {"min": "minItems", "max": "maxItems"},
    "map": {"min": "minProperties", "max": "maxProperties"},
}


def render_openapi(service: str = EMBERBOX) -> Document:
    """Return the document of a service.

    Args:
        service: the name of a rest-json service.
    """
    model = load_service(service)
    paths: Document = {}
    schemas: Document = {}
    for name in operation_names(service):
        operation = load_operation(service, name)
        path = operation.http["requestUri"].partition("?")[0].replace("+}", "}")
        paths.setdefault(path, {})[operation.http["method"].lower()] = _operation(operation, schemas)
    signature = {"type": "apiKey", "in": "header", "name": "Authorization", "x-amazon-apigateway-authtype": "awsSigv4"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": model.metadata["serviceFullName"],
            "version": model.api_version,
            "description": _text(model.documentation),
        },
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"sigv4": signature}},
        "security": [{"sigv4": []}],
    }


def _operation(operation: OperationModel, schemas: Document) -> Document:
    parameters, body = _input(operation.input_shape, schemas)
    document: Document = {
        "operationId": operation.name,
        "description": _text(operation.documentation),
        "parameters": parameters,
        "responses": dict(_responses(operation, schemas)),
    }
    if body is not None:
        document["requestBody"] = {"required": bool(body.get("required")), "content": _json(body)}
    return document


def _input(shape: Shape | None, schemas: Document) -> tuple[list[Document], Document | None]:
    """Part the members into parameters and the schema of the body; None when there is no body."""
    if shape is None:
        return [], None
    located = {name: member for name, member in shape.members.items() if "location" in member.serialization}
    parameters = [
        {
            "name": member.serialization.get("name", name),
            "in": _LOCATIONS[member.serialization["location"]],
            "required": name in shape.required_members,
            "description": _text(member.documentation),
            "schema": _schema(member, schemas),
        }
        for name, member in located.items()
    ]
    rest = {name: member for name, member in shape.members.items() if name not in located}
    return parameters, _structure(shape, rest, schemas) if rest else None


def _responses(operation: OperationModel, schemas: Document) -> Iterator[tuple[str, Document]]:
    status = str(operation.http.get("responseCode", 200))
    success: Document = {"description": "Done."}
    if operation.output_shape is not None:
        success["content"] = _json(_schema(operation.output_shape, schemas))
    yield status, success
    refusals: dict[int, list[Shape]] = {}
    for shape in operation.error_shapes:
        refusals.setdefault(int(shape.metadata["error"]["httpStatusCode"]), []).append(shape)
    for code, shapes in sorted(refusals.items()):
        names = ", ".join(shape.name for shape in shapes)
        yield (
            str(code),
            {
                "description": f"{HTTPStatus(code).phrase}: {names}",
                "content": _json({"anyOf": [_schema(shape, schemas) for shape in shapes]}),
            },
        )


def _json(schema: Document) -> Document:
    return {"application/json": {"schema": schema}}


def _schema(shape: Shape, schemas: Document) -> Document:
    """Return the schema of a shape; structures are put among the document's own and named."""
    match shape.type_name:
        case "structure":
            if shape.name not in schemas:
                schemas[shape.name] = {}  # a place, should the shape contain itself
                schemas[shape.name] = _structure(shape, shape.members, schemas)
            return {"$ref": f"#/components/schemas/{shape.name}"}
        case "list":
            schema: Document = {"type": "array", "items": _schema(shape.member, schemas)}
        case "map":
            schema = {"type": "object", "additionalProperties": _schema(shape.value, schemas)}
        case kind:
            schema = dict(_SCALARS[kind])
    for trait, keyword in _LIMITS.get(shape.type_name, {}).items():
        if trait in shape.metadata:
            schema[keyword] = shape.metadata[trait]
    if shape.metadata.get("enum"):
        schema["enum"] = shape.metadata["enum"]
    return schema


def _structure(shape: Shape, members: dict[str, Shape], schemas: Document) -> Document:
    described = {name: _described(member, schemas) for name, member in members.items()}
    schema: Document = {"type": "object", "properties": described}
    required = [name for name in shape.required_members if name in members]
    return schema | ({"required": required} if required else {})


def _described(member: Shape, schemas: Document) -> Document:
    text = _text(member.documentation)
    return _schema(member, schemas) | ({"description": text} if text else {})


def _text(html: str) -> str:
    """Return a model's documentation without its tags."""
    return re.sub(r"<[^>]+>", "", html or "").strip()
