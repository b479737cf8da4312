"""Write the tables of the page about known bugs: ``python docs/make_known_bugs.py``.

The tables are made from the docstrings of ``tests/known_bugs``: the project and its report, what
went wrong there, and what happens here.
"""

import ast
import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "known_bugs"
PAGE = ROOT / "docs" / "known_bugs.md"
BEGIN, END = "<!-- known bugs -->", "<!-- end of known bugs -->"

SUBJECTS = {
    "gradients": "Gradients and losses",
    "evaluation": "Evaluation",
    "samplers": "Samplers",
    "distributed": "Several processes",
    "images": "Images",
    "files": "Tables and folders",
    "schedules": "Schedules",
    "checkpoints": "Checkpoints",
    "towers": "Towers and texts",
}

# Repositories of the projects that are called by their own name.
REPOSITORIES = {
    "CLIP-ReID": "Syliz517/CLIP-ReID",
    "deep-person-reid": "KaiyangZhou/deep-person-reid",
    "fast-reid": "JDAI-CV/fast-reid",
    "lightly": "lightly-ai/lightly",
    "mem0": "mem0ai/mem0",
    "open-metric-learning": "OML-Team/open-metric-learning",
    "open_clip": "mlfoundations/open_clip",
    "pytorch-metric-learning": "KevinMusgrave/pytorch-metric-learning",
    "reid-strong-baseline": "michuanhaohao/reid-strong-baseline",
    "sentence-transformers": "huggingface/sentence-transformers",
    "timm": "huggingface/pytorch-image-models",
    "torchmetrics": "Lightning-AI/torchmetrics",
    "ultralytics": "ultralytics/ultralytics",
}

_REPORT = re.compile(r"(?P<project>[\w./-]+)(?: (?P<pull>PR))?#(?P<number>\d+)")


class KnownBug(NamedTuple):
    """A bug of another project, as the docstring of its test states it.

    Attributes:
        test: Name of the test.
        report: Project and number, or project and file.
        fault: What went wrong there.
        here: What happens here.
    """

    test: str
    report: str
    fault: str
    here: str


def main() -> None:
    """Write the tables into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{tables()}\n{END}{after}", encoding="utf-8")


def known_bugs(subject: str) -> list[KnownBug]:
    """Read the bugs of one file of tests."""
    tree = ast.parse((TESTS / f"test_{subject}.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [_read(node) for node in functions if node.name.startswith("test_")]


def tables() -> str:
    """Return all tables, with a heading for each subject."""
    parts = []
    for subject, heading in SUBJECTS.items():
        rows = [_row(bug) for bug in known_bugs(subject)]
        header = ["| project | there | here |", "| --- | --- | --- |"]
        parts.append("\n".join([f"\n## {heading}\n", *header, *rows]))

    return "\n".join(parts) + "\n"


def _read(function: ast.FunctionDef) -> KnownBug:
    """Split the docstring of a test into its parts."""
    paragraphs = (ast.get_docstring(function) or "").split("\n\n")
    if len(paragraphs) != 2 or not paragraphs[1].startswith("Here: "):
        raise ValueError(f"{function.name}: the docstring is not 'report: fault.' and 'Here: ...'.")

    report, fault = (" ".join(part.split()) for part in paragraphs[0].split(": ", 1))
    here = " ".join(paragraphs[1].removeprefix("Here: ").split())
    return KnownBug(function.name, report, fault, here)


def _row(bug: KnownBug) -> str:
    """Return one row of a table."""
    fault = bug.fault[0].upper() + bug.fault[1:]
    here = bug.here[0].upper() + bug.here[1:]
    return f"| {_link(bug.report)} | {fault} | {here} |"


def _link(report: str) -> str:
    """Link a report by its number; a file of a project is only named."""
    found = _REPORT.fullmatch(report)
    if found is None:
        return report

    project = found["project"]
    repository = project if "/" in project else REPOSITORIES[project]
    kind = "pull" if found["pull"] else "issues"
    return f"[{report}](https://github.com/{repository}/{kind}/{found['number']})"


if __name__ == "__main__":
    sys.exit(main())
