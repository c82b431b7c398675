"""What a template declares ("CloudFormation template sections")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from emberbox.model.errors import ValidationError
from emberbox.model.stacks.cdk import own_type
from emberbox.model.stacks.reading import read_values
from emberbox.model.stacks.serverless import declared_transforms, transform

BODY_MAX: Final = 51_200
OBJECT_MAX: Final = 1_000_000
"""Bytes of a template in a request, and of one in S3 ("CloudFormation quotas")."""

RESOURCES_MAX: Final = 500
PARAMETERS_MAX: Final = 200
OUTPUTS_MAX: Final = 200
MAPPINGS_MAX: Final = 200

_MACRO: Final = "Fn::Transform"
_SECTIONS: Final = frozenset(
    {
        "AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules", "Mappings", "Conditions",
        "Resources", "Outputs",
    }
)  # fmt: skip
_LOGICAL_ID: Final = re.compile(r"[A-Za-z0-9]{1,255}", re.ASCII)
_RESOURCE_MEMBERS: Final = frozenset(
    {
        "Type", "Properties", "DependsOn", "Condition", "DeletionPolicy", "UpdateReplacePolicy", "Metadata",
        "Description",
    }
)  # fmt: skip
_POLICIES: Final = frozenset({"Delete", "Retain", "RetainExceptOnCreate"})
_PARAMETER_MEMBERS: Final = frozenset(
    {
        "Type", "Default", "AllowedValues", "AllowedPattern", "ConstraintDescription", "Description", "MaxLength",
        "MinLength", "MaxValue", "MinValue", "NoEcho",
    }
)  # fmt: skip

Values = Mapping[str, Any]
"""Values of a template by their names. Any: whatever JSON has."""


@dataclass(frozen=True, slots=True)
class DeclaredResource:
    """A resource that a template declares; `deletion_policy` is Delete, Retain or RetainExceptOnCreate."""

    logical_id: str
    type: str
    properties: Values
    depends_on: tuple[str, ...] = ()
    condition: str | None = None
    deletion_policy: str = "Delete"
    replace_policy: str = "Delete"
    metadata: Values | None = None


@dataclass(frozen=True, slots=True)
class DeclaredParameter:
    """A parameter that a template declares; what says nothing is None."""

    name: str
    type: str
    default: str | None = None
    allowed_values: tuple[str, ...] = ()
    allowed_pattern: str | None = None
    lengths: tuple[int | None, int | None] = (None, None)
    bounds: tuple[float | None, float | None] = (None, None)
    description: str | None = None
    constraint: str | None = None
    no_echo: bool = False


@dataclass(frozen=True, slots=True)
class DeclaredOutput:
    """An output that a template declares; value and export name are not resolved yet."""

    key: str
    value: Any
    description: str | None = None
    export: Any = None
    condition: str | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """All that a template declares."""

    resources: Mapping[str, DeclaredResource]
    parameters: Mapping[str, DeclaredParameter] = field(default_factory=dict)
    outputs: Mapping[str, DeclaredOutput] = field(default_factory=dict)
    mappings: Values = field(default_factory=dict)
    conditions: Values = field(default_factory=dict)
    rules: Values = field(default_factory=dict)
    description: str | None = None
    metadata: Values | None = None
    transforms: tuple[str, ...] = ()

    @property
    def types(self) -> list[str]:
        """The types of its resources, each once."""
        return sorted({resource.type for resource in self.resources.values()})


def parse_template(text: str) -> Template:
    """Read a template.

    Raises:
        ValidationError: it is malformed, too large, or asks for what no transform here makes; the message names the
            place.
    """
    if len(text.encode(errors="surrogatepass")) > OBJECT_MAX:
        raise ValidationError(f"Template may not exceed {OBJECT_MAX} bytes in size.")
    document = read_values(text)
    if not isinstance(document, dict):
        raise _malformed("unsupported structure.")
    transforms = declared_transforms(document)
    document = transform(document)
    if unknown := sorted(document.keys() - _SECTIONS):
        raise ValidationError(f"Invalid template property or properties [{', '.join(unknown)}]")
    resources = _section(document, "Resources", RESOURCES_MAX)
    if not resources:
        raise _malformed("At least one Resources member must be defined.")
    template = Template(
        resources={name: _read_resource(name, value) for name, value in resources.items()},
        parameters={
            name: _read_parameter(name, value)
            for name, value in _section(document, "Parameters", PARAMETERS_MAX).items()
        },
        outputs={name: _read_output(name, value) for name, value in _section(document, "Outputs", OUTPUTS_MAX).items()},
        mappings=_section(document, "Mappings", MAPPINGS_MAX),
        conditions=_section(document, "Conditions", PARAMETERS_MAX),
        rules=_section(document, "Rules", PARAMETERS_MAX),
        description=_text(document.get("Description"), "Description"),
        metadata=document.get("Metadata"),
        transforms=transforms,
    )
    _check_names(template)
    return template


def _section(document: Values, name: str, most: int) -> dict[str, Any]:
    found = document.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _malformed(f"[/{name}] must be an object.")
    if _MACRO in found:
        raise ValidationError(
            f"[/{name}/{_MACRO}] is not offered by Emberbox, neither with AWS::Include nor with a macro: put what it "
            "would bring into the template itself."
        )
    if len(found) > most:
        raise ValidationError(f"Number of {name} {len(found)} is greater than maximum allowed {most}.")
    return found


def _read_resource(name: str, value: Any) -> DeclaredResource:
    place = f"/Resources/{name}"
    if not _LOGICAL_ID.fullmatch(name):
        raise _malformed(f"Resource name {name} is non alphanumeric.")
    _check_members(value, place, _RESOURCE_MEMBERS)
    kind, properties = value.get("Type"), value.get("Properties")
    if not isinstance(kind, str) or not kind:
        raise _malformed(f"[{place}] Every resource must contain a Type member.")
    if properties is not None and not isinstance(properties, dict):
        raise _malformed(f"[{place}/Properties] must be an object.")
    needs = value.get("DependsOn") or []
    listed = [needs] if isinstance(needs, str) else needs
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise _malformed(f"[{place}/DependsOn] must be a text or a list of texts.")
    return DeclaredResource(
        logical_id=name,
        type=own_type(name, kind),
        properties=properties or {},
        depends_on=tuple(listed),
        condition=_text(value.get("Condition"), f"{place}/Condition"),
        deletion_policy=_read_policy(value, place, "DeletionPolicy"),
        replace_policy=_read_policy(value, place, "UpdateReplacePolicy"),
        metadata=value.get("Metadata"),
    )


def _read_policy(value: Values, place: str, name: str) -> str:
    found = value.get(name, "Delete")
    if found not in _POLICIES:
        raise _malformed(f"[{place}/{name}] must be one of {', '.join(sorted(_POLICIES))} here, not {found}.")
    return str(found)


def _read_parameter(name: str, value: Any) -> DeclaredParameter:
    place = f"/Parameters/{name}"
    if not _LOGICAL_ID.fullmatch(name):
        raise _malformed(f"Parameter name {name} is non alphanumeric.")
    _check_members(value, place, _PARAMETER_MEMBERS)
    if not isinstance(value.get("Type"), str):
        raise _malformed(f"[{place}] Every Parameters object must contain a Type member.")
    default, allowed = value.get("Default"), value.get("AllowedValues", [])
    if not isinstance(allowed, list):
        raise _malformed(f"[{place}/AllowedValues] must be a list.")
    try:
        return DeclaredParameter(
            name=name,
            type=value["Type"],
            default=None if default is None else as_text(default, f"{place}/Default"),
            allowed_values=tuple(as_text(one, f"{place}/AllowedValues") for one in allowed),
            allowed_pattern=_text(value.get("AllowedPattern"), f"{place}/AllowedPattern"),
            lengths=(_number(value, "MinLength", int), _number(value, "MaxLength", int)),
            bounds=(_number(value, "MinValue", float), _number(value, "MaxValue", float)),
            description=_text(value.get("Description"), f"{place}/Description"),
            constraint=_text(value.get("ConstraintDescription"), f"{place}/ConstraintDescription"),
            no_echo=as_text(value.get("NoEcho", False), f"{place}/NoEcho").lower() == "true",
        )
    except ValueError:
        raise _malformed(f"[{place}] a bound is no number.") from None


def _number(value: Values, name: str, kind: Any) -> Any:
    return None if value.get(name) is None else kind(value[name])


def _read_output(name: str, value: Any) -> DeclaredOutput:
    place = f"/Outputs/{name}"
    _check_members(value, place, frozenset({"Value", "Description", "Export", "Condition"}))
    if "Value" not in value:
        raise _malformed(f"[{place}] Every Outputs member must contain a Value object.")
    export = value.get("Export")
    if export is not None and (not isinstance(export, dict) or set(export) != {"Name"}):
        raise _malformed(f"[{place}/Export] must be an object with a Name.")
    return DeclaredOutput(
        key=name,
        value=value["Value"],
        description=_text(value.get("Description"), f"{place}/Description"),
        export=None if export is None else export["Name"],
        condition=_text(value.get("Condition"), f"{place}/Condition"),
    )


def _check_names(template: Template) -> None:
    """Conditions and resources that others name are there."""
    for resource in template.resources.values():
        for name in resource.depends_on:
            if name not in template.resources:
                raise _malformed(f"Unresolved resource dependencies [{name}] in the Resources block of the template")
    named = [resource.condition for resource in template.resources.values()]
    named += [output.condition for output in template.outputs.values()]
    for condition in named:
        if condition is not None and condition not in template.conditions:
            raise _malformed(f"Unresolved condition {condition}: it is not in the Conditions block of the template")


def _check_members(value: Any, place: str, known: frozenset[str]) -> None:
    if not isinstance(value, dict):
        raise _malformed(f"[{place}] must be an object.")
    if unknown := sorted(value.keys() - known):
        raise _malformed(f"[{place}] {', '.join(unknown)} is not taken there.")


def as_text(value: Any, place: str) -> str:
    """Return a scalar as CloudFormation writes it.

    Raises:
        ValidationError: it is an object or a list.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise _malformed(f"[{place}] must be a text.")


def _text(value: Any, place: str) -> str | None:
    return None if value is None else as_text(value, place)


def _malformed(why: str) -> ValidationError:
    return ValidationError(f"Template format error: {why}")
