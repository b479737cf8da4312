"""Find the variant of a union that keys select, and keys that belong to another variant."""

import difflib
import functools
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from examples.settings.errors import shorten

Models = tuple[type[BaseModel], ...]

_LONGEST_KEY = 100  # characters that an error shows


class UnknownKeyError(ValueError):
    """A key that no variant has, or a tag that names no variant."""

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(sentence)
        self.key = key


def models_in(annotation: object) -> Models:
    """The models of an annotation: of a union, an annotated type, or one model."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(model for part in typing.get_args(annotation) for model in models_in(part))


@functools.cache
def discriminator_of(models: Models) -> str:
    """The key that tells models apart: the first whose values are literals in all, and differ."""
    for name in models[0].model_fields:
        tags = [tag for model in models for tag in tags_of(model, name)]
        if all(tags_of(model, name) for model in models) and len(tags) == len(set(tags)):
            return name
    raise TypeError(f"nothing tells these models apart: {models}")


def tags_of(model: type[BaseModel], key: str) -> tuple[str, ...]:
    """The literal values of a key; empty if it is missing, or has another type."""
    field = model.model_fields.get(key)
    if field is None or typing.get_origin(field.annotation) is not typing.Literal:
        return ()
    return typing.get_args(field.annotation)


def select(models: Models, tree: dict[str, Any], section: str = "") -> type[BaseModel]:
    """The model that a tree selects by its discriminator, or by that key's default.

    Raises:
        UnknownKeyError: If the discriminator is missing and has no default, or names no model.
    """
    if len(models) == 1:
        return models[0]

    key = discriminator_of(models)
    for model in models:
        if key in tree and tree[key] in tags_of(model, key):
            return model
        if key not in tree and not model.model_fields[key].is_required():
            return model

    name = f"{section}{key}"
    allowed = ", ".join(tag for model in models for tag in tags_of(model, key))
    if key in tree:
        sentence = f"`{name}` must be one of {allowed}, got {shorten(tree[key])}."
    else:
        sentence = f"the key `{name}` is missing; it is one of {allowed}."
    raise UnknownKeyError(name, sentence)


def foreign_keys(models: Models, tree: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys of a tree that belong to another variant than it selects, each with the reason.

    Raises:
        UnknownKeyError: If a key belongs to no variant at all; the text names the nearest key.
    """
    stage = select(models, tree)
    for name, value in tree.items():
        if name not in stage.model_fields:
            owners = [model for model in models if name in model.model_fields]
            yield str(name), _reason("", str(name), owners, models, stage, tree)
            continue

        variants = models_in(stage.model_fields[name].annotation)
        if variants and isinstance(value, dict):
            yield from _foreign_in_section(name, variants, value, models, stage, tree)


def _foreign_in_section(
    name: str,
    variants: Models,
    keys: dict[str, Any],
    models: Models,
    stage: type[BaseModel],
    tree: dict[str, Any],
) -> Iterator[tuple[str, str]]:
    """Keys of a section that belong to another variant of it, or to another stage."""
    section = select(variants, keys, f"{name}.")
    for key in keys:
        if key in section.model_fields:
            continue

        path = f"{name}.{key}"
        siblings = [model for model in variants if key in model.model_fields]
        owners = [model for model in models if _has_key(model, name, key)]
        if siblings:
            yield path, _reason(f"{name}.", path, siblings, variants, section, keys)
        elif owners:
            yield path, _reason("", path, owners, models, stage, tree)
        else:
            raise _unknown(path, section)


def _has_key(model: type[BaseModel], name: str, key: object) -> bool:
    """Whether a section of a model has a key, in any of its variants."""
    field = model.model_fields.get(name)
    return field is not None and any(key in m.model_fields for m in models_in(field.annotation))


def _unknown(path: str, model: type[BaseModel]) -> UnknownKeyError:
    section, dot, name = path.rpartition(".")
    near = difflib.get_close_matches(name, model.model_fields, n=1)
    known = ", ".join(model.model_fields)
    hint = f"Did you mean `{section}{dot}{near[0]}`?" if near else f"Known keys: {known}."
    shown = path if len(path) <= _LONGEST_KEY else f"{path[:_LONGEST_KEY]}..."
    return UnknownKeyError(path, f"there is no key `{shown}`. {hint}")


def _reason(
    prefix: str,
    path: str,
    owners: list[type[BaseModel]],
    variants: Models,
    chosen: type[BaseModel],
    tree: dict[str, Any],
) -> str:
    """Why a key cannot be written here: it belongs to other variants than the chosen one."""
    if not owners:
        raise _unknown(path, chosen)

    key = discriminator_of(variants)
    needed = ", ".join(tag for model in owners for tag in tags_of(model, key))
    here = tree.get(key, tags_of(chosen, key)[0])
    return (
        f"belongs to `{prefix}{key}: {needed}`; this recipe has `{prefix}{key}: {here}`. "
        "Remove the key."
    )
