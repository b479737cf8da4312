"""Tables with raised marks in Markdown, LaTeX and HTML."""

import html
import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

TableFormat = Literal["markdown", "latex", "html"]

FORMATS = ("markdown", "latex", "html")

_LATEX = {
    **{character: rf"\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "\u2212": "$-$",
}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~#&])")


_STYLE = """\
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
div { overflow-x: auto; margin-bottom: 1.5rem }
table { border-collapse: collapse; border-block: 2px solid }
th, td { padding: .3rem .8rem; text-align: right; white-space: nowrap }
th { border-bottom: 1px solid }
.text { text-align: left }
caption { text-align: left; padding-bottom: .5rem; font-weight: bold }"""


class Cell(NamedTuple):
    """A text of a table, with marks to be raised after it."""

    text: str
    marks: str = ""


class Table(NamedTuple):
    """A table whose first columns are text and whose others are numbers."""

    title: str
    num_text_columns: int
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def format_tables(tables: Sequence[Table], legend: str, form: TableFormat, title: str) -> str:
    """Format tables and a legend.

    Args:
        tables: The tables, in order.
        legend: A text below them.
        form: The format; names are escaped for each.
        title: Title of an HTML page.
    """
    if form == "latex":
        return _latex(tables, legend)
    if form == "html":
        return _html(tables, legend, title)
    return _markdown(tables, legend)


def _markdown(tables: Sequence[Table], legend: str) -> str:
    parts = []
    for table in tables:
        numbers = len(table.heads) - table.num_text_columns
        rule = f"|{':--|' * table.num_text_columns}{'--:|' * numbers}"
        heads = [_markdown_text(head) or " " for head in table.heads]

        lines = [f"| {' | '.join(heads)} |", rule]
        for row in table.rows:
            cells = _marked(row, _markdown_text, "<sup>", "</sup>")
            lines.append(f"| {' | '.join(cells)} |")
        parts += [f"**{table.title}**", "\n".join(lines)]

    return "\n\n".join([*parts, _markdown_text(legend)]) + "\n"


def _latex(tables: Sequence[Table], legend: str) -> str:
    parts = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        numbers = len(table.heads) - table.num_text_columns
        lines = [f"% {table.title}"]
        lines.append(f"\\begin{{tabular}}{{{'l' * table.num_text_columns}{'r' * numbers}}}")
        lines += ["\\toprule", f"{' & '.join(map(_latex_text, table.heads))} \\\\", "\\midrule"]
        for row in table.rows:
            cells = _marked(row, _latex_text, "\\textsuperscript{", "}")
            lines.append(f"{' & '.join(cells)} \\\\")
        parts.append("\n".join([*lines, "\\bottomrule", "\\end{tabular}"]))

    return "\n\n".join([*parts, _latex_text(legend)]) + "\n"


def _html(tables: Sequence[Table], legend: str, title: str) -> str:
    lines = ["<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">']
    lines += ['<meta name="viewport" content="width=device-width, initial-scale=1">']
    lines += [
        f"<title>{_html_text(title)}</title>",
        f"<style>\n{_STYLE}\n</style>",
        "</head>",
        "<body>",
    ]
    for table in tables:
        lines += ["<div><table>", f"<caption>{html.escape(table.title)}</caption>"]
        lines.append(_html_row(table, "th", [html.escape(head) for head in table.heads]))
        for row in table.rows:
            lines.append(_html_row(table, "td", _marked(row, _html_text, "<sup>", "</sup>")))
        lines.append("</table></div>")

    lines += [f"<p>{html.escape(legend)}</p>", "</body>", "</html>"]
    return "\n".join(lines) + "\n"


def _html_row(table: Table, tag: str, cells: Sequence[str]) -> str:
    """Format a row, texts to the left and numbers to the right."""
    parts = []
    for column, cell in enumerate(cells):
        style = ' class="text"' if column < table.num_text_columns else ""
        parts.append(f"<{tag}{style}>{cell}</{tag}>")
    return f"<tr>{''.join(parts)}</tr>"


def _marked(
    row: Sequence[Cell], escape: Callable[[str], str], before: str, after: str
) -> list[str]:
    """Escape the cells of a row, and raise their marks."""
    cells = []
    for cell in row:
        marks = f" {before}{escape(cell.marks)}{after}" if cell.marks else ""
        cells.append(escape(cell.text) + marks)
    return cells


def _one_line(text: str) -> str:
    """Replace line ends and control characters, which no table holds."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text).split())


def _markdown_text(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", _one_line(text))


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in _one_line(text))


def _html_text(text: str) -> str:
    return html.escape(_one_line(text))
