"""Recipes by name: ``own/train`` for ``examples/recipes/own/train.yaml``."""

import difflib
from pathlib import Path

from clipreid_kit.cli._trainer import examples_root

# The recipe that the name of a folder alone means, the first of these that it has.
_MAIN = ("train", "joint")


def recipes_folder() -> Path:
    """The folder of all recipes."""
    return examples_root() / "examples" / "recipes"


def recipe_names() -> list[str]:
    """Names of all recipes, in order."""
    folder = recipes_folder()
    paths = folder.rglob("*.yaml")
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in paths)


def find_recipe(name: str) -> Path:
    """The file of a recipe.

    Args:
        name: Path of a file, the name of a recipe such as ``own/train``, or a folder of recipes
            such as ``quickstart``, for its recipe ``train`` or ``joint``.

    Raises:
        ValueError: If there is no such recipe; the nearest names are given.
    """
    path = Path(name)
    if path.is_file() or path.suffix in (".yaml", ".yml", ".json"):
        return path  # the trainer names the files beside one that is missing

    folder = recipes_folder()
    own = [name, *(f"{name}/{main}" for main in _MAIN)]
    for candidate in own:
        file = folder / f"{candidate}.yaml"
        if file.is_file():
            return file

    raise ValueError(f"there is no recipe {name!r}{_hint(name)}")


def _hint(name: str) -> str:
    """Recipes that may be meant."""
    names = recipe_names()
    folders = {name.rpartition("/")[0] for name in names if name.rpartition("/")[2] in _MAIN}
    inside = [known for known in names if known.startswith(f"{name}/")]
    if inside:
        shown = ", ".join(inside[:6])
        more = ", ..." if len(inside) > len(inside[:6]) else ""
        return f"; in that folder are {shown}{more}."

    near = difflib.get_close_matches(name, [*names, *sorted(folders)], n=3)
    if near:
        return f"; did you mean {' or '.join(near)}? `clipreid recipes list` lists all."
    return "; `clipreid recipes list` lists all."
