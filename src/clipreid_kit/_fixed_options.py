"""Attributes that a constructor sets, and nobody afterwards."""

from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def fixed_options(*names: str, not_kept: tuple[str, ...] = ()) -> Callable[[type[_T]], type[_T]]:
    """Class decorator: each of these attributes is set once, by the constructor.

    Use it for options that are used up when an object is built, where a later value would be
    ignored silently. ``Final`` says the same to type checkers: ``self.seed: Final = seed``.

    Args:
        names: Attributes that the constructor sets.
        not_kept: Arguments of the constructor that are no attributes, such as large columns. To set
            them is the same mistake.

    Returns:
        The decorator. The class raises ``AttributeError`` where one of the attributes is set.
    """

    def decorate(owner: type[_T]) -> type[_T]:
        set_any_attribute = owner.__setattr__

        def set_attribute(self: _T, name: str, value: object) -> None:
            is_set = name in names and name in vars(self)
            if is_set or name in not_kept:
                raise AttributeError(
                    f"{owner.__name__}: {name} is fixed when the object is built; "
                    f"build a new {owner.__name__} with another {name}."
                )
            set_any_attribute(self, name, value)

        owner.__setattr__ = set_attribute  # type: ignore[assignment, method-assign]
        return owner

    return decorate
