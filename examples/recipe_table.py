"""Write the pages of docs/recipes from the recipe files: python -m examples.recipe_table."""

import argparse
import re
from pathlib import Path
from typing import Any

import yaml

from clipreid_kit.reports.runs import natural_key
from examples.settings.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "examples" / "recipes"
PAGES = ROOT / "docs" / "recipes"
BEGIN = "<!-- recipes: made by python -m examples.recipe_table -->"
END = "<!-- end of recipes -->"


def families() -> list[str]:
    """Names of the folders of recipes; each has a page."""
    return sorted(folder.name for folder in RECIPES.iterdir() if folder.is_dir())


def recipes_markdown(family: str) -> str:
    """All recipes of a family in Markdown: a section per folder, an entry per recipe."""
    top = RECIPES / family
    parts = []
    for folder in sorted({path.parent for path in top.rglob("*.yaml")}):
        title = "Recipes" if folder == top else folder.name.replace("stage", "Stage ")
        parts.append(f"## {title}")

        paths = sorted(folder.glob("*.yaml"), key=lambda path: natural_key(path.stem))
        parts += [entry(path) for path in paths]
    return "\n\n".join(parts)


def entry(path: Path) -> str:
    """The name, stage and note of a recipe, and the lines in which it differs from its parent."""
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    stage = load_recipe(path).stage
    note = re.sub(r"--set \S+=[^\s;,)]*[^\s;,).]", r"`\g<0>`", tree["note"].strip())

    terms = [f"### {path.stem}", f"Stage `{stage}`. {note}"]
    if "base" in tree:
        terms.append(f"Parent\n:   `{Path(tree['base']).stem}`")

    changes = " ".join(f"`{change}`" for change in changed_lines(tree))
    terms.append(f"Changes\n:   {changes or 'none'}")
    return "\n\n".join(terms)


def changed_lines(tree: dict[str, Any]) -> list[str]:
    """The lines of a recipe itself, without those of its parents, as ``section.key=value``."""
    changes = []
    for section, value in tree.items():
        if section in ("base", "note", "stage"):
            continue
        if isinstance(value, dict):
            changes += [f"{section}.{key}={yaml_text(inner)}" for key, inner in value.items()]
        else:
            changes.append(f"{section}={yaml_text(value)}")
    return changes


def yaml_text(value: object) -> str:
    """A value as a recipe writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(yaml_text, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value)


def updated(page: str, family: str) -> str:
    """The text of a family's page with its present recipes.

    Raises:
        ValueError: If the page lacks the marks, or has them in the wrong order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{family}.md: the page lacks the line {BEGIN!r}, or {END!r} below it.")

    return f"{before}{BEGIN}\n\n{recipes_markdown(family)}\n\n{END}{after}"


def main(arguments: list[str] | None = None) -> None:
    """Write the recipes into the pages, or only check that the pages are up to date."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if a page is out of date"
    )
    options = parser.parse_args(arguments)

    for family in families():
        path = PAGES / f"{family}.md"
        page = path.read_text(encoding="utf-8")
        new = updated(page, family)
        if options.check and new != page:
            raise SystemExit(f"{path.name} is out of date: run python -m examples.recipe_table")
        path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
