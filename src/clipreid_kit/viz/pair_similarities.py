"""Count and draw the similarities of matches and of non-matches, with a threshold between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_embeddings, check_finite, check_integer, fail
from clipreid_kit.distances import dot_product, l2_normalize
from clipreid_kit.metrics._engine.id_columns import Ids, encode_ids
from clipreid_kit.viz._canvas import blank_figure, own_style, plot_panel
from clipreid_kit.viz.themes import Palette, Theme, palette_of

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Range = tuple[float, float]

_BLOCK = 1 << 22  # similarities that are counted at once: 16 MB
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.7, 0.25, 0.72, 0.5  # margins in inches


@dataclass(frozen=True, slots=True, eq=False)
class SimilarityHistogram:
    """Numbers of pairs by similarity.

    Attributes:
        edges: (B + 1,), the ends of the bins, ascending. A bin holds its lower end; the last one
            holds both.
        positives: (B,), pairs of one identity in each bin.
        negatives: (B,), pairs of two identities in each bin.

    Example:
        >>> edges = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
        >>> positives, negatives = np.array([0, 1, 1, 2]), np.array([4, 3, 1, 0])
        >>> histogram = SimilarityHistogram(edges, positives, negatives)
        >>> histogram.threshold(0.125), histogram.rates(0.5)
        (0.5, (0.75, 0.125))
    """

    edges: npt.NDArray[np.float64]
    positives: IntArray
    negatives: IntArray

    def threshold(self, false_positive_rate: float) -> float:
        """Return the lowest end of a bin at which at most this share of negatives is accepted.

        Args:
            false_positive_rate: From 0 to 1.

        Raises:
            ValueError: If it is outside, or there is no negative pair.
        """
        owner = "SimilarityHistogram.threshold"
        check_finite(owner, "false_positive_rate", false_positive_rate)
        if not 0 <= false_positive_rate <= 1:
            raise fail(owner, "false_positive_rate in [0, 1]", false_positive_rate)
        if self.negatives.sum() == 0:
            raise ValueError(f"{owner}: there is no pair of two identities to accept.")

        accepted = np.append(self.negatives[::-1].cumsum()[::-1], 0)
        allowed = np.floor(false_positive_rate * self.negatives.sum() * (1 + 2.0**-52))
        return float(self.edges[np.argmax(accepted <= allowed)])

    def rates(self, threshold: float) -> tuple[float, float]:
        """Return the shares of positives and of negatives that reach a threshold.

        A bin that the threshold divides counts in proportion; NaN where there are no pairs.
        """
        widths = np.diff(self.edges)
        above = np.clip((self.edges[1:] - threshold) / widths, 0.0, 1.0)
        return _share(self.positives, above), _share(self.negatives, above)

    def merged(self, num_bins: int) -> "SimilarityHistogram":
        """Join neighbouring bins, so that at most ``num_bins`` remain."""
        check_integer("SimilarityHistogram.merged", "num_bins", num_bins, 1)
        step = -(-len(self.positives) // num_bins)
        starts = np.arange(0, len(self.positives), step)
        return SimilarityHistogram(
            np.append(self.edges[starts], self.edges[-1]),
            np.add.reduceat(self.positives, starts),
            np.add.reduceat(self.negatives, starts),
        )


@torch.no_grad()
def similarity_histogram(
    query_embeddings: Float[Tensor, "q d"],
    gallery_embeddings: Float[Tensor, "g d"] | None = None,
    *,
    query_ids: Ids,
    gallery_ids: Ids | None = None,
    query_cameras: Ids | None = None,
    gallery_cameras: Ids | None = None,
    exclude: Sequence[tuple[Ids, Ids]] = (),
    num_bins: int = 4096,
) -> SimilarityHistogram:
    """Count the cosine similarities of all pairs of query and gallery, by blocks.

    The pairs are those that :func:`~clipreid_kit.evaluate_reid` ranks: with cameras, gallery rows
    with the query's identity *and* its camera are left out. Use it to see whether one threshold
    separates identities; the cosines are those of float32.

    Args:
        query_embeddings: (Q, D), any scale.
        gallery_embeddings: (G, D). ``None`` for all pairs within the queries, none with itself.
        query_ids: Identity of each query: integers or strings.
        gallery_ids: Identity of each gallery row. ``None`` without a gallery.
        query_cameras: Camera of each query; ``None`` (for both sides) leaves nothing out.
        gallery_cameras: Camera of each gallery row; ``None`` without a gallery, where cameras are
            those of the queries.
        exclude: Further rules like that of the cameras, as in ``evaluate_reid``.
        num_bins: Number of bins of one width between the lowest and the highest similarity, >= 1;
            :meth:`SimilarityHistogram.merged` makes them fewer.

    Returns:
        A :class:`SimilarityHistogram`; a side without pairs has zeros.

    Raises:
        ValueError: If widths, lengths or kinds of ids disagree, embeddings are not finite, only one
            side has cameras, or there is no pair.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> found = similarity_histogram(rows, query_ids=["tom", "tom", "rex"], num_bins=2)
        >>> found.positives.tolist(), found.negatives.tolist()  # each pair in both directions
        ([0, 2], [2, 2])
    """
    owner = "similarity_histogram"
    check_integer(owner, "num_bins", num_bins, 1)
    queries = _unit_rows(owner, "query_embeddings", query_embeddings)
    if gallery_embeddings is None:
        gallery, gallery_ids, gallery_cameras = queries, query_ids, query_cameras
        rows = range(len(queries))
        exclude = [*exclude, (rows, rows)]
    else:
        gallery = _unit_rows(owner, "gallery_embeddings", gallery_embeddings)

    if gallery_ids is None:
        raise ValueError(f"{owner}: gallery_embeddings need gallery_ids. Pass both.")
    if (query_cameras is None) != (gallery_cameras is None):
        raise ValueError(f"{owner}: only one side has cameras. Pass both, or none.")
    if query_cameras is not None and gallery_cameras is not None:
        exclude = [*exclude, (query_cameras, gallery_cameras)]

    lengths = (len(queries), len(gallery))
    ids = encode_ids(owner, (query_ids, gallery_ids), lengths)
    rules = [encode_ids(owner, rule, lengths, column="exclude") for rule in exclude]

    low, high = _range(_blocks(queries, gallery, ids, rules))
    edges = np.linspace(low, high, num_bins + 1)
    positives, negatives = np.zeros(num_bins, np.int64), np.zeros(num_bins, np.int64)
    for similarity, is_same, is_valid in _blocks(queries, gallery, ids, rules):
        positives += np.histogram(similarity[is_valid & is_same], edges)[0]
        negatives += np.histogram(similarity[is_valid & ~is_same], edges)[0]
    return SimilarityHistogram(edges, positives, negatives)


def similarity_histogram_figure(
    histogram: SimilarityHistogram,
    *,
    threshold: float | None = None,
    label: str = "threshold",
    num_bins: int = 64,
    theme: Theme = "light",
    size: tuple[float, float] = (6.4, 3.6),
) -> "matplotlib.figure.Figure":
    """Draw the similarities of matches and non-matches, each as shares of its own pairs.

    Where the two overlap, no threshold separates them. Matches have a solid outline, non-matches a
    dashed one.

    Args:
        histogram: From :func:`similarity_histogram`.
        threshold: Similarity to mark, such as ``Calibration.threshold`` or
            ``histogram.threshold(0.01)``; ``None`` marks none.
        label: Name of that mark.
        num_bins: Largest number of bins to draw, >= 1.
        theme: ``"light"`` or ``"dark"``, the colours of the page.
        size: Width and height in inches.

    Returns:
        A figure with one panel in percent; show it with ``figure_png`` or ``save_figure``.

    Raises:
        ValueError: If there is no pair, or the threshold is not finite.
        ImportError: If matplotlib is not installed.

    Example:
        >>> rows = torch.eye(2).repeat(2, 1)
        >>> found = similarity_histogram(rows, query_ids=[0, 1, 0, 1])
        >>> figure = similarity_histogram_figure(found, threshold=0.5)
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['threshold 0.500']
    """
    owner = "similarity_histogram_figure"
    palette = palette_of(owner, theme)
    if threshold is not None:
        check_finite(owner, "threshold", threshold)
    if histogram.positives.sum() + histogram.negatives.sum() == 0:
        raise fail(owner, "a histogram of at least one pair", "none")

    drawn = histogram.merged(num_bins)
    with own_style(owner):
        figure = blank_figure(owner, size, palette)
        width, height = size
        box = (_LEFT, _BOTTOM, width - _LEFT - _RIGHT, height - _BOTTOM - _TOP)
        axes = plot_panel(figure, box, palette)

        _draw_shares(axes, drawn.edges, drawn.negatives, palette.series[2], dashes=(0, (4, 1.5)))
        _draw_shares(axes, drawn.edges, drawn.positives, palette.series[1], dashes="solid")
        axes.set_xlabel("cosine similarity", color=palette.muted, fontsize=9)
        axes.set_ylabel("pairs of each kind (%)", color=palette.muted, fontsize=9)
        axes.set_xlim(drawn.edges[0], drawn.edges[-1])
        axes.set_ylim(bottom=0)

        if threshold is not None:
            _mark_threshold(axes, threshold, label, palette)
        _write_legend(figure, histogram, palette)

    return figure


def _share(counts: IntArray, above: npt.NDArray[np.float64]) -> float:
    total = int(counts.sum())
    return float((counts * above).sum() / total) if total else float("nan")


def _unit_rows(owner: str, name: str, embeddings: Tensor) -> Tensor:
    check_embeddings(owner, name, embeddings)
    if len(embeddings) == 0:
        raise fail(owner, f"{name} with at least one row", "none")

    is_finite = torch.isfinite(embeddings).all(dim=1)
    if not is_finite.all():
        row = int((~is_finite).nonzero()[0])
        raise fail(owner, f"finite {name}", f"NaN or infinity in row {row}")
    return l2_normalize(embeddings.detach()).float()


def _range(blocks: Iterator[tuple[npt.NDArray[np.float32], BoolArray, BoolArray]]) -> Range:
    """The lowest and the highest similarity of the pairs that the rules leave in."""
    low, high = np.inf, -np.inf
    for similarity, _, is_valid in blocks:
        low = float(similarity.min(where=is_valid, initial=low))
        high = float(similarity.max(where=is_valid, initial=high))

    if low > high:
        raise ValueError(
            "similarity_histogram: the rules leave no pair of query and gallery. "
            "Check ids and cameras."
        )
    if high - low < 1e-6:  # all equal, as of a collapsed model
        return low - 0.01, high + 0.01
    return low, high


def _blocks(
    queries: Tensor,
    gallery: Tensor,
    ids: tuple[IntArray, IntArray],
    rules: Sequence[tuple[IntArray, IntArray]],
) -> Iterator[tuple[npt.NDArray[np.float32], BoolArray, BoolArray]]:
    """Yield similarities, whether they are of one identity, and whether the rules leave them in."""
    num_rows = max(1, _BLOCK // len(gallery))
    for start in range(0, len(queries), num_rows):
        rows = slice(start, start + num_rows)
        similarity = dot_product(queries[rows], gallery).cpu().numpy()

        is_same = ids[0][rows, None] == ids[1][None]
        is_left_out = np.zeros_like(is_same)
        for query_values, gallery_values in rules:
            is_left_out |= query_values[rows, None] == gallery_values[None]
        yield similarity, is_same, ~(is_same & is_left_out)


def _draw_shares(
    axes: "matplotlib.axes.Axes",
    edges: npt.NDArray[np.float64],
    counts: IntArray,
    colour: str,
    dashes: Any,  # noqa: ANN401 (a line style of matplotlib)
) -> None:
    shares = 100 * counts / max(int(counts.sum()), 1)
    axes.stairs(shares, edges, fill=True, color=colour, alpha=0.22)
    axes.stairs(shares, edges, color=colour, linewidth=1.6, linestyle=dashes)


def _mark_threshold(
    axes: "matplotlib.axes.Axes", threshold: float, label: str, palette: Palette
) -> None:
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, threshold), max(high, threshold))
    axes.axvline(threshold, color=palette.text, linewidth=1.2, linestyle=(0, (3, 2)))

    low, high = axes.get_xlim()
    is_late = threshold > (low + high) / 2
    axes.annotate(
        f"{label} {threshold:.3f}",
        (threshold, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if is_late else 4, -2),
        textcoords="offset points",
        horizontalalignment="right" if is_late else "left",
        verticalalignment="top",
        color=palette.text,
        fontsize=8.5,
        parse_math=False,
    )


def _write_legend(
    figure: "matplotlib.figure.Figure", histogram: SimilarityHistogram, palette: Palette
) -> None:
    """Write the kinds of pairs in their colours, above the panel."""
    width, height = figure.get_size_inches()
    lines = (
        (f"— one identity: {histogram.positives.sum():,} pairs", palette.series[1]),
        (f"- - two identities: {histogram.negatives.sum():,} pairs", palette.series[2]),
    )
    for number, (text, colour) in enumerate(lines):
        figure.text(
            0.14 / width,
            1 - (0.14 + 0.22 * number) / height,
            text,
            color=colour,
            fontsize=10,
            verticalalignment="top",
        )
