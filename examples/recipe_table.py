"""The table of all recipes in docs/recipes.md, made from the files: run it as ``python -m examples.recipe_table``."""

import argparse
import re
from pathlib import Path
from typing import Any

import yaml

from examples.settings.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
RECIPES, PAGE = ROOT / "examples" / "recipes", ROOT / "docs" / "recipes.md"
BEGIN, END = "<!-- recipes: made by examples/recipe_table.py -->", "<!-- end of recipes -->"
_NEXT = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")  # between sentences


def sentences(note: str) -> tuple[str, str]:
    """What a note says first, and the figures that it says were published or logged elsewhere."""
    parts = _NEXT.split(note.strip())
    figures = [part for part in parts if part.startswith(("Published ", "Logged "))]
    return parts[0], " ".join(figures)


def changes(tree: dict[str, Any]) -> str:
    """The lines of a recipe itself, without those of its parents, as ``section.key=value``."""
    found = []
    for section, value in tree.items():
        if section in ("base", "note", "stage"):
            continue
        inner = value.items() if isinstance(value, dict) else [("", value)]
        found += [f"`{section}{'.' if key else ''}{key}={_shown(one)}`" for key, one in inner]
    return " ".join(found) or "nothing"


def _shown(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def row(path: Path) -> str:
    """One line of the table."""
    name = path.relative_to(RECIPES).as_posix()
    recipe, tree = load_recipe(path), yaml.safe_load(path.read_text(encoding="utf-8"))
    why, figures = sentences(recipe.note)
    parent = f"`{tree['base']}` and " if "base" in tree else ""
    data = " --data DATA" if recipe.data.source != "synthetic" else ""
    command = f"`python -m examples.trainer examples/recipes/{name}{data} --out runs/{name.removesuffix('.yaml')}`"
    cells = (f"`{name}`", recipe.stage, why, parent + changes(tree), figures or "none", command)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def table() -> str:
    """Everything between the two marks of the page: a table for each folder of recipes."""
    lines = [BEGIN, ""]
    for folder in sorted({path.parent for path in RECIPES.rglob("*.yaml")}):
        name = folder.relative_to(RECIPES).as_posix()
        lines += [f"### {name.replace('/', ', ').capitalize()}", ""]
        lines += [
            "| recipe | stage | why | changes | figures elsewhere | command |",
            "| --- " * 6 + "|",
        ]
        lines += [*(row(path) for path in sorted(folder.glob("*.yaml"))), ""]
    return "\n".join([*lines, END])


def updated(page: str) -> str:
    """The page with the present table.

    Raises:
        ValueError: If the page has not both marks, in their order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"{PAGE.name}: expected the lines {BEGIN!r} and {END!r}, got a page without them."
        )
    return before + table() + after


def main(arguments: list[str] | None = None) -> None:
    """Write the table into the page, or only look whether it is up to date."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if the page is another one"
    )
    options = parser.parse_args(arguments)
    page = PAGE.read_text(encoding="utf-8")
    if options.check and updated(page) != page:
        raise SystemExit(f"{PAGE.name} is not up to date: run python -m examples.recipe_table")
    PAGE.write_text(updated(page), encoding="utf-8")


if __name__ == "__main__":
    main()
