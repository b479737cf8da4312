r"""Fields of a record from a file's path: by a template such as ``{identity}_c{camera}*.jpg`` or an expression."""

import re

from clipreid_kit._checks import fail

_PIECES = re.compile(
    r"\{(?P<field>[^{}]*)\}|(?P<many>\*\*)|(?P<some>\*)|(?P<one>\?)|(?P<text>[^{}*?]+|[{}])"
)
# Before a wildcard a field ends where its digits, or its letters, end: c{camera}* finds 12 in c12s1.
_RUN = r"\d+(?!\d)|[^\W\d_]+(?![^\W\d_])"


def compile_pattern(owner: str, pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    """Make the regular expression of a template; an expression is checked and stays as it is."""
    expression = (
        pattern if isinstance(pattern, re.Pattern) else re.compile(_expression(owner, pattern))
    )
    if "identity" not in expression.groupindex:
        shown = pattern if isinstance(pattern, str) else pattern.pattern
        remedy = "Write {identity} in a template, (?P<identity>...) in a regular expression."
        raise fail(owner, "a pattern with a field named identity", repr(shown), remedy)
    return expression


def _expression(owner: str, template: str) -> str:
    pieces = list(_PIECES.finditer(template))
    parts, seen = [], set()
    for number, piece in enumerate(pieces):
        following = pieces[number + 1].lastgroup if number + 1 < len(pieces) else None
        field = piece["field"]
        if field is None:
            parts.append(
                {"many": ".*", "some": "[^/]*", "one": "[^/]"}.get(
                    piece.lastgroup or "", re.escape(piece[0])
                )
            )
            continue
        if not field.isidentifier():
            remedy = "Fields are {identity}, {camera}, {view}, {split}, {caption} or a name for extra; * is any text."
            raise fail(
                owner, "a name in each pair of braces", f"{piece[0]!r} in {template!r}", remedy
            )
        if following == "field":
            raise fail(
                owner,
                "text or a wildcard between two fields",
                repr(template),
                "Use a regular expression.",
            )
        wild = following in ("some", "many", "one")
        if (
            field in seen
        ):  # the same name again means the same text again, as in {identity}/{identity}_*.jpg
            parts.append(f"(?P={field})")
        else:
            parts.append(f"(?P<{field}>{_RUN if wild else '[^/]+?'})")
            seen.add(field)
    return rf"\A{''.join(parts)}\Z"
