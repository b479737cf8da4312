"""The only home of pairwise similarity and distance.

Everything is computed in float32 (float64 for float64 input), whatever autocast says, and has a finite gradient for
zero vectors and for equal rows.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_embeddings, check_same_width


def exact(embeddings: Tensor) -> Tensor:
    """Cast to the precision in which similarities are computed: float32, or float64 for float64 input."""
    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()


def _in_one_precision(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(exact(first).dtype, exact(second).dtype)
    return first.to(dtype), second.to(dtype)


def l2_normalize(embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Scale every row to unit length; a zero row stays zero and passes no gradient.

    Args:
        embeddings: Rows with norms between 1e-18 and 1e18 (or 0); float16 and bfloat16 come back as float32. Beyond
            that range squares leave float32: such rows count as zero rows. A row with NaN comes back as NaN.

    Returns:
        Rows of length 1 (or 0), in float32 or float64. An empty matrix comes back empty.

    Raises:
        ValueError: If ``embeddings`` is not a floating-point matrix.

    Example:
        >>> l2_normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    check_embeddings("l2_normalize", "embeddings", embeddings)
    with torch.autocast(embeddings.device.type, enabled=False):
        rows = exact(embeddings)
        length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        # dividing by a clamped zero would give a gradient of 1 / eps: finite, and large enough to wreck a step
        # a NaN stays one: a broken row must be seen in the loss
        return torch.where(length == 0, 0.0, rows / length.clamp(min=torch.finfo(rows.dtype).tiny))


def dot_product(first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Inner product of every row with every row, outside autocast.

    Example:
        >>> dot_product(torch.eye(2), torch.tensor([[1.0, 2.0]]))
        tensor([[1.],
                [2.]])
    """
    check_same_width("dot_product", "first", first, "second", second)
    with torch.autocast(first.device.type, enabled=False):
        a, b = _in_one_precision(first, second)
        return a @ b.T


def cosine_similarity(
    first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]
) -> Float[Tensor, "n m"]:
    """Cosine of every row with every row, in [-1, 1] up to rounding; 0 against a zero row.

    Args:
        first: Any scale.
        second: Any scale, same width.

    Returns:
        Matrix (n, m) in float32 or float64.

    Raises:
        ValueError: If the widths or devices differ.

    Example:
        >>> cosine_similarity(torch.tensor([[2.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0]]))
        tensor([[1., 0.]])
    """
    return dot_product(l2_normalize(first), l2_normalize(second))


def squared_euclidean_distance(
    first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]
) -> Float[Tensor, "n m"]:
    r"""Squared Euclidean distance of every row to every row, never negative.

    Uses :math:`|a|^2 + |b|^2 - 2 a \cdot b` after moving the mean of ``first`` to the origin: fast, exact enough to
    choose pairs by, and wrong in the last digits for rows that nearly coincide. Where a value matters, take the
    difference of the chosen rows.

    Args:
        first: Rows.
        second: Rows of the same width.

    Returns:
        Matrix (n, m) in float32 or float64.

    Raises:
        ValueError: If the widths or devices differ.

    Example:
        >>> squared_euclidean_distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
        tensor([[25.]])
    """
    check_same_width("squared_euclidean_distance", "first", first, "second", second)
    with torch.autocast(first.device.type, enabled=False):
        a, b = _in_one_precision(first, second)
        if a.shape[0] > 0:  # a common offset would cost digits, and changes no distance
            mean = a.detach().mean(dim=0)
            a, b = a - mean, b - mean
        product = torch.addmm(b.square().sum(dim=1)[None, :], a, b.T, alpha=-2)
        return (product + a.square().sum(dim=1)[:, None]).clamp(min=0)


def euclidean_distance(
    first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]
) -> Float[Tensor, "n m"]:
    """Euclidean distance of every row to every row; where it is 0 the gradient is 0.

    Example:
        >>> euclidean_distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
        tensor([[5.]])
    """
    squared = squared_euclidean_distance(first, second)
    # sqrt has an infinite slope at 0: the root is taken of 1 there, and replaced by 0
    nonzero = squared > 0
    return torch.where(nonzero, torch.where(nonzero, squared, 1.0).sqrt(), 0.0)
