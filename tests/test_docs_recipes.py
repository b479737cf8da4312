"""The page about recipes lists every key with its default and choices, and every recipe with its stage."""

import dataclasses
import re
import types
import typing
from pathlib import Path

import pytest
import yaml

from examples.settings.config import Recipe
from examples.settings.recipe import load_recipe

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("` "): cells for cells in (row.strip("|").split("|") for row in re.findall(r"^\|.*\|$", PAGE, re.M))
}
RECIPES = sorted((ROOT / "examples" / "recipes").rglob("*.yaml"))


def keys(kind=Recipe, prefix=""):
    """Every key of the dataclasses as (name, type, default)."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from keys(hint, f"{field.name}.")
        else:
            default = field.default_factory() if callable(field.default_factory) else field.default
            yield f"{prefix}{field.name}", hint, default


KEYS = {name: (hint, default) for name, hint, default in keys()}


def choices(hint):
    inner = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return [choice for part in inner for choice in choices(part)]
    return [str(choice) for choice in inner] if typing.get_origin(hint) is typing.Literal else []


def test_the_tables_have_every_key_and_no_other():
    documented = {name for name in ROWS if re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", name) and not name.endswith(".yaml")}
    documented -= {"key", "recipe"}  # heads of the tables
    assert documented == set(KEYS)
    assert len(KEYS) > 40


@pytest.mark.parametrize("name", KEYS)
def test_defaults_and_choices_are_those_of_the_dataclasses(name):
    hint, default = KEYS[name]
    _, shown, meaning = ROWS[name]
    if default is dataclasses.MISSING:
        assert shown.strip() == "required"
    elif choices(hint):
        assert shown.strip("` ") == str(default)
    else:
        assert yaml.safe_load(shown.strip("` ")) == (list(default) if isinstance(default, tuple) else default)
    for choice in choices(hint):
        assert f"`{choice}`" in meaning


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_listed_with_its_stage(path):
    assert ROWS[path.name][1].strip() == load_recipe(path).stage


def test_no_recipe_is_listed_that_is_not_there():
    listed = {name for name in ROWS if name.endswith(".yaml")}
    assert listed == {path.name for path in RECIPES}
