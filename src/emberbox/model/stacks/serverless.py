"""The transform of SAM, `AWS::Serverless-2016-10-31`, as far as it has something to do here.

SAM makes resources out of its own kinds, all of which stand for functions, APIs, tables and the like: nothing that is
here. What remains of it are templates that name the transform and declare plain resources: for them it takes
`Transform` and `Globals` away, which are about its own resources alone. Its refusals are worded as its own.
"""

from __future__ import annotations

from typing import Any, Final

from emberbox.model.errors import ValidationError

SERVERLESS: Final = "AWS::Serverless-2016-10-31"
_TYPE: Final = "AWS::Serverless::"
_GLOBALS: Final = ("Api", "CapacityProvider", "Function", "HttpApi", "LayerVersion", "SimpleTable", "StateMachine")
"""The sections of Globals ("Globals section of the AWS SAM template")."""

Document = dict[str, Any]
"""A template, read. Any: whatever JSON has."""


def declared_transforms(document: Document) -> tuple[str, ...]:
    """Return the transforms that a template names.

    Raises:
        ValidationError: it names them in another form than a text or a list of texts, or one that is not offered.
    """
    given = document.get("Transform")
    if given is None:
        return ()
    listed = given if isinstance(given, list) else [given]
    for one in listed:
        name = one.get("Name") if isinstance(one, dict) else one
        if not isinstance(name, str):
            raise ValidationError("Template format error: [/Transform] must be a text or a list of texts.")
        if name != SERVERLESS:
            raise ValidationError(f"No transform named {name} found. Emberbox has {SERVERLESS} alone.")
    return (SERVERLESS,)


def transform(document: Document) -> Document:
    """Return a template as it is when its transforms have been carried out.

    Args:
        document: the template; it stays as it is.

    Raises:
        ValidationError: see `declared_transforms`; it has resources of SAM's own, or Globals that are malformed.
    """
    if not declared_transforms(document):
        return document
    wrong = [*_wrong_globals(document.get("Globals")), *_wrong_resources(document.get("Resources"))]
    if wrong:
        raise ValidationError(
            f"Transform {SERVERLESS} failed with: Invalid Serverless Application Specification document. "
            f"Number of errors found: {len(wrong)}. {' '.join(wrong)}"
        )
    return {name: value for name, value in document.items() if name not in ("Transform", "Globals")}


def _wrong_globals(given: Any) -> list[str]:
    if given is None:
        return []
    if not isinstance(given, dict):
        return ["'Globals' section is invalid. It must be a non-empty dictionary."]
    return [
        f"'Globals' section is invalid. '{name}' is not supported. Must be one of the following values - "
        f"{list(_GLOBALS)}."
        for name in given
        if name not in _GLOBALS
    ]


def _wrong_resources(given: Any) -> list[str]:
    resources = given if isinstance(given, dict) else {}
    return [
        f"Resource with id [{name}] is invalid. {value['Type']} is not offered by Emberbox: it has microVMs, and no "
        "functions, APIs or tables; docs/cloudformation.md lists the types that are."
        for name, value in resources.items()
        if isinstance(value, dict) and str(value.get("Type", "")).startswith(_TYPE)
    ]
