"""Query expansion and database augmentation: rows are mixed with their nearest neighbours."""

import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_at_least, check_integer
from clipreid_kit.distances import l2_normalize
from clipreid_kit.metrics._engine.nearest_neighbours import nearest_between, nearest_others
from clipreid_kit.metrics._engine.similarity_space import Space, checked_sets

_CHUNK = 1 << 22  # float32 elements of a temporary: 16 MB


@torch.no_grad()
def query_expansion(
    query_embeddings: Float[Tensor, "q d"],
    gallery_embeddings: Float[Tensor, "g d"],
    *,
    k: int = 10,
    alpha: float | None = None,
) -> Float[Tensor, "q d"]:
    r"""Mix every query with its k nearest gallery rows, as the new query.

    The nearest rows of a good model are mostly right, and their mean is nearer to all other right ones than the single
    query is. Use it where identities have many gallery images; with few of them wrong neighbours come in.

    .. math::
        q' = \frac{\hat q}{|\hat q|}, \qquad \hat q = q + \sum_{i = 1}^{k} w_i g_i, \qquad
        w_i = \begin{cases} 1 & \text{average} \\ \max(q \cdot g_i, 0)^\alpha & \alpha\text{ given} \end{cases}

    with q and g of unit length.

    Args:
        query_embeddings: (Q, D), any scale; float16 to float64.
        gallery_embeddings: (G, D), on the same device.
        k: Gallery rows that are mixed in; more than there are means all. 5 to 50 is usual.
        alpha: ``None`` for plain averages, or 0 and more: the larger, the less do farther rows count; 3 is usual. 0
            weighs all rows alike that are not opposite.

    Returns:
        Unit rows (Q, D), float32 (float64 for float64 queries); a mixture that cancels out exactly is a zero row.

    Raises:
        ValueError: If widths or devices disagree, a set is empty, a row holds NaN or infinity, ``k`` is below 1 or
            ``alpha`` below 0.

    Example:
        >>> gallery = torch.tensor([[0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
        >>> query_expansion(torch.tensor([[1.0, 0.0]]), gallery, k=1)  # half way to the nearest
        tensor([[0.8944, 0.4472]])

    Note:
        The query itself always has weight 1. Some codes search in queries and gallery together and so mix queries into
        each other; here a query knows nothing of other queries.

    References:
        Chum et al., Total Recall, ICCV 2007 (average). Radenović et al., Fine-tuning CNN Image Retrieval with No Human
        Annotation, TPAMI 2018, section 3.4 (alpha).
    """
    owner = "query_expansion"
    _check_options(owner, k, alpha)
    sets = checked_sets(
        owner, ("query_embeddings", "gallery_embeddings"), (query_embeddings, gallery_embeddings)
    )
    space = Space(sets, "cosine")
    num_queries = len(sets[0])
    near = nearest_between(
        space, slice(0, num_queries), slice(num_queries, len(space)), min(k, len(sets[1]))
    )
    return _mixed(
        l2_normalize(query_embeddings), l2_normalize(gallery_embeddings), near - num_queries, alpha
    )


@torch.no_grad()
def database_augmentation(
    gallery_embeddings: Float[Tensor, "g d"], *, k: int = 10, alpha: float | None = None
) -> Float[Tensor, "g d"]:
    r"""Mix every gallery row with its k nearest other gallery rows: :func:`query_expansion` for the other side.

    It is done once for a gallery, before any query is known, and can go together with the expansion of queries.

    Args:
        gallery_embeddings: (G, D), any scale; float16 to float64.
        k: Other rows that are mixed in; more than there are means all.
        alpha: ``None`` for plain averages, or 0 and more, see :func:`query_expansion`.

    Returns:
        Unit rows (G, D), float32 (float64 for float64 input). A gallery of one row comes back, at unit length.

    Raises:
        ValueError: If there is no row, one holds NaN or infinity, ``k`` is below 1 or ``alpha`` below 0.

    Example:
        >>> database_augmentation(torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]]), k=1)
        tensor([[ 0.8944,  0.4472],
                [ 0.8944,  0.4472],
                [-0.4472,  0.8944]])

    References:
        Turcot and Lowe, Better matching with fewer features, ICCVW 2009. Gordo et al., End-to-end Learning of Deep
        Visual Representations for Image Retrieval, IJCV 2017, section 5.
    """
    owner = "database_augmentation"
    _check_options(owner, k, alpha)
    rows = checked_sets(owner, ("gallery_embeddings",), (gallery_embeddings,))[0]
    unit = l2_normalize(gallery_embeddings)
    if len(rows) == 1:
        return unit
    near, _ = nearest_others(Space([rows], "cosine"), min(k, len(rows) - 1))
    return _mixed(unit, unit, near, alpha)


def _check_options(owner: str, k: int, alpha: float | None) -> None:
    check_integer(owner, "k", k, 1)
    if alpha is not None:
        check_at_least(owner, "alpha", alpha, 0)


def _mixed(own: Tensor, others: Tensor, near: Tensor, alpha: float | None) -> Tensor:
    out = torch.empty_like(own)
    step = max(1, _CHUNK // (near.shape[1] * own.shape[1]))
    for start in range(0, len(own), step):
        part = slice(start, start + step)
        chosen = others[near[part]].to(own.dtype)
        if alpha is not None:
            cosine = (own[part, None] * chosen).sum(dim=2, keepdim=True)
            chosen = chosen * torch.where(cosine > 0, cosine.clamp(min=0).pow(alpha), 0.0)
        out[part] = own[part] + chosen.sum(dim=1)
    return l2_normalize(out)
