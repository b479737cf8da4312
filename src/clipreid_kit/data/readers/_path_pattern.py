r"""Patterns that find the fields of a record in the path of its file.

A pattern is a template such as ``{identity}_c{camera}*.jpg``, or a compiled regular expression.
"""

import re

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


def compile_pattern(owner: str, pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    """Compile a template to a regular expression; check that a pattern has a field ``identity``."""
    if isinstance(pattern, re.Pattern):
        expression = pattern
        shown = pattern.pattern
    else:
        expression = re.compile(_template_to_expression(owner, pattern))
        shown = pattern

    if "identity" not in expression.groupindex:
        raise ValueError(
            f"{owner}: the pattern {shown!r} has no field identity. Write {{identity}} in a "
            "template, (?P<identity>...) in a regular expression."
        )
    return expression


def _template_to_expression(owner: str, template: str) -> str:
    """Return the regular expression of a template, which matches a whole path."""
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
            parts.append(f"(?P<{field}>{text})")
            seen.add(field)

    return rf"\A{''.join(parts)}\Z"


def _check_field(owner: str, template: str, field: str, following: str) -> None:
    """Raise ValueError if a field has no valid name, or another field directly after it."""
    if not field.isidentifier():
        raise ValueError(
            f"{owner}: {{{field}}} in {template!r} is not a field. Fields are {{identity}}, "
            "{camera}, {view}, {split}, {caption} or a name for extra; * is any text."
        )
    if following == "field":
        raise ValueError(
            f"{owner}: two fields in {template!r} have nothing between them. Put text or a "
            "wildcard between them, or use a regular expression."
        )
