"""The lock file: what is installed, and so tested, is what it names."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LINES = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
PINS = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in LINES)}


def asked_for() -> list[Requirement]:
    """Return what pyproject.toml names, and the SDK's: to run, to test and to build."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    texts = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    sdk = tomllib.loads((ROOT / "sdk" / "pyproject.toml").read_text())["project"]
    texts += [*sdk["dependencies"], *sdk["optional-dependencies"]["mcp"]]
    found = [Requirement(text) for text in (*texts, *project["build-system"]["requires"])]
    return [requirement for requirement in found if requirement.name != sdk["name"]]  # it is of this checkout


def installed(requirements: list[Requirement]) -> dict[str, str]:
    """Return name and installed version of what is required here, and of all that these require in turn."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(requirement, "") for requirement in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        distribution = metadata.distribution(requirement.name)
        name = canonicalize_name(requirement.name)
        found[name] = distribution.version
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                waiting += [(Requirement(text), wanted) for text in distribution.requires or []]
    return found


def test_lines_are_names_and_versions_that_any_index_knows() -> None:
    assert len(PINS) == len(LINES)
    assert all(version and version.replace(".", "").replace("post", "").isdigit() for version in PINS.values())


def test_what_pyproject_asks_for_is_in_the_lock_and_within_its_bounds() -> None:
    for requirement in asked_for():
        assert PINS[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_what_is_installed_here_is_what_the_lock_names() -> None:
    found = installed(asked_for())
    assert {name: PINS.get(name) for name in found} == found
