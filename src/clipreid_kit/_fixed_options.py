"""Attributes that a constructor sets, and nobody afterwards."""

import inspect
from collections.abc import Callable
from typing import Final, TypeVar, get_origin

_T = TypeVar("_T")


def fixed_options(*, not_kept: tuple[str, ...] = ()) -> Callable[[type[_T]], type[_T]]:
    """Class decorator: what the class annotates as ``Final`` is set once, by the constructor.

    Use it for options that are used up when an object is built, where a later value would be
    ignored silently. Type checkers read the same annotations. Parameters, buffers and submodules of
    an ``nn.Module`` are none of them: torch keeps those elsewhere.

    Args:
        not_kept: Arguments of the constructor that are no attributes, such as large columns. To set
            them is the same mistake. A subclass with a constructor of its own may have attributes
            of these names.

    Returns:
        The decorator. Objects of the class raise ``AttributeError`` where one of these attributes
        is set later.

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
        for name, annotation in inspect.get_annotations(owner).items():
            kind: object = get_origin(annotation)
            if kind is Final:
                setattr(owner, name, _SetOnce(owner.__name__, name))

        for name in not_kept:
            setattr(owner, name, _NeverSet(owner, name))

        return owner

    return decorate


class _SetOnce:
    """Attribute that is set once.

    Without ``__get__``, Python finds the value among the object's own attributes: reading it costs
    nothing more, and copies, pickles and compilers see a plain attribute.
    """

    def __init__(self, owner: str, name: str) -> None:
        self._owner = owner
        self._name = name

    def __set__(self, instance: object, value: object) -> None:
        attributes = vars(instance)
        if self._name in attributes:
            raise _error(self._owner, self._name)
        attributes[self._name] = value


class _NeverSet:
    """Attribute that no object has, unless a subclass with a constructor of its own sets it."""

    def __init__(self, owner: type, name: str) -> None:
        self._owner = owner
        self._name = name

    def __get__(self, instance: object, owner: type) -> object:
        if instance is None or self._name not in vars(instance):
            raise AttributeError(f"{owner.__name__!r} object has no attribute {self._name!r}")
        return vars(instance)[self._name]

    def __set__(self, instance: object, value: object) -> None:
        constructor = inspect.getattr_static(type(instance), "__init__")
        if constructor is inspect.getattr_static(self._owner, "__init__"):
            raise _error(self._owner.__name__, self._name)
        vars(instance)[self._name] = value


def _error(owner: str, name: str) -> AttributeError:
    """Error of an option that is set too late."""
    return AttributeError(
        f"{owner}: {name} is fixed when the object is built; "
        f"build a new {owner} with another {name}."
    )
