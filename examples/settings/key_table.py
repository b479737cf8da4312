"""``python -m examples.settings.key_table``: write the tables of keys into the documentation."""

import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from examples.settings.section import Needs, Section, default_of
from examples.settings.stages import RECIPES
from examples.settings.variants import Models, discriminator_of, models_in, tags_of

PAGE = Path(__file__).parents[2] / "docs" / "recipes" / "keys.md"
BEGIN, END = "<!-- keys: made by python -m examples.settings.key_table -->", "<!-- end of keys -->"


def tables() -> str:
    """A table of the keys outside sections, and one for each section."""
    names = list(_names(RECIPES))
    plain = [name for name in names if not _variants(name)]
    sections = [name for name in names if _variants(name)]

    parts = ["### The run\n\n" + _table(_rows("", RECIPES, plain))]
    for name in sections:
        variants = _variants(name)
        rows = _rows(f"{name}.", variants, list(_names(variants)))
        parts.append(f"### {name}\n\n{_title(variants)}\n\n{_table(rows)}")
    return "\n\n".join(parts)


def _title(variants: Models) -> str:
    """The first line of the section that all variants derive from."""
    bases = variants[0].__mro__[: variants[0].__mro__.index(Section)]
    shared = [base for base in bases if all(issubclass(variant, base) for variant in variants)]
    return (shared[-1].__doc__ or "").partition("\n")[0]


def _names(models: Models) -> Iterator[str]:
    """Keys of some models, in their order, each once."""
    return iter(dict.fromkeys(name for model in models for name in model.model_fields))


def _variants(name: str) -> Models:
    """All models of a section in any recipe; none for a key that is no section."""
    fields = [model.model_fields[name] for model in RECIPES if name in model.model_fields]
    return tuple(dict.fromkeys(model for field in fields for model in models_in(field.annotation)))


def _table(rows: list[str]) -> str:
    return "\n".join(["| key | default | values | meaning |", "| --- | --- | --- | --- |", *rows])


def _rows(prefix: str, models: Models, names: list[str]) -> list[str]:
    rows = []
    for name in names:
        fields = [model.model_fields[name] for model in models if name in model.model_fields]
        meaning = next((field.description for field in fields if field.description), "")
        meaning = " ".join(meaning.split())  # a row of a table is one line
        sentences = [meaning, _belongs(prefix, name, models), _needs(fields[0])]
        cells = (
            f"`{prefix}{name}`",
            _default(fields),
            _values(name, models),
            " ".join(filter(None, sentences)),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _belongs(prefix: str, name: str, models: Models) -> str:
    """The variants that have a key, if not all have it."""
    section = prefix.removesuffix(".")
    recipes = [model for model in RECIPES if not section or section in model.model_fields]
    having = [recipe for recipe in recipes if _has(recipe, section, name)]
    if len(having) < len(recipes):
        return _only_with("stage", having, recipes)

    owners = [model for model in models if name in model.model_fields]
    if len(owners) < len(models) and section != "prompt":
        return _only_with(f"{prefix}{discriminator_of(models)}", owners, list(models))
    return ""


def _has(recipe: type[BaseModel], section: str, name: str) -> bool:
    holders = models_in(recipe.model_fields[section].annotation) if section else (recipe,)
    return any(name in holder.model_fields for holder in holders)


def _only_with(key: str, owners: list[type[BaseModel]], models: list[type[BaseModel]]) -> str:
    name = key.rpartition(".")[2]
    tags = [tag for model in owners for tag in tags_of(model, name)]
    others = [tag for model in models if model not in owners for tag in tags_of(model, name)]

    if len(others) < len(tags):
        return f"Not with `{key}: {', '.join(others)}`."
    return f"With `{key}: {', '.join(tags)}`."


def _needs(field: FieldInfo) -> str:
    needs = [str(need) for need in field.metadata if isinstance(need, Needs)]
    return f"Needs {', and '.join(needs)}." if needs else ""


def _default(fields: list[FieldInfo]) -> str:
    """The default, as YAML writes it."""
    field = next((field for field in fields if not field.is_required()), None)
    if field is None:
        return "required"

    value = default_of(field)
    if isinstance(value, list | tuple):
        return f"`[{', '.join(str(item) for item in value)}]`"
    if value is None or isinstance(value, bool | dict):
        return f"`{json.dumps(value)}`"
    return f"`{value}`"


def _values(name: str, models: Models) -> str:
    """The values that a key can have, in words."""
    fields = [model.model_fields[name] for model in models if name in model.model_fields]
    tags = dict.fromkeys(tag for model in models for tag in tags_of(model, name))
    if tags:
        return ", ".join(f"`{tag}`" for tag in tags)
    return describe(fields[0].annotation, fields[0].metadata)


def describe(hint: Any, metadata: typing.Sequence[object] = ()) -> str:  # noqa: ANN401 (any type)
    """The values that a type allows, in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return describe(inner[0], [*inner[1:], *metadata])
    if origin in (types.UnionType, typing.Union):
        words = [describe(kind, metadata) for kind in inner if kind is not type(None)]
        return " or ".join(words) + (", or `null`" if type(None) in inner else "")
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if origin in (list, tuple):
        count = f" of {len(inner)}" if origin is tuple else ""
        return f"a list{count}: {describe(inner[0])}"

    if origin is dict:
        return "a mapping of texts to texts"

    names = {int: "a whole number", float: "a number", bool: "`true`, `false`", str: "text"}
    return f"{names[hint]}{_range(metadata)}"


def _range(metadata: typing.Sequence[object]) -> str:
    """The range of a number, from the constraints of its type."""
    limits = []
    for constraint in _constraints(metadata):
        for attribute, word in (
            ("gt", "above"),
            ("ge", "at least"),
            ("lt", "below"),
            ("le", "at most"),
        ):
            limit = getattr(constraint, attribute, None)
            if limit is not None:
                limits.append(f"{word} {limit:g}" if limit < 2**20 else f"{word} {limit}")
    return f" {' and '.join(limits)}" if limits else ""


def _constraints(metadata: typing.Sequence[object]) -> Iterator[object]:
    for one in metadata:
        yield from one.metadata if isinstance(one, FieldInfo) else [one]


def page(text: str) -> str:
    """The page with the tables as they are now."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{tables()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
