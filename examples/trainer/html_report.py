"""One self-contained HTML file that shows what a run reached: no script, no link, no second file.

It reads in light and dark, on a phone and on paper. Everything that is passed in is text, numbers or images;
all text is escaped.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from clipreid_kit.viz import ImageLike, Theme, figure_png, image_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # nothing can come from outside
_THUMBNAIL_SIDE = 160  # pixels; shown at half that size, so sharp on a phone


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the main table; fractions in [0, 1].

    Attributes:
        name: Such as ``Rank-1``.
        before: Before training; ``None`` where there is nothing to compare with.
        after: After training; NaN where nothing could be measured.
    """

    name: str
    before: float | None
    after: float


@dataclass(frozen=True, slots=True)
class Task:
    """What was searched with what, such as text to image, and how well that went."""

    name: str
    metrics: Sequence[Metric]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG for a light page and the same for a dark one, both with a transparent ground."""

    light: bytes
    dark: bytes


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure with a caption.

    Attributes:
        wide: For a desktop and for paper.
        alt: What it shows, for those who cannot see it.
        caption: A sentence below it.
        narrow: For a phone; ``None`` shows the wide one there too.
    """

    wide: Picture
    alt: str
    caption: str
    narrow: Picture | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one model found for one query, best first.

    Attributes:
        label: Which model, such as ``before``.
        gallery: The images found.
        matches: For each, whether it shows the query's identity.
        similarities: For each, the number below it; ``None`` shows none.
    """

    label: str
    gallery: Sequence[ImageLike]
    matches: Sequence[bool]
    similarities: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Refuse lists that do not belong together."""
        for name, given in (("matches", self.matches), ("similarities", self.similarities)):
            if given is not None and len(given) != len(self.gallery):
                raise ValueError(
                    f"Ranking: expected {name} of the length of gallery, {len(self.gallery)}, "
                    f"got {len(given)}. Give one for each image."
                )


@dataclass(frozen=True, slots=True)
class RankedQuery:
    """A query, an image or a sentence, and one or more rankings for it."""

    query: ImageLike | str
    rankings: Sequence[Ranking]
    title: str = ""


@dataclass(frozen=True, slots=True)
class RankedLists:
    """Queries with what was found for them, and a caption for all."""

    queries: Sequence[RankedQuery]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Details:
    """Something to unfold: a text as it is (a recipe), or names with values (an environment)."""

    title: str
    content: str | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a plain sentence or two, and what belongs below."""

    title: str
    blocks: Sequence[Chart | RankedLists | Details]
    text: str = ""


def picture_of(draw: Callable[[Theme], Figure]) -> Picture:
    """Draw a figure for a light and for a dark page: ``lambda theme: cmc_figure(curves, theme=theme)``."""
    return Picture(figure_png(draw("light"), transparent=True), figure_png(draw("dark"), transparent=True))


def write_report(
    path: str | Path, *, title: str, summary: str, table: Sequence[Task], sections: Sequence[Section]
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
        raise ValueError(f"write_report: expected an existing folder, got {path.parent}. Create it first.")
    page = _page(title, summary, table, sections).encode()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            stream.write(page)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
<style>{_STYLE}</style>
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
    heads = ("Before", "After", 'Gain<span class="unit"> (points)</span>') if compared else ("Result",)
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
            raise ValueError(f"write_report: expected metric {metric.name!r} within [0, 1], got {value:g}.")
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
    points = round(100 * metric.after, 1) - round(100 * metric.before, 1)  # of the figures that stand beside it
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
        f'<img class="{kind}" src="{_data_uri(png)}" {_size(png)} alt="{escape(chart.alt)}">' for kind, png in versions
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
    return f'<details class="card">\n<summary>{escape(details.title)}</summary>\n{content}\n</details>'


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _size(png: bytes) -> str:
    """Width and height, so that nothing jumps while the page opens."""
    if not png.startswith(b"\x89PNG\r\n\x1a\n") or len(png) < 24:
        raise ValueError("write_report: expected a picture as the bytes of a PNG file. Make them with figure_png.")
    return f'width="{int.from_bytes(png[16:20], "big")}" height="{int.from_bytes(png[20:24], "big")}"'


_STYLE = """
:root {
  --page: #f4f6f8; --card: #ffffff; --panel: #f1f3f6; --edge: #dfe4ea; --text: #1b2430; --muted: #5b6675;
  --accent: #005fb0; --right: #0b7a53; --right-soft: #e2f3ec; --wrong: #c2331f; --wrong-soft: #fbe9e6;
  --on-mark: #ffffff; --base: #b4bdc9;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #10151c; --card: #171d26; --panel: #232b37; --edge: #2f3947; --text: #e8ecf2; --muted: #a3adbb;
    --accent: #62b5ff; --right: #3ecf96; --right-soft: #17382d; --wrong: #ff7d66; --wrong-soft: #442019;
    --on-mark: #10151c; --base: #5b6675;
  }
}
*, *::before, *::after { box-sizing: border-box; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 67rem; background: var(--page); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
h1, h2, h3 { text-wrap: balance; }
h1 { margin: 0; font-size: clamp(1.6rem, 1.2rem + 2vw, 2.25rem); line-height: 1.2; letter-spacing: -0.015em; }
h2 { margin: 2.75rem 0 0.25rem; font-size: 1.3rem; line-height: 1.3; letter-spacing: -0.01em; }
h3 { margin: 0 0 0.5rem; font-size: 0.9rem; line-height: 1.35; overflow-wrap: anywhere; }
h4 { margin: 0 0 0.25rem; font-size: 0.85rem; }
h4 span { margin-left: 0.35rem; color: var(--muted); font-weight: 400; }
p { margin: 0.25rem 0 1rem; max-width: 44rem; text-wrap: pretty; }
.summary { margin: 0.6rem 0 1.75rem; color: var(--muted); font-size: 1.1rem; }
.card {
  margin: 1rem 0 0; padding: 1.25rem; background: var(--card); border: 1px solid var(--edge);
  border-radius: 12px;
}
.hidden {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap;
}
.note { margin: 0.9rem 0 0; color: var(--muted); font-size: 0.85rem; }
.tasks { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1rem; }
.tasks .card { margin: 0; }
th:first-child { width: 28%; }
table { width: 100%; table-layout: fixed; border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { padding-bottom: 0.35rem; font-size: 1.1rem; font-weight: 650; text-align: left; }
thead th { padding: 0 0 0.1rem; color: var(--muted); font-size: 0.8rem; font-weight: 500; }
th, td { padding: 0.55rem 0 0.3rem; text-align: right; white-space: nowrap; }
tbody th { font-weight: 500; text-align: left; }
.before { color: var(--muted); }
.after { font-weight: 700; }
.gain {
  display: inline-block; min-width: 5.1em; padding: 0.05rem 0.55rem; border-radius: 99px; font-size: 0.9rem;
  font-weight: 650;
}
.gain span { font-size: 0.7em; vertical-align: 0.1em; }
.gain.up { background: var(--right-soft); color: var(--right); }
.gain.down { background: var(--wrong-soft); color: var(--wrong); }
.gain.same { background: var(--panel); color: var(--muted); }
.scale td { padding: 0 0 0.2rem; }
.track { position: relative; height: 5px; border-radius: 3px; background: var(--panel); overflow: hidden; }
.track span { position: absolute; top: 0; bottom: 0; }
.base { left: 0; background: var(--base); }
.way.up { background: var(--right); }
.way.down { background: var(--wrong); }
figcaption { color: var(--muted); font-size: 0.9rem; }
.chart figcaption { margin-top: 0.75rem; }
.chart img { display: block; max-width: 100%; width: auto; height: auto; }
@media print, (prefers-color-scheme: light) { .chart .dark { display: none; } }
@media screen and (prefers-color-scheme: dark) { .chart .light { display: none; } }
@media print, (min-width: 600.1px) { .chart .narrow { display: none; } }
@media screen and (max-width: 600px) { .chart .wide { display: none; } }
.legend { margin-bottom: 0.25rem; }
.query { display: grid; grid-template-columns: 8.5rem minmax(0, 1fr); gap: 1.5rem; padding: 1.25rem 0; }
.query + .query { border-top: 1px solid var(--edge); }
.query:last-child { padding-bottom: 0; }
.asked img {
  display: block; max-width: 100%; width: 7.5rem; height: auto; border: 2px solid var(--muted);
  border-radius: 6px;
}
blockquote {
  margin: 0; padding: 0.75rem 0.8rem; background: var(--panel); border-left: 3px solid var(--accent);
  border-radius: 0 6px 6px 0; font-size: 0.9rem; line-height: 1.45; overflow-wrap: anywhere;
}
.answers { display: grid; gap: 0.9rem; align-content: start; }
ol {
  display: grid; grid-template-columns: repeat(10, minmax(0, 1fr)); gap: 0.5rem; margin: 0;
  padding: 0; list-style: none;
}
li { display: flex; flex-direction: column; align-items: center; }
.rank, small {
  color: var(--muted); font-size: 0.75rem; line-height: 1.4; font-variant-numeric: tabular-nums;
}
.found {
  position: relative; display: block; width: 100%; border: 3px solid var(--right);
  border-radius: 5px;
}
.found.wrong { border: 3px dashed var(--wrong); }
.found img { display: block; width: 100%; height: auto; border-radius: 2px; }
.mark, .key {
  display: inline-grid; place-items: center; width: 1.25rem; height: 1.25rem; border-radius: 50%;
  background: var(--right); color: var(--on-mark); font-size: 0.75rem; font-weight: 700; line-height: 1;
}
.mark { position: absolute; top: -5px; right: -5px; }
.wrong > .mark, .key.wrong { background: var(--wrong); }
details { padding: 0.9rem 1.25rem; }
summary { font-weight: 600; cursor: pointer; }
pre {
  margin: 0.9rem 0 0.25rem; padding: 0.9rem 1rem; overflow-x: auto; background: var(--panel);
  border-radius: 8px;
  font: 0.85rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
}
dl { margin: 0.9rem 0 0.25rem; font-size: 0.9rem; }
dl div {
  display: grid; grid-template-columns: minmax(7rem, 12rem) minmax(0, 1fr); gap: 1rem;
  padding: 0.3rem 0;
}
dl div + div { border-top: 1px solid var(--edge); }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
summary:focus-visible, pre:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 3px; border-radius: 4px;
}
@media (max-width: 760px) {
  .query { grid-template-columns: minmax(0, 1fr); gap: 0.9rem; }
}
@media screen and (max-width: 600px) {
  body { padding: 1.5rem 0.9rem 3rem; }
  .card { padding: 1rem; }
  .chart { padding: 0.75rem 0.5rem 1rem; }
  .chart img { width: 100%; }
  .chart figcaption { padding: 0 0.5rem; }
  .unit { display: none; }
  tbody th, thead th:first-child { width: 24%; }
  thead th:last-child { width: 31%; }
  .gain { min-width: 0; padding: 0.05rem 0.4rem; }
  .mark { width: 1rem; height: 1rem; font-size: 0.65rem; }
  ol { grid-template-columns: repeat(5, minmax(0, 1fr)); }
}
@media print {
  body { max-width: none; padding: 0; background: none; font-size: 10pt; }
  .card { break-inside: avoid; }
  figure.card, details.card { break-inside: auto; }
  .query, .chart, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  details::details-content { content-visibility: visible; block-size: auto; opacity: 1; }
}
"""
