"""What mkdocs does beside its plugins: equations as MathML, which every browser shows without a script."""

import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_CHANGELOG = "<!-- CHANGELOG.md -->"


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:  # noqa: ANN401 (mkdocs' own objects)
    """Put the changelog where a page asks for it; its links are written as seen from the root of the repository."""
    if _CHANGELOG not in markdown:
        return markdown
    changelog = Path(config.config_file_path).with_name("CHANGELOG.md").read_text(encoding="utf-8")
    return markdown.replace(_CHANGELOG, changelog.replace("](docs/", "]("))


def on_page_content(html: str, **_: Any) -> str:  # noqa: ANN401
    """Turn the equations that arithmatex has marked into MathML."""
    return _EQUATION.sub(_mathml, html)


def _mathml(match: re.Match[str]) -> str:
    display = "block" if match[1] == "div" else "inline"
    mathml = convert(unescape(match[2]).strip(), display=display)
    # an upright bar is a bracket here; browsers would set it as an operator between two things, with space around it
    return re.sub(r"<mo([^>]*)>(&#x0007C;|\|)</mo>", r'<mo\1 lspace="0" rspace="0">\2</mo>', mathml)
