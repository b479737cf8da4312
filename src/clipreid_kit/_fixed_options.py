"""Attributes that a constructor sets, and nobody afterwards."""

import inspect
from collections.abc import Callable
from typing import Final, TypeVar, get_origin

_T = TypeVar("_T")


def fixed_options(*, not_kept: tuple[str, ...] = ()) -> Callable[[type[_T]], type[_T]]:
    """Class decorator: what the class annotates as ``Final`` is set once, by the constructor.

    Use it for options that are used up when an object is built, where a later value would be
    ignored silently. Type checkers read the same annotations. To set a number or a text to what it
    is already changes nothing, and is allowed: constructors of subclasses often do so. Copies and
    pickles of an object are restored without setting attributes.

    Args:
        not_kept: Arguments of the constructor that are no attributes, such as large columns. To set
            them is the same mistake. A subclass with a constructor of its own may have attributes
            of these names.

    Returns:
        The decorator, for classes without ``__setattr__`` and ``__delattr__`` of their own. Their
        objects raise ``AttributeError`` where one of these attributes is set later, or deleted.

    Example:
        >>> @fixed_options()
        ... class Layer:
        ...     dim: Final[int]
        ...
        ...     def __init__(self, dim):
        ...         self.dim = dim
        >>> layer = Layer(dim=4)
        >>> layer.dim = 8  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        AttributeError: Layer: dim is fixed when the object is built; build a new Layer with ...
    """

    def decorate(owner: type[_T]) -> type[_T]:
        annotations: dict[str, object] = inspect.get_annotations(owner)
        origins = {name: get_origin(annotation) for name, annotation in annotations.items()}
        set_once = {name for name in origins if origins[name] is Final}

        def set_attribute(self: _T, name: str, value: object) -> None:
            if name in set_once:
                _check_unset(owner, self, name, value)
            elif name in not_kept and _has_constructor_of(owner, self):
                raise _error(owner, self, name)
            super(owner, self).__setattr__(name, value)  # type: ignore[misc]

        def delete_attribute(self: _T, name: str) -> None:
            if name in set_once:
                raise _error(owner, self, name)
            super(owner, self).__delattr__(name)  # type: ignore[misc]

        owner.__setattr__ = set_attribute  # type: ignore[assignment, method-assign]
        owner.__delattr__ = delete_attribute  # type: ignore[assignment, method-assign]
        return owner

    return decorate


def _check_unset(owner: type, instance: object, name: str, value: object) -> None:
    """Raise AttributeError if an option has another value already."""
    options = instance.__dict__
    if name not in options:
        return

    kept = options[name]
    is_equal = isinstance(value, int | float | str) and type(value) is type(kept) and value == kept
    if value is not kept and not is_equal:
        raise _error(owner, instance, name)


def _has_constructor_of(owner: type, instance: object) -> bool:
    """Return whether the class of an object has no constructor of its own."""
    constructor = inspect.getattr_static(type(instance), "__init__")
    return constructor is inspect.getattr_static(owner, "__init__")


def _error(owner: type, instance: object, name: str) -> AttributeError:
    """Error of an option that is set too late."""
    remedy = f"build a new {type(instance).__name__} with another {name}"
    if not _has_constructor_of(owner, instance):
        remedy += f", which its constructor gives to {owner.__name__}"

    return AttributeError(f"{owner.__name__}: {name} is fixed when the object is built; {remedy}.")
