"""Checks that the import hook puts on every function of the library in tests.

The hook wraps each function in jaxtyping's own decorator, which takes four frames a call and
checks the arguments twice. The decorator here makes the same checks once, in a single frame, and
opens a scope for the sizes of axes only where an annotation names axes: a call with plain numbers
costs 1 microsecond instead of 40. They are compiled at the first call of a function: most functions
are never called in one process of a test run. Tests marked unhooked switch them off: a second run
without the hook would import everything anew.
"""

import contextlib
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # an int is welcome where a float is asked for
        violation_type=jaxtyping.TypeCheckError,
    )
)

_jaxtyped = jaxtyping.jaxtyped


class _Checks:
    are_on = True


@contextlib.contextmanager
def without_checks() -> Iterator[None]:
    """Within, functions of the library are called as without the hook, but for one frame more."""
    _Checks.are_on = False
    try:
        yield
    finally:
        _Checks.are_on = True


def _of_hook(*, typechecker: Any) -> Callable[[Any], Any]:
    """The decorator that the hook writes in front of every function and class."""
    return checked


jaxtyping.jaxtyped = _of_hook  # the hook imports this file with the first function that it meets


def checked(function_or_class: Any) -> Any:
    """Check the arguments and the return value of every call; of a dataclass, its fields."""
    if inspect.isclass(function_or_class):
        return _checked_class(function_or_class)
    if inspect.isgeneratorfunction(function_or_class):
        return _checked_generator(function_or_class)
    if not isinstance(function_or_class, types.FunctionType) or _runs_later(function_or_class):
        return _jaxtyped(function_or_class, typechecker=check)

    return _checked_function(function_or_class)


def _checked_class(cls: type) -> type:
    if dataclasses.is_dataclass(cls) and not hasattr(cls.__init__, "__wrapped__"):
        cls.__init__ = _checked_function(cls.__init__)
    return cls


def _runs_later(function: types.FunctionType) -> bool:
    """Whether a call returns before the body has run."""
    return inspect.iscoroutinefunction(function)


def _checked_generator(function: types.FunctionType) -> Callable[..., Any]:
    with_checks = _jaxtyped(function, typechecker=check)

    @functools.wraps(function)
    def generator(*args: Any, **kwargs: Any) -> Any:
        return (yield from (with_checks if _Checks.are_on else function)(*args, **kwargs))

    return generator


def _checked_function(function: types.FunctionType) -> Callable[..., Any]:
    if not function.__annotations__:
        return function

    compiled: list[tuple[Callable[..., Any], bool]] = []  # two threads may compile it at once

    @functools.wraps(function)
    def with_checks(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if not _Checks.are_on:
            return function(*args, **kwargs)

        if not compiled:
            compiled.append(_compile_checks(function))

        in_one_frame, names_axes = compiled[0]
        if not names_axes:
            return in_one_frame(*args, **kwargs)
        with _jaxtyped("context"):
            return in_one_frame(*args, **kwargs)

    return with_checks


def _compile_checks(function: types.FunctionType) -> tuple[Callable[..., Any], bool]:
    """The function behind its checks, and whether they need a scope for the sizes of axes."""
    hints = {name: _type_of(hint, function) for name, hint in function.__annotations__.items()}
    if all(hint is Any for hint in hints.values()):
        return function, False

    names_axes = any(_names_axes(hint) for hint in hints.values())
    return check(_with_hints(function, hints)), names_axes


def _type_of(hint: Any, function: types.FunctionType) -> Any:
    """The type that a quoted annotation names; Any if only type checkers import that name."""

    def holder() -> None: ...

    holder.__annotations__ = {"hint": hint}
    try:
        return typing.get_type_hints(holder, function.__globals__, include_extras=True)["hint"]
    except Exception:  # noqa: BLE001  # evaluating an annotation may raise anything
        return Any


def _with_hints(function: types.FunctionType, hints: dict[str, Any]) -> types.FunctionType:
    """A copy with other annotations: the function itself keeps those of its source."""
    copy = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy = functools.update_wrapper(copy, function)
    del copy.__wrapped__

    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = hints
    return copy


def _names_axes(hint: Any) -> bool:
    """Whether an array whose axes have names is part of the type."""
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True

    parts = hint if isinstance(hint, list) else get_args(hint)  # Callable lists its arguments
    return any(_names_axes(part) for part in parts)
