"""The page about known bugs is made from the docstrings of the tests."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("maker", ROOT / "docs" / "make_known_bugs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_file_of_tests_is_on_the_page(maker):
    files = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert files - {"page"} == set(maker.SUBJECTS)


def test_there_are_many_bugs_and_each_names_its_report_once(maker):
    bugs = [bug for subject in maker.SUBJECTS for bug in maker.known_bugs(subject)]
    assert len(bugs) >= 80
    assert all(bug.fault.endswith((".", "?")) and bug.here.endswith(".") for bug in bugs)


def test_the_page_has_the_tables_of_the_tests(maker):
    text = maker.PAGE.read_text(encoding="utf-8")
    tables = text.split(maker.BEGIN)[1].split(maker.END)[0]
    assert tables.strip() == maker.tables().strip(), "run python docs/make_known_bugs.py"
