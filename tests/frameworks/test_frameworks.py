"""Agent frameworks over the SDK's adapters and real microVMs: tests inside each, and the examples of the document."""

from __future__ import annotations

import pytest

from support.frameworks import INSIDE, ROOT, complaints, find_cases, read_frameworks, run_case, run_inside

pytestmark = [pytest.mark.clients, pytest.mark.vm]

FRAMEWORKS = read_frameworks()
HEADINGS = {"deepagents": "LangChain's deepagents", "openai-agents": "OpenAI's Agents SDK", "ray": "Ray"}


@pytest.mark.parametrize(("framework", "case"), find_cases())
def test_inside(environment: dict[str, str], framework: str, case: str) -> None:
    run_case(FRAMEWORKS[framework], environment, case)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_examples_run_as_they_stand_there(environment: dict[str, str], framework: str) -> None:
    example, document = INSIDE / "example.py", ROOT / "docs/frameworks.md"
    run_inside(FRAMEWORKS[framework], environment, str(example), str(document), HEADINGS[framework])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_types_are_the_frameworks(tmp_path_factory: pytest.TempPathFactory, framework: str) -> None:
    assert complaints(FRAMEWORKS[framework], tmp_path_factory.mktemp("mypy")) == []
