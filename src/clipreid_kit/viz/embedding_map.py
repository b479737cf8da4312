"""Lay embeddings out on a plane, and draw them by identity and by camera."""

import colorsys
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_at_least, check_choice, check_embeddings, check_seed, fail
from clipreid_kit.distances import l2_normalize
from clipreid_kit.metrics._engine.id_columns import Ids, id_array
from clipreid_kit.viz._canvas import blank_figure, own_style
from clipreid_kit.viz._group_order import in_natural_order
from clipreid_kit.viz.themes import Palette, Theme, palette_of

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

MapMethod = Literal["tsne", "umap", "pca"]
Positions = Float[np.ndarray, "n 2"]

_FEWEST = 4
_FEWEST_SPECTRAL = 16  # rows that UMAP can begin with eigenvectors of
_GOLDEN = 0.6180339887  # hues that lie far from those before
_MARKERS = "os^DvPX*<>"
_MOST_LABELS = 24  # names written beside their points
_LEFT, _TOP, _BOTTOM, _GAP = 0.15, 0.5, 0.15, 0.25  # margins in inches


def embedding_positions(
    embeddings: Float[Tensor, "n d"],
    *,
    method: MapMethod = "tsne",
    perplexity: float = 30.0,
    seed: int = 0,
) -> Float[np.ndarray, "n 2"]:
    """Lay embeddings out on a plane, so that neighbours by cosine stay neighbours.

    Distances between groups and sizes of groups have no meaning in a map of t-SNE or UMAP; only who
    is beside whom has. Needs scikit-learn (``pip install clipreid_kit[maps]``), and for ``"umap"``
    the package umap-learn.

    Args:
        embeddings: (N, D), at least four rows of any scale.
        method: ``"tsne"``, ``"umap"``, or ``"pca"``, which is linear and quick.
        perplexity: About how many neighbours of an image count, >= 1, of t-SNE and UMAP; at most a
            third of the others is used.
        seed: Seed of the method; the same seed gives the same map on the same machine.

    Returns:
        (N, 2) in float64, within [0, 1], with the aspect of the map kept.

    Raises:
        ValueError: If there are fewer than four rows, a row holds NaN or infinity, or an option is
            out of range.
        ImportError: If the package is not installed.

    Example:
        >>> rows = torch.eye(4).repeat(3, 1)
        >>> positions = embedding_positions(rows, method="pca")
        >>> positions.shape, float(positions.max())
        ((12, 2), 1.0)

    References:
        van der Maaten & Hinton, Visualizing Data using t-SNE, JMLR 2008. McInnes et al., UMAP,
        2018.
    """
    owner = "embedding_positions"
    check_choice(owner, "method", method, ("tsne", "umap", "pca"))
    check_at_least(owner, "perplexity", perplexity, 1.0)
    check_seed(owner, seed)
    check_embeddings(owner, "embeddings", embeddings)
    if len(embeddings) < _FEWEST:
        raise fail(owner, f"at least {_FEWEST} embeddings", len(embeddings))

    is_finite = torch.isfinite(embeddings).all(dim=1)
    if not is_finite.all():
        row = int((~is_finite).nonzero()[0])
        raise fail(owner, "finite embeddings", f"NaN or infinity in row {row}")

    # of rows of length 1, the Euclidean distance orders as the cosine does
    rows = l2_normalize(embeddings.detach()).float().cpu().numpy()
    if np.ptp(rows, axis=0).max() == 0:  # the methods divide by the spread
        return np.zeros((len(rows), 2))
    perplexity = min(perplexity, (len(rows) - 1) / 3)
    placed = _placed(owner, rows, method, perplexity, seed % 2**32)

    placed = placed - placed.min(axis=0)
    return np.asarray(placed / (placed.max() or 1.0))


def embedding_map_figure(
    positions: Positions,
    *,
    identities: Ids,
    cameras: Ids | None = None,
    theme: Theme = "light",
    size: tuple[float, float] | None = None,
) -> "matplotlib.figure.Figure":
    """Draw a map of embeddings: a panel coloured by identity, and one coloured by camera.

    Identities that lie apart in the first and cameras that mix in the second are what training is
    for; a group of one camera is one that the model recognises by its view.

    Args:
        positions: (N, 2), from :func:`embedding_positions`.
        identities: Identity of each image: integers or strings. Up to 24 are named.
        cameras: Camera of each image; ``None`` draws the first panel alone.
        theme: ``"light"`` or ``"dark"``, the colours of the page.
        size: Width and height in inches; ``None`` for square panels.

    Returns:
        A figure with one or two panels without axes; cameras also differ in their marks.

    Raises:
        ValueError: If there is no position, one is not finite, or lengths disagree.
        ImportError: If matplotlib is not installed.

    Example:
        >>> places = np.array([[0.0, 0.0], [0.1, 0.0], [1.0, 1.0]])
        >>> figure = embedding_map_figure(places, identities=["a", "a", "b"], cameras=[1, 2, 1])
        >>> [axes.get_label() for axes in figure.axes]
        ['identities', 'cameras']
    """
    owner = "embedding_map_figure"
    palette = palette_of(owner, theme)
    places = np.asarray(positions, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 2 or len(places) == 0:
        raise fail(owner, "positions (N, 2) of at least one image", f"shape {places.shape}")
    if not np.isfinite(places).all():
        raise fail(owner, "finite positions", "NaN or infinity")

    groups = {"identities": id_array(owner, "identities", identities, len(places))}
    if cameras is not None:
        groups["cameras"] = id_array(owner, "cameras", cameras, len(places))

    width, height = size or (4.2 * len(groups) + 0.2, 4.9)
    with own_style(owner):
        figure = blank_figure(owner, (width, height), palette)
        each = (width - 2 * _LEFT - _GAP * (len(groups) - 1)) / len(groups)
        for number, (name, values) in enumerate(groups.items()):
            box = (
                (_LEFT + number * (each + _GAP)) / width,
                _BOTTOM / height,
                each / width,
                (height - _TOP - _BOTTOM) / height,
            )
            axes = figure.add_axes(box, label=name, xticks=[], yticks=[])
            _draw_groups(axes, places, values.astype(str), name, palette)

    return figure


def hue_of(index: int) -> float:
    """Hue in [0, 1) of the group of a number, far from those of the numbers before."""
    return (index * _GOLDEN) % 1.0


def _placed(
    owner: str, rows: npt.NDArray[np.float32], method: str, perplexity: float, seed: int
) -> npt.NDArray[np.float64]:
    try:
        if method == "umap":
            return _by_umap(rows, perplexity, seed)

        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ImportError as error:
        package = "umap-learn" if method == "umap" else "clipreid_kit[maps]"
        raise ImportError(
            f"{owner}: method {method!r} needs another package. Install it with: "
            f"pip install {package}"
        ) from error

    rows = np.pad(rows, ((0, 0), (0, 1)))  # two components, also of embeddings of one number
    if method == "pca":
        found = PCA(2, svd_solver="full").fit_transform(rows)
    else:
        tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
        found = tsne.fit_transform(rows)
    return np.asarray(found, dtype=np.float64)


def _by_umap(
    rows: npt.NDArray[np.float32], perplexity: float, seed: int
) -> npt.NDArray[np.float64]:
    import umap

    neighbours = max(2, int(perplexity))
    init = "spectral" if len(rows) >= _FEWEST_SPECTRAL else "random"
    reducer = umap.UMAP(n_neighbors=neighbours, init=init, random_state=seed, n_jobs=1)
    return np.asarray(reducer.fit_transform(rows), dtype=np.float64)


def _draw_groups(
    axes: "matplotlib.axes.Axes",
    places: npt.NDArray[np.float64],
    names: npt.NDArray[Any],
    title: str,
    palette: Palette,
) -> None:
    groups = in_natural_order(names.tolist())
    is_camera = title == "cameras"
    has_labels = len(groups) <= _MOST_LABELS
    is_dark = palette.surface != "#ffffff"
    lightness = 0.66 if is_dark else 0.42

    for index, group in enumerate(groups):
        of_group = places[names == group]
        axes.scatter(
            of_group[:, 0],
            of_group[:, 1],
            s=14,
            marker=_MARKERS[index % len(_MARKERS)] if is_camera else "o",
            color=colorsys.hls_to_rgb(hue_of(index), lightness, 0.62),
            linewidths=0,
            alpha=0.85,
            label=group,
        )
        if has_labels and not is_camera:
            _name_group(axes, group, of_group, palette)

    axes.set_title(f"{len(groups)} {title}", loc="left", fontsize=10, color=palette.text)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_facecolor(palette.surface)
    axes.spines[:].set_color(palette.grid)
    if has_labels and is_camera:
        _draw_legend(axes, len(groups), palette)


def _draw_legend(axes: "matplotlib.axes.Axes", num_groups: int, palette: Palette) -> None:
    """Name the groups above the panel, where no point is."""
    legend = axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        borderpad=0.2,
        ncols=min(num_groups, 6),
        fontsize=8,
        frameon=False,
        labelcolor=palette.text,
        handletextpad=0.1,
        columnspacing=0.8,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _name_group(
    axes: "matplotlib.axes.Axes", name: str, places: npt.NDArray[np.float64], palette: Palette
) -> None:
    # above the group, so that no point is hidden
    axes.annotate(
        name,
        (float(np.median(places[:, 0])), float(places[:, 1].max())),
        xytext=(0, 4),
        textcoords="offset points",
        color=palette.text,
        fontsize=7.5,
        horizontalalignment="center",
        verticalalignment="bottom",
        parse_math=False,
    )
