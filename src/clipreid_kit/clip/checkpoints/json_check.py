"""Check that a value can be written as JSON, and name the part of it that cannot."""

import json
from collections.abc import Iterator, Sequence
from typing import Any


def check_json(owner: str, name: str, value: object) -> None:
    """Require a value that JSON can hold: numbers, strings, booleans, lists and dictionaries.

    Args:
        owner: Name of the function that received the value, for the error.
        name: Name of its argument.
        value: The value.

    Raises:
        ValueError: If it cannot be written as JSON; the error names the part and its type.

    Example:
        >>> check_json("save_towers", "extra", {"sizes": [1, {2, 3}]})
        Traceback (most recent call last):
        ...
        ValueError: save_towers: `extra` must be JSON-serialisable; `extra["sizes"][1]` is a set.
    """
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        reason = _find_obstacle(name, value, ()) or str(error)
        raise ValueError(f"{owner}: `{name}` must be JSON-serialisable; {reason}.") from None


def _find_obstacle(path: str, value: object, parents: tuple[int, ...]) -> str | None:
    """Describe the first part that JSON cannot hold; ``None`` if there is none."""
    if id(value) in parents:
        return f"`{path}` contains itself"

    if isinstance(value, dict | list | tuple):
        for inner_path, inner in _items(path, value):
            if inner_path is None:
                return f"`{path}` has a key of type {type(inner).__name__}"
            obstacle = _find_obstacle(inner_path, inner, (*parents, id(value)))
            if obstacle is not None:
                return obstacle
        return None

    try:
        json.dumps(value, allow_nan=False)
    except TypeError:
        kind = type(value).__name__
        article = "an" if kind[0].lower() in "aeiou" else "a"
        return f"`{path}` is {article} {kind}"
    except ValueError:
        return f"`{path}` is {value}"
    return None


def _items(
    path: str, value: dict[Any, object] | Sequence[object]
) -> Iterator[tuple[str | None, object]]:
    """Iterate over the parts of a container with their paths; a key that JSON lacks has no path."""
    if not isinstance(value, dict):
        for index, item in enumerate(value):
            yield f"{path}[{index}]", item
        return

    for key, item in value.items():
        if isinstance(key, str | int | float | None):
            yield f"{path}[{json.dumps(key)}]", item
        else:
            yield None, key
