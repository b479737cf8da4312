"""Draw relevance over images, and over the words of texts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.viz._canvas import blank_figure, own_style
from clipreid_kit.viz._ranked_cells import CHARACTER_INCHES, write_text
from clipreid_kit.viz.image_pixels import ImageLike, rgb_pixels
from clipreid_kit.viz.themes import Palette, Theme, palette_of

if TYPE_CHECKING:
    import matplotlib.figure

Map = Float[Tensor, "_ _"] | Float[np.ndarray, "_ _"]
FloatArray = npt.NDArray[np.float64]

_IMAGE_OWNER, _WORD_OWNER = "relevance_figure", "word_relevance_figure"

# lengths in inches
_MARGIN, _GAP, _LINE = 0.18, 0.12, 0.2
_SIDE = 1.7  # of the longer side of an image
_WORD_POINTS = 11.0
_LEAST_COLUMN = 0.7  # of an image
_ROW = 0.34  # of a line of words


def relevance_figure(
    images: Sequence[ImageLike],
    maps: Sequence[Map],
    *,
    titles: Sequence[str] | None = None,
    shares: str = "each",
    theme: Theme = "light",
) -> "matplotlib.figure.Figure":
    """Draw each image, and below it the same image under its relevance map.

    Bright places counted much, dark ones little. A map is scaled to its image without steps; it
    knows no more than one number for each patch.

    Args:
        images: The images that the maps are of, before any normalisation.
        maps: For each its relevance (rows, columns), any scale, from
            :func:`~clipreid_kit.clip.similarity_map` and others; what is below 0 counts as 0.
        titles: A short title above each image; ``None`` for none.
        shares: Scale of the colours: the highest value of ``"each"`` map, or of ``"all"`` maps.
        theme: ``"light"`` or ``"dark"``, the colours of the page.

    Returns:
        A figure as large as its content; its axes are ``image 0``, ``relevance 0`` and so on.

    Raises:
        ValueError: If there is no image, lengths disagree, a map is no matrix of finite numbers, or
            an image cannot be read.
        ImportError: If matplotlib is not installed.

    Example:
        >>> import PIL.Image
        >>> image = PIL.Image.new("RGB", (32, 64), "red")
        >>> figure = relevance_figure([image], [torch.tensor([[0.0, 0.1], [0.4, 0.2]])])
        >>> [axes.get_label() for axes in figure.axes]
        ['image 0', 'relevance 0']
    """
    palette = palette_of(_IMAGE_OWNER, theme)
    check_choice(_IMAGE_OWNER, "shares", shares, ("each", "all"))
    if len(images) == 0:
        raise fail(_IMAGE_OWNER, "at least one image", "none")
    for name, values in (("maps", maps), ("titles", titles)):
        if values is not None and len(values) != len(images):
            raise fail(_IMAGE_OWNER, f"{len(images)} {name}, one for each image", len(values))

    pixels = [rgb_pixels(_IMAGE_OWNER, f"images[{n}]", image) for n, image in enumerate(images)]
    values = [_checked_map(f"maps[{n}]", one) for n, one in enumerate(maps)]
    highest = max(one.max() for one in values)

    page = _lay_out(pixels, has_titles=titles is not None)
    with own_style(_IMAGE_OWNER):
        figure = blank_figure(_IMAGE_OWNER, page.size, palette)
        for number, (image, relevance) in enumerate(zip(pixels, values, strict=True)):
            left = page.lefts[number]
            size = page.sizes[number]
            if titles is not None:
                write_text(figure, titles[number], (left, _MARGIN - 0.04), palette.text)

            _draw_image(figure, f"image {number}", image, (left, page.top), size)
            axes = _draw_image(figure, f"relevance {number}", image, (left, page.below), size)

            scale = relevance.max() if shares == "each" else highest
            _draw_map(axes, relevance / (scale or 1.0), image.shape[:2])

    return figure


class _Page(NamedTuple):
    """Layout of a figure, in inches.

    Attributes:
        size: (width, height) of the figure.
        sizes: (width, height) of each image.
        lefts: Left edge of each column.
        top: Upper edge of the images.
        below: Upper edge of the maps.
    """

    size: tuple[float, float]
    sizes: list[tuple[float, float]]
    lefts: list[float]
    top: float
    below: float


def _lay_out(pixels: Sequence[npt.NDArray[np.uint8]], *, has_titles: bool) -> _Page:
    """Lay out a column for each image, with its map below it."""
    sizes = [_size_on_page(image) for image in pixels]
    tallest = max(height for _, height in sizes)
    top = _MARGIN + (_LINE if has_titles else 0.0)
    below = top + tallest + _GAP

    lefts = []
    right = _MARGIN
    for width, _ in sizes:
        lefts.append(right)
        right += max(width, _LEAST_COLUMN) + _GAP

    figure_width = max(right - _GAP + _MARGIN, 1.2)
    figure_height = below + tallest + _MARGIN
    return _Page((figure_width, figure_height), sizes, lefts, top, below)


def word_relevance_figure(
    texts: Sequence[Sequence[tuple[str, float]]],
    *,
    titles: Sequence[str] | None = None,
    theme: Theme = "light",
    width: float = 6.4,
) -> "matplotlib.figure.Figure":
    """Draw the words of texts, each on a ground that is the stronger the more it counted.

    Args:
        texts: For each text its words with their relevance, from
            :func:`~clipreid_kit.clip.word_relevance`; the scale is that of each text.
        titles: A short title above each text; ``None`` for none.
        theme: ``"light"`` or ``"dark"``, the colours of the page.
        width: Width of the figure in inches, at which lines are wrapped.

    Returns:
        A figure as high as its lines. The share of a word in the relevance of its text is below it,
        in percent.

    Raises:
        ValueError: If there is no text, lengths disagree, or a relevance is negative or not finite.
        ImportError: If matplotlib is not installed.

    Example:
        >>> figure = word_relevance_figure([[("a", 0.0), ("red", 3.0), ("coat", 1.0)]])
        >>> [text.get_text() for text in figure.texts]
        ['a', '0', 'red', '75', 'coat', '25']
    """
    palette = palette_of(_WORD_OWNER, theme)
    if len(texts) == 0:
        raise fail(_WORD_OWNER, "at least one text", "none")
    if titles is not None and len(titles) != len(texts):
        raise fail(_WORD_OWNER, f"{len(texts)} titles, one for each text", len(titles))
    for text in texts:
        for word, value in text:
            if not np.isfinite(value) or value < 0:
                raise fail(_WORD_OWNER, f"relevance >= 0 of {word!r}", value)

    placed = [_place_words(text, width) for text in texts]
    heading = 0.0 if titles is None else _LINE
    heights = [heading + _GAP + (_ROW + _LINE) * _num_lines(words) for words in placed]

    with own_style(_WORD_OWNER):
        figure = blank_figure(_WORD_OWNER, (width, max(sum(heights) + 2 * _MARGIN, 1.0)), palette)
        top = _MARGIN
        for number, (text, words, height) in enumerate(zip(texts, placed, heights, strict=True)):
            if titles is not None:
                write_text(figure, titles[number], (_MARGIN, top), palette.muted, size=8.5)
            _write_words(figure, text, words, top + heading, palette)
            top += height

    return figure


def _checked_map(name: str, relevance: Map) -> FloatArray:
    if isinstance(relevance, Tensor):
        relevance = relevance.detach().float().cpu().numpy()
    values = np.asarray(relevance, dtype=np.float64)
    expected = f"{name} as a matrix of finite numbers"
    if values.ndim != 2 or 0 in values.shape:
        raise fail(_IMAGE_OWNER, expected, f"shape {values.shape}")
    if not np.isfinite(values).all():
        raise fail(_IMAGE_OWNER, expected, "NaN or infinity")
    return values.clip(min=0)


def _size_on_page(pixels: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Width and height of an image in inches."""
    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    return scale * width, scale * height


def _draw_image(
    figure: "matplotlib.figure.Figure",
    label: str,
    pixels: npt.NDArray[np.uint8],
    corner: tuple[float, float],
    size: tuple[float, float],
) -> "matplotlib.axes.Axes":
    total_width, total_height = figure.get_size_inches()
    box = (
        corner[0] / total_width,
        1 - (corner[1] + size[1]) / total_height,
        size[0] / total_width,
        size[1] / total_height,
    )
    axes = figure.add_axes(box, label=label, xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.imshow(pixels, aspect="auto")
    return axes


def _draw_map(axes: "matplotlib.axes.Axes", shares: FloatArray, size: tuple[int, ...]) -> None:
    """Draw a map of shares in [0, 1] over an image of (height, width)."""
    from matplotlib import colormaps

    height, width = size
    # bilinear between the centres of the patches, as smooth as the image
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(shares)[None, None], size=(height, width), mode="bilinear"
    )[0, 0].numpy()
    colours = colormaps["inferno"](smooth)
    colours[..., 3] = 0.72
    axes.imshow(colours, aspect="auto")


def _place_words(text: Sequence[tuple[str, float]], width: float) -> list[tuple[float, float, int]]:
    """Left end, width and line of each word."""
    placed: list[tuple[float, float, int]] = []
    left, line = _MARGIN, 0
    for word, _ in text:
        extent = len(word) * _WORD_POINTS * CHARACTER_INCHES * 1.1 + 0.16
        if left > _MARGIN and left + extent > width - _MARGIN:
            left, line = _MARGIN, line + 1
        placed.append((left, extent, line))
        left += extent + 0.06
    return placed


def _num_lines(placed: Sequence[tuple[float, float, int]]) -> int:
    """Lines that words fill, at least one."""
    if not placed:
        return 1
    _, _, last_line = placed[-1]
    return last_line + 1


def _write_words(
    figure: "matplotlib.figure.Figure",
    text: Sequence[tuple[str, float]],
    placed: Sequence[tuple[float, float, int]],
    top: float,
    palette: Palette,
) -> None:
    from matplotlib.patches import FancyBboxPatch

    total = sum(value for _, value in text) or 1.0
    highest = max((value for _, value in text), default=0.0) or 1.0
    figure_width, figure_height = figure.get_size_inches()
    for (word, value), (left, extent, line) in zip(text, placed, strict=True):
        above = top + line * (_ROW + _LINE)
        ground = FancyBboxPatch(
            (left / figure_width, 1 - (above + _ROW) / figure_height),
            extent / figure_width,
            (_ROW - 0.06) / figure_height,
            boxstyle="square,pad=0",
            facecolor=palette.series[1],
            alpha=0.05 + 0.45 * value / highest,
            edgecolor="none",
            transform=figure.transFigure,
        )
        figure.add_artist(ground)

        middle = left + extent / 2
        corner = (middle, above + 0.1)
        write_text(figure, word, corner, palette.text, size=_WORD_POINTS, centred=True)
        share = f"{100 * value / total:.0f}"
        write_text(
            figure, share, (middle, above + _ROW + 0.03), palette.muted, size=7, centred=True
        )
