"""One sentence for the errors of a validation, in which values are shortened."""

import reprlib
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

# What a value must be, by the type of error; the fields in braces are the error's own.
_MUST_BE = {
    "bool_type": "true or false",
    "float_type": "a number",
    "finite_number": "a finite number",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "int_type": "a whole number",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "list_type": "a list",
    "literal_error": "one of {expected}",
    "model_attributes_type": "a section of keys",
    "model_type": "a section of keys",
    "string_type": "text",
    "too_long": "a list of at most {max_length}",
    "too_short": "a list of at least {min_length}",
    "tuple_type": "a list",
}


class _AsYaml(reprlib.Repr):
    """A ``repr`` that writes what YAML and JSON call by other names than Python."""

    def repr_NoneType(self, _value: None, _level: int) -> str:  # noqa: N802 (reprlib's rule)
        return "null"

    def repr_bool(self, value: bool, _level: int) -> str:
        return str(value).lower()


_SHORT = _AsYaml()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = 100


def shorten(value: object) -> str:
    """The ``repr`` of a value on one line, short whatever the value holds."""
    return " ".join(_SHORT.repr(value).split())


def content(tree: object) -> str:
    """The content of a file that should hold keys, in short."""
    return "nothing" if tree is None else shorten(tree)


def sentence_of(error: ValidationError, tree: dict[str, Any]) -> tuple[str, str]:
    """The first key that an error is about, and a sentence that says what it must be."""
    details = error.errors()
    first = details[0]
    key = _key_of(first, tree)

    if first["type"] == "missing" and isinstance(first["loc"][-1], int):
        return key, f"the list `{key}` is too short, got {shorten(first['input'])}."
    if first["type"] == "missing":
        return key, f"the key `{key}` is missing."
    if first["type"] == "value_error":
        return key, f"{first['ctx']['error']}."

    # A key of several types, such as a number or a word, has an error for each.
    allowed = [_must_be(one) for one in details if _key_of(one, tree) == key]
    return key, f"`{key}` must be {', or '.join(allowed)}, got {shorten(first['input'])}."


def _must_be(error: ErrorDetails) -> str:
    template = _MUST_BE.get(error["type"])
    if template is None:
        return error["msg"].removeprefix("Input should be ")
    words = template.format(**error.get("ctx", {})).replace("'", "")
    return words if " or " in words else words.removeprefix("one of ")


def _key_of(error: ErrorDetails, tree: dict[str, Any]) -> str:
    """The dotted key of an error, whose location also names variants and types."""
    key = ""
    value: Any = tree
    for part in error["loc"]:
        if isinstance(value, dict) and (part in value or error["type"] == "missing"):
            key += f".{part}" if key else str(part)
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            key += f"[{part}]"
            value = value[part]
    return key
