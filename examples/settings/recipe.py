"""Read recipes: YAML files with a parent, a note, and the lines that change."""

import copy
import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from examples.settings.base_recipes import Recipe
from examples.settings.captions import without_foreign_captions
from examples.settings.errors import content, sentence_of, shorten
from examples.settings.layers import Layer, Tree
from examples.settings.stages import RECIPES
from examples.settings.topk_json import parse_topk_json, recipe_of_topk_json
from examples.settings.variants import UnknownKeyError, foreign_keys, select
from examples.settings.yaml_files import parse_yaml

_MOST_PARENTS = 50
_RECIPES = Path(__file__).parents[1] / "recipes"

# A pattern of paths such as {identity}/*.jpg, which is no mapping of YAML.
_PATTERN = re.compile(r"\{\w+\}\S.*")


class IdleKeyError(ValueError):
    """A key that has no effect where it is written."""


def load_recipe(
    path: str | Path,
    changes: Sequence[str] = (),
    *,
    data: str | None = None,
    say: Callable[[str], object] | None = None,
) -> Recipe:
    """Read a recipe and its parents, apply changes, and check every key.

    A key without effect is an error in the recipe itself and in the changes. It falls away where a
    parent says it, or a change took its effect.

    Args:
        path: A YAML file, or a JSON file in the schema of the top-k pipeline.
        changes: ``section.key=value`` lines, as of ``--set``.
        data: Value for ``data.root``. With a JSON file also decides how the images are read.
        say: Called with one line about keys that fall away; ``None`` says nothing.

    Raises:
        ValueError: With one sentence that names the file, the key, and the nearest name or the
            allowed values.
    """
    layers = _read(Path(path), data)
    if changes or data is not None:
        _check_alone(layers)

    layers += [_change(change) for change in changes]
    if data is not None:
        layers.append(Layer("--data", {"data": {"root": data}}, is_option=True))

    layers, foreign = without_foreign_captions(layers)
    if foreign is not None and say is not None:
        say(foreign)
    recipe, fallen = _resolve(layers)
    if fallen and say is not None:
        say(_fallen_line(recipe, fallen))
    return recipe


def recipe_of(tree: Tree, changes: Sequence[str] = (), *, data: str | None = None) -> Recipe:
    """Make a recipe of a tree of keys, such as a changed ``model_dump``; idle keys fall away.

    Args:
        tree: The keys.
        changes: ``section.key=value`` lines, as of ``--set``; each must have an effect.
        data: Value for ``data.root``.
    """
    layers = [Layer("recipe", tree), Layer("changes", {}, is_option=True)]
    layers += [_change(change) for change in changes]
    if data is not None:
        layers.append(Layer("--data", {"data": {"root": data}}, is_option=True))
    return _resolve(layers)[0]


def _read(path: Path, data: str | None) -> list[Layer]:
    """The parents of a file, from the first on, and the file."""
    layers: list[Layer] = []
    children: set[Path] = set()
    parent: Path | None = path
    while parent is not None:
        if parent.resolve() in children:
            raise ValueError(f"{parent}: the `base:` lines run in a circle.")
        if len(children) == _MOST_PARENTS:
            raise ValueError(f"{path}: it has more than {_MOST_PARENTS} parents (`base:`).")

        children.add(parent.resolve())
        layer, parent = _read_file(parent, data)
        layers.insert(0, layer)
    return layers


def _read_file(path: Path, data: str | None) -> tuple[Layer, Path | None]:
    """The keys of a file, and the path of its parent."""
    _check_is_file(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: the file is not text in UTF-8 ({error}).") from None

    is_json = path.suffix == ".json"
    tree = parse_topk_json(text, str(path)) if is_json else _parse(text, str(path))
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: a recipe is a mapping of keys, got {content(tree)}.")
    if is_json:
        return Layer(str(path), recipe_of_topk_json(tree, str(path), data)), None
    if "note" not in tree:
        raise ValueError(f"{path}: the line `note:` is missing, which says why the recipe exists.")

    base = tree.pop("base", None)
    if base is None:
        return Layer(str(path), tree), None
    if not isinstance(base, str) or not base or "\0" in base:
        raise ValueError(f"{path}: `base` must be a recipe's name or path, got {shorten(base)}.")
    return Layer(str(path), tree), _parent_of(path, base)


def _check_is_file(path: Path) -> None:
    """Raise ValueError if a path is not that of a file."""
    if path.is_dir():
        inside = ", ".join(sorted(p.name for p in path.glob("*.yaml"))[:10]) or "none"
        raise ValueError(f"{path}: this is a folder, not a recipe. Recipes in it: {inside}.")
    if path.exists() and not path.is_file():
        raise ValueError(
            f"{path}: this is a pipe or device. Save the recipe as a file: its `base:` is relative "
            "to it, and a run keeps its name."
        )
    if not path.is_file():
        near = ", ".join(sorted(p.name for p in path.parent.glob("*.yaml"))) or "none"
        raise ValueError(f"{path}: there is no such recipe file. Recipes in that folder: {near}.")


def _parent_of(path: Path, base: str) -> Path:
    """The file that a recipe's ``base`` names: by its path, or one of ours as ``own/train``."""
    file = Path(os.path.normpath(path.parent / base))
    # os.path takes any text, also one that is too long for a file
    if file.suffix in (".yaml", ".yml", ".json") or os.path.isfile(file):  # noqa: PTH113
        return file  # _read_file names the recipes beside one that is missing

    ours = _RECIPES / f"{base}.yaml"
    is_a_name = not {"", ".", ".."} & set(base.split("/"))
    if is_a_name and os.path.isfile(ours):  # noqa: PTH113
        return ours  # also beside a folder of this name, such as that of a run

    if os.path.exists(file):  # noqa: PTH110
        return file  # _read_file says that it is no file
    raise ValueError(
        f"{path}: `base` is neither a file nor the name of a recipe: {shorten(base)}. "
        "`clipreid recipes list` lists the names."
    )


def _parse(text: str, name: str) -> Any:  # noqa: ANN401 (any YAML)
    return copy.deepcopy(_parse_once(text, name))


@functools.lru_cache(maxsize=256)
def _parse_once(text: str, name: str) -> Any:  # noqa: ANN401 (any YAML)
    """Parse the text of a file; many recipes have the same parents, and YAML is slow."""
    return parse_yaml(text, name)


def _change(change: str) -> Layer:
    """The layer of ``section.key=value``."""
    key, equals, value = change.partition("=")
    if not equals:
        raise ValueError(f"--set: write section.key=value, got {shorten(change)}.")

    is_pattern = _PATTERN.fullmatch(value.strip()) is not None
    tree: Any = value.strip() if is_pattern else parse_yaml(value, f"--set {key}")
    for name in reversed(key.strip().split(".")):
        tree = {name: tree}
    return Layer("--set", tree, is_option=True)


def _check_alone(layers: list[Layer]) -> None:
    """Raise IdleKeyError for a recipe that has one before any change; changes may mend all else."""
    try:
        _resolve(layers)
    except IdleKeyError:
        raise
    except ValueError:
        return


def _resolve(layers: list[Layer]) -> tuple[Recipe, list[tuple[Layer, str]]]:
    """The recipe of some layers, and the keys that fall away, with the layers that say them."""
    tree: Tree = {}
    for layer in layers:
        tree = _merge(tree, copy.deepcopy(layer.tree))

    fallen: list[tuple[Layer, str]] = []
    while True:
        recipe = None
        idle = list(_foreign(tree, layers))
        if not idle:
            recipe = _validate(tree, layers)
            idle = [
                (key, f"has no effect without {need}. Remove it, or add what it needs.")
                for key, need in recipe.idle_keys()
            ]
        if not idle and recipe is not None:
            return recipe, fallen

        for key, reason in idle:
            layer = _layer_of(key, layers)
            if layer in _own(tree, layers):
                raise IdleKeyError(f"{layer.name}: `{key}` {reason}")

            _remove(tree, key)
            fallen.append((layer, key))


def _fallen_line(recipe: Recipe, fallen: list[tuple[Layer, str]]) -> str:
    """One line about keys that fall away, by the file that says them."""
    by_file: dict[str, list[str]] = {}
    for layer, key in fallen:
        by_file.setdefault(layer.name, []).append(key)

    said = "; ".join(f"{', '.join(keys)} of {name}" for name, keys in by_file.items())
    return f"without effect in this recipe (stage {recipe.stage}), and left out: {said}"


def _own(tree: Tree, layers: list[Layer]) -> list[Layer]:
    """The layers whose keys must all have an effect: the options, or else the recipe itself.

    A zero-shot recipe is often the parent or the child of recipes that train, and may say what
    these need.
    """
    options = [layer for layer in layers if layer.is_option]
    if options or tree.get("stage") == "zero_shot":
        return options
    return layers[-1:]


def _foreign(tree: Tree, layers: list[Layer]) -> Iterator[tuple[str, str]]:
    """Keys of other variants; an unknown one is an error."""
    try:
        yield from foreign_keys(RECIPES, tree)
    except UnknownKeyError as error:
        raise ValueError(f"{_layer_of(error.key, layers).name}: {error}") from None


def _validate(tree: Tree, layers: list[Layer]) -> Recipe:
    model = cast("type[Recipe]", select(RECIPES, tree))
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        key, sentence = sentence_of(error, tree)
        raise ValueError(f"{_layer_of(key, layers).name}: {sentence}") from None


def _layer_of(key: str, layers: list[Layer]) -> Layer:
    """The last layer that says a key; the recipe itself for a key that nobody says."""
    for layer in reversed(layers):
        if layer.says(key):
            return layer
    return layers[-1]


def _merge(parent: Tree, child: Tree) -> Tree:
    merged = dict(parent)
    for key, value in child.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _remove(tree: Tree, key: str) -> None:
    section, _, name = key.rpartition(".")
    holder = tree[section] if section else tree
    holder.pop(name, None)
