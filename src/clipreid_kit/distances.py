"""Pairwise similarities and distances.

Everything is computed in float32 (in float64 for float64 input), also under autocast. Gradients are
finite for zero rows and for equal rows.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_embeddings, check_same_width


def at_least_float32(tensor: Tensor) -> Tensor:
    """Cast float16 and bfloat16 to float32; float32 and float64 are returned as they are."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def to_common_precision(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Cast both tensors to float32, or to float64 if one of them is float64."""
    dtype = torch.promote_types(at_least_float32(first).dtype, at_least_float32(second).dtype)
    return first.to(dtype), second.to(dtype)


def l2_normalize(embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Scale every row to unit length; a zero row stays zero and passes no gradient.

    Args:
        embeddings: Rows with norms between 1e-18 and 1e18, or 0. Outside of this range the squares
            overflow or underflow in float32, and the row is treated as a zero row. A row with a NaN
            is returned as NaN.

    Returns:
        Rows of length 1 (or 0) in float32, or in float64 for float64 input. An empty matrix for an
        empty matrix.

    Raises:
        ValueError: If ``embeddings`` is not a floating-point matrix.

    Example:
        >>> l2_normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    check_embeddings("l2_normalize", "embeddings", embeddings)

    with torch.autocast(embeddings.device.type, enabled=False):
        rows = at_least_float32(embeddings)
        length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        unit_rows = rows / length.clamp(min=torch.finfo(rows.dtype).tiny)

        # Division by a clamped zero would have a gradient of 1 / eps: finite, but large enough to
        # ruin a step. NaN is kept, so that a broken row shows in the loss.
        return torch.where(length == 0, 0.0, unit_rows)


def dot_product(first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Dot product of every row of ``first`` with every row of ``second``, outside autocast.

    Args:
        first: Rows.
        second: Rows of the same width.

    Returns:
        Matrix (n, m) in float32 or float64.

    Raises:
        ValueError: If the widths or the devices differ.

    Example:
        >>> dot_product(torch.eye(2), torch.tensor([[1.0, 2.0]]))
        tensor([[1.],
                [2.]])
    """
    check_same_width("dot_product", "first", first, "second", second)
    with torch.autocast(first.device.type, enabled=False):
        first, second = to_common_precision(first, second)
        return first @ second.T


def cosine_similarity(
    first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]
) -> Float[Tensor, "n m"]:
    """Cosine of every row with every row, in [-1, 1] up to rounding; 0 against a zero row.

    Args:
        first: Rows of any length.
        second: Rows of the same width, of any length.

    Returns:
        Matrix (n, m) in float32 or float64.

    Raises:
        ValueError: If the widths or the devices differ.

    Example:
        >>> cosine_similarity(torch.tensor([[2.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0]]))
        tensor([[1., 0.]])
    """
    return dot_product(l2_normalize(first), l2_normalize(second))


def squared_euclidean_distance(
    first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]
) -> Float[Tensor, "n m"]:
    r"""Squared Euclidean distance of every row to every row, never negative.

    Computes :math:`|a|^2 + |b|^2 - 2 a \cdot b` after subtracting the mean of ``first`` from both.
    This is fast and exact enough to choose pairs by, but the last digits are wrong for rows that
    nearly coincide. Where a distance itself is needed, take the norm of the difference of the rows.

    Args:
        first: Rows.
        second: Rows of the same width.

    Returns:
        Matrix (n, m) in float32 or float64.

    Raises:
        ValueError: If the widths or the devices differ.

    Example:
        >>> squared_euclidean_distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
        tensor([[25.]])
    """
    check_same_width("squared_euclidean_distance", "first", first, "second", second)

    with torch.autocast(first.device.type, enabled=False):
        first, second = to_common_precision(first, second)

        # A common offset costs digits and changes no distance.
        if first.shape[0] > 0:
            mean = first.detach().mean(dim=0)
            first = first - mean
            second = second - mean

        first_squared = first.square().sum(dim=1)[:, None]
        second_squared = second.square().sum(dim=1)[None, :]
        product = torch.addmm(second_squared, first, second.T, alpha=-2)

        return (product + first_squared).clamp(min=0)


def euclidean_distance(
    first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]
) -> Float[Tensor, "n m"]:
    """Euclidean distance of every row to every row; where it is 0, so is its gradient.

    Args:
        first: Rows.
        second: Rows of the same width.

    Returns:
        Matrix (n, m) in float32 or float64; :func:`squared_euclidean_distance` describes its
        accuracy.

    Raises:
        ValueError: If the widths or the devices differ.

    Example:
        >>> euclidean_distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
        tensor([[5.]])
    """
    squared = squared_euclidean_distance(first, second)

    # The slope of the root is infinite at 0: take the root of 1 there, and replace it by 0.
    is_zero = squared == 0
    root = torch.where(is_zero, 1.0, squared).sqrt()
    return torch.where(is_zero, 0.0, root)
