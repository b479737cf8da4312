"""The page of a run: one self-contained HTML file, rendered from ``templates/report.html``.

The page has no script and no link. It reads in light and dark, on a phone and on paper. jinja2
escapes every text.
"""

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from clipreid_kit.viz import ImageLike, Theme, figure_png, image_png

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

_TEMPLATES = Path(__file__).with_name("templates")

Size = tuple[float, float]


class EmbeddedImage(NamedTuple):
    """A PNG or JPEG inside the page; with its size, so that nothing moves while the page opens."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of a task's table, with fractions in [0, 1].

    Attributes:
        name: Such as ``Rank-1``.
        before: Before training; ``None`` if nothing was trained.
        after: After training; NaN if nothing could be measured.
    """

    name: str
    before: float | None
    after: float

    @property
    def gain(self) -> float | None:
        """Percentage points between the two figures as the page rounds them."""
        if self.before is None or not math.isfinite(self.before) or not math.isfinite(self.after):
            return None
        return round(100 * self.after, 1) - round(100 * self.before, 1)

    @property
    def bar(self) -> tuple[float, float]:
        """Lower and upper end of the part of the scale between before and after, in percent."""
        before = 0.0
        if self.before is not None and math.isfinite(self.before):
            before = self.before

        low, high = sorted((100 * before, 100 * self.after))
        return low, high


class Task(NamedTuple):
    """A task with its metrics, and a sentence on what is searched."""

    name: str
    metrics: Sequence[Metric]
    note: str


class RankedImage(NamedTuple):
    """A gallery image in a ranked list."""

    image: EmbeddedImage
    matches: bool
    similarity: float


class RankedQuery(NamedTuple):
    """A query, an image or a text, with a ranked list for each model, by name.

    Attributes:
        title: Heading; empty for a text.
        query: The image, or the text.
        num_matches: Gallery images that match the query.
        rankings: The first images that each model finds.
    """

    title: str
    query: EmbeddedImage | str
    num_matches: int
    rankings: Mapping[str, Sequence[RankedImage]]


def render_page(template: str = "report.html", **content: Any) -> str:  # noqa: ANN401 (variables)
    """Render a template, which lists its variables at the top."""
    return _environment().get_template(template).render(content)


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    """Environment in which each template is compiled once, for the pages of many runs."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    environment.filters["similarities"] = similarity_texts
    environment.filters["found"] = found_text
    return environment


def similarity_texts(images: Sequence[RankedImage]) -> list[str]:
    """Similarities of a ranked list, with as many digits as tell them apart.

    Two digits are shown, or three if two are the same for all; of similarities that are the same
    even then, as those of an untrained model often are, none.

    Example:
        >>> image = EmbeddedImage("", 1, 1)
        >>> [similarity_texts([RankedImage(image, True, value) for value in values])
        ...  for values in ((0.91, 0.5), (0.9991, 0.998), (0.99999, 0.99998))]
        [['0.91', '0.50'], ['0.999', '0.998'], ['', '']]
    """
    for digits in (2, 3):
        texts = [f"{image.similarity:.{digits}f}" for image in images]
        if len(set(texts)) > 1 or len(images) == 1:
            return texts
    return ["" for _ in images]


def found_text(images: Sequence[RankedImage], num_matches: int) -> str:
    """Say how many of the matches are among the first images of a list.

    Example:
        >>> image = RankedImage(EmbeddedImage("", 1, 1), True, 0.5)
        >>> found_text([image, image, image._replace(matches=False)], 2)
        'all 2 found'
        >>> found_text([image, image], 7)
        '2 of 2 correct'
    """
    num_found = sum(image.matches for image in images)
    if num_matches > len(images):
        return f"{num_found} of {len(images)} correct"
    if num_found < num_matches:
        return f"{num_found} of {num_matches} found"
    return "the only match found" if num_matches == 1 else f"all {num_matches} found"


def embed_image(image: ImageLike, *, max_side: int) -> EmbeddedImage:
    """Embed an image, made smaller if a side is longer than ``max_side`` pixels."""
    return _embed(image_png(image, max_side=max_side))


def embed_thumbnail(image: Image.Image, *, max_side: int) -> EmbeddedImage:
    """Embed a small JPEG of an image, of a few kilobytes, for pages with hundreds of them."""
    small = image.convert("RGB")
    small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, format="JPEG", quality=82, optimize=True)
    encoded = base64.b64encode(content.getvalue()).decode()
    return EmbeddedImage(f"data:image/jpeg;base64,{encoded}", *small.size)


def embed_chart(
    draw: Callable[[Theme, Size], "Figure"], *, wide: Size, narrow: Size
) -> dict[str, EmbeddedImage]:
    """Draw a figure for each combination of screen and theme, of which the style sheet shows one.

    Args:
        draw: Draws the figure for a theme, at a size in inches.
        wide: Size for a desktop and for paper.
        narrow: Size for a phone.

    Returns:
        Images by their CSS classes. Unlike those of a ``<picture>`` element, these are chosen again
        when the page is printed.
    """
    images = {}
    for screen, size in (("wide", wide), ("narrow", narrow)):
        for theme in ("light", "dark"):
            png = figure_png(draw(theme, size), transparent=True)
            images[f"{screen} {theme}"] = _embed(png)
    return images


def _embed(png: bytes) -> EmbeddedImage:
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    return EmbeddedImage(f"data:image/png;base64,{base64.b64encode(png).decode()}", width, height)


def _percent(fraction: float | None) -> str:
    if fraction is None or not math.isfinite(fraction):
        return "n/a"
    return f"{100 * fraction:.1f}%"
