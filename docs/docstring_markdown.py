"""Docstrings for the site: the few reStructuredText forms that the library uses become Markdown."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|attr|mod):`([^`]+)`")
_INLINE_MATH = re.compile(r":math:`([^`]+)`")
_BLOCK_MATH = re.compile(r"^\.\. math::[ ]*(.*\n(?:(?:[ ]+.*)?\n)*)", re.MULTILINE)


class MarkdownDocstrings(griffe.Extension):
    """Rewrite the docstrings of a package once it is read."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:  # noqa: ANN401 (griffe passes its loader)
        """Find the home of each public name, then rewrite every docstring with links to these."""
        homes: dict[str, str] = {}
        for module in pkg.modules.values():
            names = module.exports or [
                name for name in module.functions if not name.startswith("_")
            ]
            homes.update({str(name): f"{module.path}.{name}" for name in names})
        _rewrite(pkg, homes)


def _rewrite(thing: griffe.Object, homes: dict[str, str]) -> None:
    if thing.docstring is not None:
        thing.docstring.value = to_markdown(thing.docstring.value, homes)
    for member in thing.members.values():
        if isinstance(member, griffe.Object):
            _rewrite(member, homes)


def to_markdown(text: str, homes: dict[str, str]) -> str:
    """Convert roles to links, math to arithmatex's form, and ``Example:`` to ``Examples:``."""

    def link(match: re.Match[str]) -> str:
        first, dot, rest = match[1].partition(".")
        return f"[`{match[1]}`][{homes[first]}{dot}{rest}]" if first in homes else f"`{match[1]}`"

    text = _BLOCK_MATH.sub(lambda match: f"$$\n{match[1].strip()}\n$$\n\n", text + "\n")
    text = _INLINE_MATH.sub(lambda match: rf"\({match[1]}\)", text)
    return re.sub(r"^Example:$", "Examples:", _ROLE.sub(link, text), flags=re.MULTILINE).strip()
