"""Strict YAML recipes: a parent, a note, and the lines that change. A misspelt key is an error, never a default."""

import dataclasses
import difflib
import math
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from examples.settings.config import Recipe
from examples.settings.rules import check
from examples.settings.topk_json import recipe_of_topk_json


def load_recipe(path: str | Path, changes: typing.Sequence[str] = ()) -> Recipe:
    """Read a recipe and its parents, apply ``section.key=value`` changes, and check every key and type.

    Raises:
        ValueError: If a file is missing or not a mapping, ``note`` is missing, parents run in a circle, or a key or
            value is not one that the recipe knows; the text names the file, the key and the nearest valid name.
    """
    tree = _read(Path(path), ())
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--set: expected section.key=value, got {change!r}.")
        nested = _parse(value, f"--set {key}")
        for name in reversed(key.strip().split(".")):
            nested = {name: nested}
        tree = _merge(tree, nested)
    recipe: Recipe = _build(Recipe, tree, str(path), "")
    check(recipe, str(path))
    return recipe


def _read(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in children:
        raise ValueError(f"{path}: expected parents that end, got a circle of base: lines.")
    if not path.is_file():
        known = ", ".join(sorted(p.name for p in path.parent.glob("*.yaml"))) or "none"
        raise ValueError(
            f"{path}: expected a recipe file, got none. Recipes in that folder: {known}."
        )
    try:
        text = path.read_text(encoding="utf-8")
        tree = _parse(text, str(path))  # JSON is YAML, too
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8, got other bytes: {error}.") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: expected a mapping of keys, got {type(tree).__name__}.")
    if path.suffix == ".json":
        return recipe_of_topk_json(tree, str(path))
    if "note" not in tree:
        raise ValueError(
            f"{path}: expected a line `note:` that says why the recipe exists, got none."
        )
    base = tree.pop("base", None)
    if base is None:
        return tree
    # a parent's keys are checked with the child's: both names are given where one is wrong
    return _merge(_read(path.parent / str(base), (*children, path.resolve())), tree)


class _Strict(yaml.SafeLoader):
    """YAML in which a key stands once: the standard loader lets the last one win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        twice = [key for i, key in enumerate(keys) if key in keys[:i]]
        if twice:
            raise yaml.YAMLError(
                f"the key {twice[0]!r} stands twice, the second time{node.start_mark}"
            )
        return super().construct_mapping(node, deep)


def _parse(text: str, source: str) -> Any:  # noqa: ANN401 (whatever YAML holds)
    try:
        return yaml.load(text, _Strict)  # noqa: S506 (a safe loader)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{source}: expected YAML, got text that does not parse: {reason}."
        ) from None


def _merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    merged = dict(parent)
    for key, value in child.items():
        old = merged.get(key)
        merged[key] = (
            _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return merged


def _build(kind: Any, tree: dict[str, Any], source: str, prefix: str) -> Any:  # noqa: ANN401 (any dataclass)
    hints = typing.get_type_hints(kind, include_extras=True)
    arguments: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = (
                f" Did you mean {prefix}{near[0]}?" if near else f" Known keys: {', '.join(hints)}."
            )
            raise ValueError(f"{source}: expected a known key, got {name!r}.{hint}")
        arguments[key] = _convert(hints[key], value, source, name)
    required = [
        f.name for f in dataclasses.fields(kind) if _has_no_default(f) and f.name not in arguments
    ]
    if required:
        raise ValueError(f"{source}: expected the key {prefix}{required[0]}, got none.")
    try:
        return kind(**arguments)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _has_no_default(entry: "dataclasses.Field[Any]") -> bool:
    return entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, source: str, name: str) -> Any:  # noqa: ANN401 (one line a type)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, dict):
            return _build(hint, value, source, f"{name}.")
    elif origin is Annotated:
        number = _convert(inner[0], value, source, name)
        if number in inner[1]:
            return number
        raise ValueError(f"{source}: expected {name} to be {inner[1]}, got {value!r}.")
    elif origin in (types.UnionType, typing.Union):
        if value is None and type(None) in inner:
            return None
        kinds = [kind for kind in inner if kind is not type(None)]
        words = [kind for kind in kinds if typing.get_origin(kind) is Literal]
        fits = (
            words
            if isinstance(value, str) and words
            else [kind for kind in kinds if kind not in words] or words
        )
        return _convert(fits[0], value, source, name)
    elif origin is Literal:
        value = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
        if value in inner and type(value) in {type(choice) for choice in inner}:
            return value
        raise ValueError(
            f"{source}: expected {name} to be one of {', '.join(map(str, inner))}, got {value!r}."
        )
    elif origin is list and isinstance(value, list):
        return [_convert(inner[0], item, source, f"{name}[{i}]") for i, item in enumerate(value)]
    elif origin is tuple and isinstance(value, list) and len(value) == len(inner):
        return tuple(
            _convert(t, item, source, f"{name}[{i}]")
            for i, (t, item) in enumerate(zip(inner, value, strict=True))
        )
    elif hint is float and not isinstance(value, bool):
        try:  # YAML 1.1 reads 1e-5 as text: it is a number here
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isfinite(number):
            return number
    elif hint in (int, bool, str) and type(value) is hint:
        return value
    expected = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise ValueError(f"{source}: expected {name} as {expected}, got {value!r}.")
