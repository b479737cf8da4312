"""One self-contained HTML file that shows what a run reached: no script, no link, no second file.

It reads in light and dark, on a phone and on paper. Everything that is passed in is text, numbers or images;
all text is escaped.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from clipreid_kit.viz import Theme, figure_png, image_png
from examples.report.files import write_whole
from examples.report.html_parts import (
    Chart,
    Details,
    Metric,
    Picture,
    RankedLists,
    RankedQuery,
    Ranking,
    Section,
    Task,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # nothing can come from outside
)
_STYLE = Path(__file__).with_name("html_report.css")
_THUMBNAIL_SIDE = 160  # pixels; shown at half that size, so sharp on a phone


def picture_of(draw: Callable[[Theme], Figure]) -> Picture:
    """Draw a figure for a light and for a dark page: ``lambda theme: cmc_figure(curves, theme=theme)``."""
    return Picture(
        figure_png(draw("light"), transparent=True), figure_png(draw("dark"), transparent=True)
    )


def write_report(
    path: str | Path,
    *,
    title: str,
    summary: str,
    table: Sequence[Task],
    sections: Sequence[Section],
) -> None:
    """Write the report; a reader of ``path`` sees the old file or the whole new one, never a part.

    Args:
        path: The file, in a folder that exists.
        title: The heading of the page.
        summary: What was done and reached, in a sentence.
        table: The main figures, task by task.
        sections: What follows, in this order.

    Raises:
        ValueError: If the folder is missing, a metric leaves [0, 1], or a picture is not a PNG.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(
            f"write_report: expected an existing folder, got {path.parent}. Create it first."
        )
    write_whole(path, _page(title, summary, table, sections).encode())


def _page(title: str, summary: str, table: Sequence[Task], sections: Sequence[Section]) -> str:
    tasks = "\n".join(_task(task) for task in table)
    body = "\n".join(_section(section) for section in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>{_STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="summary">{escape(summary)}</p>
</header>
<main>
<div class="tasks">
{tasks}
</div>
{body}
</main>
</body>
</html>
"""


def _task(task: Task) -> str:
    compared = any(metric.before is not None for metric in task.metrics)
    heads = (
        ("Before", "After", 'Gain<span class="unit"> (points)</span>') if compared else ("Result",)
    )
    columns = "".join(f'<th scope="col">{head}</th>' for head in heads)
    rows = "\n".join(_metric(metric, compared=compared) for metric in task.metrics)
    note = f'<p class="note">{escape(task.note)}</p>' if task.note else ""
    return f"""<section class="card">
<table>
<caption>{escape(task.name)}</caption>
<thead><tr><th scope="col"><span class="hidden">Metric</span></th>{columns}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
{note}
</section>"""


def _metric(metric: Metric, *, compared: bool) -> str:
    for value in (metric.before, metric.after):
        if value is not None and (value < 0 or value > 1):
            raise ValueError(
                f"write_report: expected metric {metric.name!r} within [0, 1], got {value:g}."
            )
    cells = f'<td class="after">{_percent(metric.after)}</td>'
    if compared:
        cells = f'<td class="before">{_percent(metric.before)}</td>{cells}<td>{_gain(metric)}</td>'
    return f"""<tr><th scope="row">{escape(metric.name)}</th>{cells}</tr>
<tr class="scale" aria-hidden="true"><td colspan="{4 if compared else 2}">{_scale(metric)}</td></tr>"""


def _percent(fraction: float | None) -> str:
    return "n/a" if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.1f}%"


def _gain(metric: Metric) -> str:
    if metric.before is None or not math.isfinite(metric.before) or not math.isfinite(metric.after):
        return "n/a"
    points = round(100 * metric.after, 1) - round(
        100 * metric.before, 1
    )  # of the figures that stand beside it
    if abs(points) < 0.05:
        return '<span class="gain same">0.0</span>'
    kind, arrow, sign = ("up", "▲", "+") if points > 0 else ("down", "▼", "&minus;")
    return f'<span class="gain {kind}"><span aria-hidden="true">{arrow}</span> {sign}{abs(points):.1f}</span>'


def _scale(metric: Metric) -> str:
    """A line from 0 to 100 percent with the way from before to after on it."""
    if not math.isfinite(metric.after):
        return '<div class="track"></div>'
    before = metric.before if metric.before is not None and math.isfinite(metric.before) else 0.0
    low, high = sorted((100 * before, 100 * metric.after))
    kind = "up" if metric.after >= before else "down"
    fill = f'<span class="way {kind}" style="left:{low:.1f}%;width:{high - low:.1f}%"></span>'
    return f'<div class="track"><span class="base" style="width:{low:.1f}%"></span>{fill}</div>'


def _section(section: Section) -> str:
    text = f"<p>{escape(section.text)}</p>" if section.text else ""
    blocks = "\n".join(_block(block) for block in section.blocks)
    return f"<section>\n<h2>{escape(section.title)}</h2>\n{text}\n{blocks}\n</section>"


def _block(block: Chart | RankedLists | Details) -> str:
    if isinstance(block, Chart):
        return _chart(block)
    return _ranked_lists(block) if isinstance(block, RankedLists) else _details(block)


def _chart(chart: Chart) -> str:
    # the style sheet shows one of them; unlike <picture>, it chooses again when the page goes to paper
    narrow = chart.narrow
    versions = [("light", chart.wide.light), ("dark", chart.wide.dark)]
    if narrow is not None:
        versions = [(f"wide {theme}", png) for theme, png in versions]
        versions += [("narrow light", narrow.light), ("narrow dark", narrow.dark)]
    images = "\n".join(
        f'<img class="{kind}" src="{_data_uri(png)}" {_size(png)} alt="{escape(chart.alt)}">'
        for kind, png in versions
    )
    return f"""<figure class="card chart">
{images}
<figcaption>{escape(chart.caption)}</figcaption>
</figure>"""


def _ranked_lists(lists: RankedLists) -> str:
    queries = "\n".join(_ranked_query(query) for query in lists.queries)
    caption = f"{escape(lists.caption)} " if lists.caption else ""
    return f"""<figure class="card">
<figcaption class="legend">{caption}<span class="key right">✓</span> the same identity,
<span class="key wrong">✗</span> another one.</figcaption>
{queries}
</figure>"""


def _ranked_query(query: RankedQuery) -> str:
    if isinstance(query.query, str):
        asked = f"<blockquote>{escape(query.query)}</blockquote>"
    else:
        png = image_png(query.query, max_side=2 * _THUMBNAIL_SIDE)
        asked = f'<img src="{_data_uri(png)}" {_size(png)} alt="The query image">'
    rankings = "\n".join(_ranking(ranking) for ranking in query.rankings)
    title = f"<h3>{escape(query.title)}</h3>" if query.title else ""
    return f"""<article class="query">
<div class="asked">{title}{asked}</div>
<div class="answers">
{rankings}
</div>
</article>"""


def _ranking(ranking: Ranking) -> str:
    found = []
    for place, image in enumerate(ranking.gallery):
        right = bool(ranking.matches[place])
        png = image_png(image, max_side=_THUMBNAIL_SIDE)
        alt = f"Rank {place + 1}: {'the same identity' if right else 'another identity'}"
        number = ""
        if ranking.similarities is not None:
            number = f"<small>{float(ranking.similarities[place]):.2f}</small>"
        found.append(
            f'<li><span class="rank" aria-hidden="true">{place + 1}</span>'
            f'<span class="found {"right" if right else "wrong"}">'
            f'<img src="{_data_uri(png)}" {_size(png)} alt="{alt}">'
            f'<span class="mark" aria-hidden="true">{"✓" if right else "✗"}</span></span>{number}</li>'
        )
    count = sum(map(bool, ranking.matches))
    head = f"<h4>{escape(ranking.label)} <span>{count} of {len(ranking.matches)} right</span></h4>"
    return f"<div>{head}\n<ol>\n" + "\n".join(found) + "\n</ol></div>"


def _details(details: Details) -> str:
    if isinstance(details.content, str):
        content = f'<pre tabindex="0">{escape(details.content)}</pre>'
    else:
        rows = "".join(
            f"<div><dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd></div>"
            for name, value in details.content.items()
        )
        content = f"<dl>{rows}</dl>"
    return (
        f'<details class="card">\n<summary>{escape(details.title)}</summary>\n{content}\n</details>'
    )


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _size(png: bytes) -> str:
    """Width and height, so that nothing jumps while the page opens."""
    if not png.startswith(b"\x89PNG\r\n\x1a\n") or len(png) < 24:
        raise ValueError(
            "write_report: expected a picture as the bytes of a PNG file. Make them with figure_png."
        )
    return (
        f'width="{int.from_bytes(png[16:20], "big")}" height="{int.from_bytes(png[20:24], "big")}"'
    )
