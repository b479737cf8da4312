r"""Patterns that find the fields of a record in the path of its file.

A pattern is a template such as ``{identity}_c{camera}*.jpg``, or a compiled regular expression.
"""

import re
from typing import Any, NamedTuple

import regex

_PIECES = re.compile(
    r"\{(?P<field>[^{}]*)\}"
    r"|(?P<any_folders>\*\*)"
    r"|(?P<any_text>\*)"
    r"|(?P<any_character>\?)"
    r"|(?P<literal>[^{}*?]+|[{}])"
)
_WILDCARDS = {"any_folders": ".*", "any_text": "[^/]*", "any_character": "[^/]"}

# Before a wildcard a field ends where its digits, or its letters, end: c{camera}* finds 12 in
# c12s1.
_RUN = r"\d+(?!\d)|[^\W\d_]+(?![^\W\d_])"
_SHORTEST = r"[^/]+?"
_NUMBER = r"\d+(?!\d)"

# In seconds, for one name: a regular expression may otherwise search for years.
_LONGEST_SEARCH = 5.0
_LONGEST_PATTERN = 5000  # characters, more than any path has

# Of the regex library, which has no types.
Expression = Any
Match = Any


class PathPattern(NamedTuple):
    """A compiled pattern, and its variant in which the camera is a number.

    Attributes:
        expression: The pattern.
        with_numbers: The variant; ``None`` for a regular expression or without a camera.
        shown: The pattern as it was given, for errors.
    """

    expression: Expression
    with_numbers: Expression | None
    shown: str


def compile_pattern(owner: str, pattern: str | re.Pattern[str]) -> PathPattern:
    """Compile a template to a regular expression; check that a pattern has a field ``identity``."""
    check_length(owner, pattern if isinstance(pattern, str) else pattern.pattern)
    with_numbers = None
    if isinstance(pattern, re.Pattern):
        expression = bounded(pattern)
        shown = pattern.pattern
    else:
        expression = regex.compile(_template_to_expression(owner, pattern, camera=None))
        shown = pattern
        if "camera" in expression.groupindex:
            with_numbers = regex.compile(_template_to_expression(owner, pattern, camera=_NUMBER))

    if "identity" not in expression.groupindex:
        raise ValueError(
            f"{owner}: the pattern {shown!r} has no field identity. Write {{identity}} in a "
            "template, (?P<identity>...) in a regular expression."
        )
    return PathPattern(expression, with_numbers, shown)


def check_length(owner: str, pattern: str) -> None:
    """Raise ValueError if a pattern is longer than any path: compiling it takes minutes."""
    if len(pattern) > _LONGEST_PATTERN:
        raise ValueError(
            f"{owner}: the pattern has {len(pattern)} characters, more than the limit of "
            f"{_LONGEST_PATTERN}. Write a shorter one."
        )


def bounded(expression: re.Pattern[str]) -> Expression:
    """Compile a regular expression by a library that can stop its search."""
    flags = 0
    for ours, theirs in (
        (re.ASCII, regex.ASCII),
        (re.IGNORECASE, regex.IGNORECASE),
        (re.MULTILINE, regex.MULTILINE),
        (re.DOTALL, regex.DOTALL),
        (re.VERBOSE, regex.VERBOSE),
    ):
        if expression.flags & ours:
            flags |= theirs
    return regex.compile(expression.pattern, flags)


def search_path(owner: str, expression: Expression, path: str) -> Match | None:
    """Search in a path, for a few seconds at most."""
    try:
        match: Match | None = expression.search(path, timeout=_LONGEST_SEARCH)
    except TimeoutError as error:
        raise ValueError(
            f"{owner}: the pattern {expression.pattern!r} took more than {_LONGEST_SEARCH:g} s on "
            f"{path!r}. Write it without repeats inside repeats, such as (a+)+."
        ) from error
    return match


def _template_to_expression(owner: str, template: str, camera: str | None) -> str:
    """Return the regular expression of a template, which matches a whole path.

    ``camera`` is the expression of the field of that name; ``None`` for that of any field.
    """
    pieces = list(_PIECES.finditer(template))
    kinds = [piece.lastgroup or "" for piece in pieces]
    parts: list[str] = []
    seen: set[str] = set()

    for piece, kind, following in zip(pieces, kinds, [*kinds[1:], ""], strict=True):
        if kind in _WILDCARDS:
            parts.append(_WILDCARDS[kind])
            continue
        if kind == "literal":
            parts.append(re.escape(piece[0]))
            continue

        field = piece["field"]
        _check_field(owner, template, field, following)
        # The same name again means the same text again, as in {identity}/{identity}_*.jpg.
        if field in seen:
            parts.append(f"(?P={field})")
        else:
            text = _RUN if following in _WILDCARDS else _SHORTEST
            if field == "camera" and camera is not None:
                text = camera
            parts.append(f"(?P<{field}>{text})")
            seen.add(field)

    return rf"\A{''.join(parts)}\Z"


def _check_field(owner: str, template: str, field: str, following: str) -> None:
    """Raise ValueError if a field has no valid name, or another field directly after it."""
    if not field.isidentifier():
        raise ValueError(
            f"{owner}: {{{field}}} in {template!r} is not a field. Fields are {{identity}}, "
            "{camera}, {view}, {split}, {caption}, {modality} or a name for extra; * is any text."
        )
    if following == "field":
        raise ValueError(
            f"{owner}: two fields in {template!r} have nothing between them. Put text or a "
            "wildcard between them, or use a regular expression."
        )
