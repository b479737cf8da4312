"""Query expansion and database augmentation: rows are mixed with their nearest neighbours."""

import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_at_least, check_integer
from clipreid_kit.distances import l2_normalize
from clipreid_kit.metrics._engine.nearest_neighbours import nearest_between, nearest_others
from clipreid_kit.metrics._engine.similarity_space import SimilaritySpace, check_sets

_CHUNK = 1 << 22  # float32 elements of a temporary: 16 MB


@torch.no_grad()
def query_expansion(
    query_embeddings: Float[Tensor, "q d"],
    gallery_embeddings: Float[Tensor, "g d"],
    *,
    k: int = 10,
    alpha: float | None = None,
) -> Float[Tensor, "q d"]:
    r"""Replace every query by a mixture of itself and its k nearest gallery rows.

    The nearest rows of a good model are mostly right, and their mean is nearer to all other right
    rows than the single query is. Use it where identities have many gallery images; with few of
    them, wrong neighbours are mixed in.

    .. math::
        q' = \frac{\hat q}{|\hat q|}, \qquad \hat q = q + \sum_{i = 1}^{k} w_i g_i, \qquad
        w_i = \begin{cases}
            1 & \text{without } \alpha \\
            \max(q \cdot g_i, 0)^\alpha & \text{with } \alpha
        \end{cases}

    with q and g of unit length.

    Args:
        query_embeddings: (Q, D), any scale; float16 to float64.
        gallery_embeddings: (G, D), on the same device.
        k: Number of gallery rows that are mixed in, usually 5 to 50; larger than G means all of
            them.
        alpha: Exponent of the weights, at least 0 and usually 3: the larger it is, the less do
            farther rows count. 0 gives all rows with a positive cosine the same weight. Defaults to
            the plain average.

    Returns:
        Unit rows (Q, D), float32 (float64 for float64 queries); a mixture that cancels out exactly
        is a zero row.

    Raises:
        ValueError: If widths or devices differ, a set is empty, a row holds NaN or infinity, ``k``
            is below 1 or ``alpha`` below 0.

    Example:
        >>> gallery = torch.tensor([[0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
        >>> query_expansion(torch.tensor([[1.0, 0.0]]), gallery, k=1)  # half way to the nearest row
        tensor([[0.8944, 0.4472]])

    Note:
        The query itself always has weight 1. Some implementations search in queries and gallery
        together, and so mix queries into each other; here a result does not depend on other
        queries.

    References:
        Chum et al., Total Recall, ICCV 2007 (average). Radenović et al., Fine-tuning CNN Image
        Retrieval with No Human Annotation, TPAMI 2018, section 3.4 (alpha).
    """
    owner = "query_expansion"
    _check_options(owner, k, alpha)
    names = ("query_embeddings", "gallery_embeddings")
    queries, gallery = check_sets(owner, names, (query_embeddings, gallery_embeddings))

    space = SimilaritySpace([queries, gallery], "cosine")
    num_queries = len(queries)
    nearest = nearest_between(
        space, slice(0, num_queries), slice(num_queries, len(space)), min(k, len(gallery))
    )
    return _mix(
        l2_normalize(query_embeddings),
        l2_normalize(gallery_embeddings),
        nearest - num_queries,
        alpha,
    )


@torch.no_grad()
def database_augmentation(
    gallery_embeddings: Float[Tensor, "g d"], *, k: int = 10, alpha: float | None = None
) -> Float[Tensor, "g d"]:
    r"""Replace every gallery row by a mixture of itself and its k nearest other gallery rows.

    This is :func:`query_expansion` for the gallery. It runs once for a gallery, before any query is
    known, and can be combined with the expansion of queries.

    Args:
        gallery_embeddings: (G, D), any scale; float16 to float64.
        k: Number of other rows that are mixed in; larger than G - 1 means all of them.
        alpha: Exponent of the weights, see :func:`query_expansion`; defaults to the plain average.

    Returns:
        Unit rows (G, D), float32 (float64 for float64 input). A gallery of one row is returned as
        it is, at unit length.

    Raises:
        ValueError: If there is no row, one holds NaN or infinity, ``k`` is below 1 or ``alpha``
            below 0.

    Example:
        >>> database_augmentation(torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]]), k=1)
        tensor([[ 0.8944,  0.4472],
                [ 0.8944,  0.4472],
                [-0.4472,  0.8944]])

    References:
        Turcot and Lowe, Better matching with fewer features, ICCVW 2009. Gordo et al., End-to-end
        Learning of Deep Visual Representations for Image Retrieval, IJCV 2017, section 5.
    """
    owner = "database_augmentation"
    _check_options(owner, k, alpha)
    (gallery,) = check_sets(owner, ("gallery_embeddings",), (gallery_embeddings,))

    unit = l2_normalize(gallery_embeddings)
    if len(gallery) == 1:
        return unit

    nearest, _ = nearest_others(SimilaritySpace([gallery], "cosine"), min(k, len(gallery) - 1))
    return _mix(unit, unit, nearest, alpha)


def _check_options(owner: str, k: int, alpha: float | None) -> None:
    check_integer(owner, "k", k, 1)
    if alpha is not None:
        check_at_least(owner, "alpha", alpha, 0)


def _mix(own: Tensor, others: Tensor, nearest: Tensor, alpha: float | None) -> Tensor:
    """Add to each unit row its nearest rows, weighted, and normalise the sum.

    Shape suffixes: B rows of a chunk, K neighbours of each, D dimensions.

    Args:
        own: Unit rows (N, D).
        others: Unit rows (M, D) that neighbours are taken from.
        nearest: (N, K), the rows of ``others`` that are nearest to each row.
        alpha: Exponent of the weights; ``None`` for the plain average.
    """
    mixed = torch.empty_like(own)
    rows_at_once = max(1, _CHUNK // (nearest.shape[1] * own.shape[1]))

    for start in range(0, len(own), rows_at_once):
        chunk = slice(start, start + rows_at_once)
        own_BD = own[chunk]
        neighbours_BKD = others[nearest[chunk]].to(own.dtype)

        if alpha is not None:
            cosine_BK1 = (own_BD[:, None] * neighbours_BKD).sum(dim=2, keepdim=True)
            weight_BK1 = torch.where(cosine_BK1 > 0, cosine_BK1.clamp(min=0).pow(alpha), 0.0)
            neighbours_BKD = neighbours_BKD * weight_BK1

        mixed[chunk] = own_BD + neighbours_BKD.sum(dim=1)

    return l2_normalize(mixed)
