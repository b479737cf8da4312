"""Evaluate and draw each pair of cameras: queries of one, gallery images of the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_embeddings, fail
from clipreid_kit.metrics import ReidResult, evaluate_reid
from clipreid_kit.metrics._engine.id_columns import Ids, encode_ids, id_array
from clipreid_kit.viz._canvas import blank_figure, own_style
from clipreid_kit.viz._group_order import in_natural_order
from clipreid_kit.viz.themes import Palette, Theme, palette_of

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

PairMeasure = Literal["rank_1", "mean_ap"]
FloatArray = npt.NDArray[np.float64]
Columns = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]  # of queries and of the gallery

_SCALE = 0.2  # least width of the scale of the shades, as a fraction
_TITLES: dict[PairMeasure, str] = {"rank_1": "Rank-1", "mean_ap": "mAP"}
_CELL = 0.62  # inches
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.95, 0.25, 0.95, 0.3  # margins in inches


@dataclass(frozen=True, slots=True, eq=False)
class CameraPairRates:
    """Rates of each pair of cameras, as fractions; NaN where no query has a match.

    Attributes:
        query_cameras: The A cameras of the queries, as text, in natural order.
        gallery_cameras: The B cameras of the gallery, likewise.
        rank_1: (A, B), Rank-1 of the queries of one camera among the images of another.
        mean_ap: (A, B), their mAP.
        num_queries: (A, B), number of queries with a match there.
    """

    query_cameras: tuple[str, ...]
    gallery_cameras: tuple[str, ...]
    rank_1: FloatArray
    mean_ap: FloatArray
    num_queries: npt.NDArray[np.int64]

    def shades(self, measure: PairMeasure) -> FloatArray:
        """Return how dark each cell of a table is, from 0 for the lowest rate to 1 for the highest.

        The scale is at least 20 points wide, so that small differences stay pale; NaN for NaN.
        """
        values = self.rank_1 if measure == "rank_1" else self.mean_ap
        if np.isnan(values).all():
            return values

        highest = np.nanmax(values)
        lowest = min(np.nanmin(values), highest - _SCALE)
        return np.asarray((values - lowest) / (highest - lowest))


def camera_pair_rates(
    query_embeddings: Float[Tensor, "q d"],
    gallery_embeddings: Float[Tensor, "g d"],
    *,
    query_ids: Ids,
    gallery_ids: Ids,
    query_cameras: Ids,
    gallery_cameras: Ids,
    camera_rule: bool = True,
    exclude: Sequence[tuple[Ids, Ids]] = (),
) -> CameraPairRates:
    """Evaluate the queries of each camera against the gallery images of each camera alone.

    Use it to find the views between which a model fails. The gallery of a pair is a part of the
    whole, so its rates are above those of the whole gallery.

    Args:
        query_embeddings: (Q, D), any scale; compared by cosine.
        gallery_embeddings: (G, D).
        query_ids: Identity of each query: integers or strings.
        gallery_ids: Identity of each gallery row.
        query_cameras: Camera of each query.
        gallery_cameras: Camera of each gallery row.
        camera_rule: Whether gallery images of the query's identity and camera are left out; a
            camera has no matches of its own then.
        exclude: Further rules, as in :func:`~clipreid_kit.evaluate_reid`.

    Returns:
        A :class:`CameraPairRates`.

    Raises:
        ValueError: If widths, lengths or kinds of ids disagree, embeddings are not finite, or a
            side has no row.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.2, 0.8]])
        >>> ids, cameras = ["tom", "rex", "tom", "rex"], [1, 1, 2, 2]
        >>> rates = camera_pair_rates(
        ...     rows, rows, query_ids=ids, gallery_ids=ids, query_cameras=cameras,
        ...     gallery_cameras=cameras,
        ... )
        >>> rates.query_cameras, rates.rank_1.tolist()
        (('1', '2'), [[nan, 1.0], [1.0, nan]])
    """
    owner = "camera_pair_rates"
    check_embeddings(owner, "query_embeddings", query_embeddings)
    check_embeddings(owner, "gallery_embeddings", gallery_embeddings)
    lengths = (len(query_embeddings), len(gallery_embeddings))
    if 0 in lengths:
        raise fail(owner, "at least one query and one gallery image", f"{lengths}")

    ids = encode_ids(owner, (query_ids, gallery_ids), lengths)
    rules = [encode_ids(owner, rule, lengths, column="exclude") for rule in exclude]
    query_names = id_array(owner, "query_cameras", query_cameras, lengths[0]).astype(str)
    gallery_names = id_array(owner, "gallery_cameras", gallery_cameras, lengths[1]).astype(str)

    rows_of_query = _rows_by_camera(query_names)
    rows_of_gallery = _rows_by_camera(gallery_names)
    shape = (len(rows_of_query), len(rows_of_gallery))
    rank_1, mean_ap = np.full(shape, np.nan), np.full(shape, np.nan)
    num_queries = np.zeros(shape, np.int64)

    for i, (query_camera, rows) in enumerate(rows_of_query.items()):
        for j, (gallery_camera, columns) in enumerate(rows_of_gallery.items()):
            if camera_rule and query_camera == gallery_camera:
                continue

            result = _evaluate_pair(
                query_embeddings[torch.from_numpy(rows)],
                gallery_embeddings[torch.from_numpy(columns)],
                (ids[0][rows], ids[1][columns]),
                [(first[rows], second[columns]) for first, second in rules],
            )
            if result is not None:
                rank_1[i, j], mean_ap[i, j] = result.rank(1), result.mean_ap
                num_queries[i, j] = result.num_valid_queries

    return CameraPairRates(
        tuple(rows_of_query), tuple(rows_of_gallery), rank_1, mean_ap, num_queries
    )


def camera_pair_figure(
    rates: CameraPairRates,
    *,
    measure: PairMeasure = "rank_1",
    theme: Theme = "light",
) -> "matplotlib.figure.Figure":
    """Draw the rates of each pair of cameras as a table whose cells are the darker the higher.

    Args:
        rates: From :func:`camera_pair_rates`.
        measure: ``"rank_1"`` or ``"mean_ap"``.
        theme: ``"light"`` or ``"dark"``, the colours of the page.

    Returns:
        A figure as large as its cells, in percent; a dash where no query has a match.

    Raises:
        ValueError: If there is no camera, or too many for one figure.
        ImportError: If matplotlib is not installed.

    Example:
        >>> cells = np.array([[np.nan, 0.5]])
        >>> rates = CameraPairRates(("1",), ("1", "2"), cells, cells, np.array([[0, 8]]))
        >>> camera_pair_figure(rates).axes[0].texts[1].get_text()
        '50.0'
    """
    owner = "camera_pair_figure"
    palette = palette_of(owner, theme)
    check_choice(owner, "measure", measure, tuple(_TITLES))
    num_rows, num_columns = len(rates.query_cameras), len(rates.gallery_cameras)
    if num_rows == 0 or num_columns == 0:
        raise fail(owner, "at least one camera on both sides", "none")

    width = max(_LEFT + _CELL * num_columns + _RIGHT, 3.4)
    height = _TOP + _CELL * num_rows + _BOTTOM
    with own_style(owner):
        figure = blank_figure(owner, (width, height), palette)
        box = (
            _LEFT / width,
            _BOTTOM / height,
            _CELL * num_columns / width,
            _CELL * num_rows / height,
        )
        axes = figure.add_axes(box)
        axes.set_facecolor(palette.panel)
        _draw_cells(axes, rates, measure, palette)
        figure.text(
            0.12 / width,
            1 - 0.12 / height,
            f"{_TITLES[measure]} by cameras (%)",
            color=palette.text,
            fontsize=10,
            verticalalignment="top",
        )

    return figure


def _rows_by_camera(names: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.int64]]:
    """Rows of each camera, in natural order: 2 before 10."""
    return {name: np.flatnonzero(names == name) for name in in_natural_order(names.tolist())}


def _evaluate_pair(
    query_embeddings: Tensor, gallery_embeddings: Tensor, ids: Columns, rules: Sequence[Columns]
) -> ReidResult | None:
    """Evaluate the images of two cameras; ``None`` if no query has a match."""
    if not _has_match(ids, rules):
        return None

    query_ids, gallery_ids = ids
    return evaluate_reid(
        query_embeddings,
        gallery_embeddings,
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        exclude=rules,
        max_rank=1,
    )


def _has_match(ids: Columns, rules: Sequence[Columns]) -> bool:
    """Whether any query has a gallery image of its identity that the rules leave in."""
    is_match = ids[0][:, None] == ids[1][None]
    for query_values, gallery_values in rules:
        is_match &= query_values[:, None] != gallery_values[None]
    return bool(is_match.any())


def _draw_cells(
    axes: "matplotlib.axes.Axes", rates: CameraPairRates, measure: PairMeasure, palette: Palette
) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("rates", [palette.surface, palette.series[1]])
    # at most 55 % of the colour, so that the numbers stay readable
    axes.imshow(0.05 + 0.5 * rates.shades(measure), cmap=shades, vmin=0, vmax=1)

    values = rates.rank_1 if measure == "rank_1" else rates.mean_ap
    for (row, column), value in np.ndenumerate(values):
        is_missing = np.isnan(value)
        axes.text(
            column,
            row,
            "\N{EN DASH}" if is_missing else f"{100 * value:.1f}",
            color=palette.muted if is_missing else palette.text,
            fontsize=9,
            horizontalalignment="center",
            verticalalignment="center",
        )

    axes.set_xticks(range(len(rates.gallery_cameras)), rates.gallery_cameras, parse_math=False)
    axes.set_yticks(range(len(rates.query_cameras)), rates.query_cameras, parse_math=False)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(colors=palette.text, labelsize=9, length=0)
    axes.set_xlabel("gallery camera", color=palette.muted, fontsize=9, labelpad=6)
    axes.set_ylabel("query camera", color=palette.muted, fontsize=9, labelpad=6)
    axes.spines[:].set_visible(False)
