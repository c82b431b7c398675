"""The documents: links and names of files lead somewhere; decisions are numbered once, headed alike and indexed."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from support.examples import EXAMPLES, named_programs

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = ROOT / "docs" / "decisions"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
OF_TODAY = [path for path in DOCUMENTS if path.parent != DECISIONS and path.name != "CHANGELOG.md"]
NUMBERED = sorted(DECISIONS.glob("[0-9]*.md"))

FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ELSEWHERE = re.compile(r"[a-z]+:")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
STATUS = re.compile(r"^Status: ((?:accepted|superseded).*?)\n\n", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| \[(\d{4})\]\((\d{4}-[\w-]+\.md)\) \| [^|]+ \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
FILE = re.compile(r"`((?:src|agent|tests|docs|benchmarks|examples|\.ci|\.github)/[^`\s*<>]*)`")
MENTION = re.compile(r"decisions/(\d{4})((?:-[\w-]+\.md)?)")
PLACES = ("src/**/*.py", "src/**/*.lua", "agent/*.[ch]", "tests/**/*.py", "tests/**/*.toml", "benchmarks/*.py")


def anchors(text: str) -> set[str]:
    """Return the anchors that a Markdown page has for its headings, as they are made by web front ends of git."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


def dead_links(document: Path) -> list[str]:
    """Return the relative links of a document that lead to no file, or to no heading of one."""
    dead = []
    for link in LINK.findall(FENCED.sub("", document.read_text())):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if ELSEWHERE.match(link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            dead.append(link)
    return dead


def changed_by(status: str) -> list[str]:
    """Return the numbers of the decisions that a status names, which may be links and have a word in brackets each."""
    return re.findall(r"\d{4}", re.sub(r"\([^)]*\)", "", status))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_relative_link_leads_somewhere(document: Path) -> None:
    assert dead_links(document) == []


@pytest.mark.parametrize("name", sorted(path.parent.name for path in EXAMPLES.glob("*/run.py")))
def test_the_readme_of_an_example_names_the_program_that_is_tested(name: str) -> None:
    assert named_programs(name) == {f"examples/{name}/run.py"}


@pytest.mark.parametrize("document", OF_TODAY, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_file_that_is_named_exists(document: Path) -> None:
    assert [name for name in FILE.findall(document.read_text()) if not (ROOT / name).exists()] == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A heading, here\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md) [b](gone.md) [c](there.md#a-heading-here) [d](there.md#gone) [e](https://a.test/x)\n"
    )
    assert dead_links(page) == ["gone.md", "there.md#gone"]


def test_each_number_is_of_one_decision() -> None:
    counts = Counter(path.name[:4] for path in NUMBERED)
    assert [number for number, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("decision", NUMBERED, ids=lambda path: path.name[:4])
def test_each_decision_has_the_same_head(decision: Path) -> None:
    title, rest = decision.read_text().split("\n", 1)
    assert title.startswith(f"# {int(decision.name[:4])}. ")
    assert STATUS.match(rest.removeprefix("\n"))


def test_the_index_has_each_decision_with_its_status() -> None:
    rows = ROW.findall((DECISIONS / "README.md").read_text())
    assert [name for _, name, _ in rows] == [path.name for path in NUMBERED]
    for number, name, status in rows:
        assert name.startswith(number)
        found = STATUS.search((DECISIONS / name).read_text())
        assert found, name
        assert re.split(r"\W", status)[0] == re.split(r"\W", found[1])[0], name
        assert changed_by(status) == changed_by(found[1]), name


def test_code_names_decisions_that_exist() -> None:
    names = {path.name for path in NUMBERED}
    mentions = [
        (path, number, rest)
        for pattern in PLACES
        for path in ROOT.glob(pattern)
        for number, rest in MENTION.findall(path.read_text())
    ]
    wrong = [
        f"{path.relative_to(ROOT)}: {number}{rest}"
        for path, number, rest in mentions
        if not any(name == f"{number}{rest}" or (not rest and name.startswith(number)) for name in names)
    ]
    assert mentions
    assert wrong == []
