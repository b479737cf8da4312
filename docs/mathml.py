"""Markdown extension: equations as MathML, which every browser shows without a script."""

import re
from html import unescape

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.postprocessors import Postprocessor

_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_BAR = re.compile(r"<mo([^>]*)>(&#x0007C;|\|)</mo>")


class MathML(Extension):
    """Convert the equations that ``pymdownx.arithmatex`` has marked."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 (the name that Markdown calls)
        """Run after every other postprocessor."""
        md.postprocessors.register(_Equations(md), "mathml", priority=-10)


class _Equations(Postprocessor):
    def run(self, text: str) -> str:
        return _EQUATION.sub(_mathml, text)


def _mathml(match: re.Match[str]) -> str:
    display = "block" if match[1] == "div" else "inline"
    mathml = convert(unescape(match[2]).strip(), display=display)

    # A bar is a bracket here; browsers would set it as an operator, with space around it.
    return _BAR.sub(r'<mo\1 lspace="0" rspace="0">\2</mo>', mathml)


def makeExtension(**options: object) -> MathML:  # noqa: N802 (the name that Markdown calls)
    """Make the extension, for Markdown."""
    return MathML(**options)
