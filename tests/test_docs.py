"""Every Python block of README and docs runs, page by page; links and figures hold."""

import json
import re
from pathlib import Path

import pytest

import clipreid_kit

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
FIGURES = re.compile(r"<!-- figures: (\w+) -->\n(.*?)<!-- end of figures -->", re.DOTALL)


def name_of(page):
    return str(page.relative_to(ROOT).with_suffix(""))


def test_there_are_pages():
    assert len(PAGES) >= 20


def pages_with_code():
    """Pages with blocks of Python; one trains a whole model, as an example does."""
    for page in PAGES:
        if PYTHON.search(page.read_text()):
            marks = [pytest.mark.slow] if name_of(page) == "docs/tutorials/clip_reid" else []
            yield pytest.param(page, id=name_of(page), marks=marks)


@pytest.mark.parametrize("page", list(pages_with_code()))
def test_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    text = page.read_text()

    for match in PYTHON.finditer(text):
        first_line = text[: match.start()].count("\n") + 2
        code = compile("\n" * (first_line - 1) + match[1], str(page), "exec")
        exec(code, names)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_is_at_most_80_columns_wide(page):
    for language, block in CODE.findall(page.read_text()):
        if language == "text":  # output of programs
            continue

        assert [line for line in block.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_pages_and_images_exist(page):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def figure_tables():
    """Tables of figures by name, from the one file that holds them."""
    found = json.loads((ROOT / "docs" / "figures.json").read_text())
    for name, table in found.items():
        columns = table["columns"]
        lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]

        for row, cells in table["rows"].items():
            lines.append(f"| {row} | {' | '.join(cells)} |")

        yield name, "\n".join([*lines, "", table["note"]])


def test_figures_come_from_one_file():
    tables = dict(figure_tables())
    quoted = [
        (page, name, text.strip())
        for page in PAGES
        for name, text in FIGURES.findall(page.read_text())
    ]
    assert {name for _, name, _ in quoted} == set(tables)

    for page, name, text in quoted:
        assert text == tables[name], f"{page}: copy the table from docs/figures.json"


def test_changelog_has_this_version_and_unreleased_changes_on_top():
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] in ("Unreleased", clipreid_kit.__version__)
    assert clipreid_kit.__version__ in sections


def test_every_version_of_the_changelog_states_what_moved_a_number():
    text = (ROOT / "CHANGELOG.md").read_text()
    for version in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        assert "### Numerics" in version, version.splitlines()[0]
