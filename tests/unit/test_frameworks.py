"""The agent frameworks: pins, extras, the document and the tests inside name the same."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement

from support.frameworks import ROOT, find_cases, read_frameworks

FRAMEWORKS = read_frameworks()
DOCUMENT = (ROOT / "docs/frameworks.md").read_text()
ROW = re.compile(r"^\| .+ \| `emberbox-sdk\[([\w-]+)\]` \| `([\w.]+)` \| ([\d.]+) \|$", re.MULTILINE)


def test_every_extra_is_tested_within_its_bounds() -> None:
    extras = tomllib.loads((ROOT / "sdk/pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras.keys() - {"mcp"} == FRAMEWORKS.keys()
    for framework in FRAMEWORKS.values():
        (requirement,) = map(Requirement, extras[framework.name])
        assert requirement.name == framework.package
        assert framework.version in requirement.specifier


def test_the_document_says_what_is_tested() -> None:
    told = {name: (module, version) for name, module, version in ROW.findall(DOCUMENT)}
    assert told == {
        framework.name: (f"emberbox_sdk.integrations.{framework.module}", framework.version)
        for framework in FRAMEWORKS.values()
    }


def test_every_framework_has_tests_inside() -> None:
    assert {name for name, _ in find_cases()} == FRAMEWORKS.keys()


def test_what_is_beside_a_framework_is_pinned() -> None:
    pins = [Requirement(text) for framework in FRAMEWORKS.values() for text in framework.beside]
    assert all([specifier.operator for specifier in pin.specifier] == ["=="] for pin in pins)
