"""The base of all recipe sections, ranges of numbers, and what a key needs to have an effect."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt
from pydantic.fields import FieldInfo

Fraction = Annotated[float, Field(ge=0, le=1)]
FractionBelowOne = Annotated[float, Field(ge=0, lt=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
TERM = object()  # marks the keys that are weights of a loss term
Weight = Annotated[float, Field(ge=0), TERM]  # 0 leaves the term out
Sizes = Annotated[tuple[PositiveInt, PositiveInt], Field(strict=False)]


class Section(BaseModel):
    """Keys with types, ranges, defaults and meanings. An unknown key is an error.

    The text below a key is its meaning, in the tables of the documentation and in the JSON schema.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def default_tag(key: str, value: str) -> BeforeValidator:
    """Fill in the key that selects the variant of a section, where a recipe leaves it out."""

    def with_tag(tree: object) -> object:
        return {key: value, **tree} if isinstance(tree, dict) else tree

    return BeforeValidator(with_tag)


@dataclass(frozen=True)
class Needs:
    """A condition without which a key has no effect; part of the key's ``Annotated`` type.

    Attributes:
        alternatives: One of these has to hold. ``loss.triplet``: that key differs from its default.
            ``optim.optimizer: adam, adamw``: it has one of these values. ``stage: not zero_shot``:
            it has another one. ``prompt.epochs > 0``: it is greater.
    """

    alternatives: tuple[str, ...]

    def __init__(self, *alternatives: str) -> None:
        object.__setattr__(self, "alternatives", alternatives)

    def __str__(self) -> str:
        return " or ".join(f"`{alternative}`" for alternative in self.alternatives)

    def hold(self, recipe: Section) -> bool:
        """Whether one of the alternatives is true in a recipe."""
        return any(_holds(recipe, alternative) for alternative in self.alternatives)


def _holds(recipe: Section, condition: str) -> bool:
    key, colon, values = condition.partition(": ")
    key, greater, least = key.partition(" > ")
    found = lookup(recipe, key)
    if found is None:  # a recipe of another stage, or another variant of the section
        return False

    value, field = found
    if greater:
        return bool(value > float(least))
    if colon and values.startswith("not "):
        return str(value).lower() != values.removeprefix("not ")
    if colon:
        return str(value).lower() in values.split(", ")
    return bool(value != default_of(field))


def lookup(recipe: Section, key: str) -> tuple[Any, FieldInfo] | None:
    """Value and field of a dotted key; ``None`` if this recipe has no such key."""
    *sections, name = key.split(".")
    holder: Any = recipe
    for section in sections:
        holder = getattr(holder, section, None)

    if holder is None or name not in type(holder).model_fields:
        return None
    return getattr(holder, name), type(holder).model_fields[name]


def default_of(field: FieldInfo) -> Any:  # noqa: ANN401 (of any type)
    """The default of a key; ``None`` for a required one."""
    return None if field.is_required() else field.get_default(call_default_factory=True)


def idle_keys(recipe: Section) -> Iterator[tuple[str, Needs]]:
    """Keys of a recipe that were changed and have no effect, each with what it needs."""
    for name, field in type(recipe).model_fields.items():
        value = getattr(recipe, name)
        yield from _idle(recipe, name, field, value)

        if isinstance(value, Section):
            for key, inner in type(value).model_fields.items():
                yield from _idle(recipe, f"{name}.{key}", inner, getattr(value, key))


def _idle(
    recipe: Section, key: str, field: FieldInfo, value: object
) -> Iterator[tuple[str, Needs]]:
    needs = [need for need in field.metadata if isinstance(need, Needs)]
    if not needs or value == default_of(field):
        return

    for need in needs:
        if not need.hold(recipe):
            yield key, need
            return
