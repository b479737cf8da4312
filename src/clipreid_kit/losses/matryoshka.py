"""Matryoshka representations: one loss on several prefixes of the embeddings."""

from collections.abc import Sequence
from typing import Final

from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least, check_integer, fail
from clipreid_kit._fixed_options import fixed_options

_OWNER = "MatryoshkaLoss"


@fixed_options()
class MatryoshkaLoss(nn.Module):
    r"""Sum a loss over several widths: the first entries of an embedding are an embedding, too.

    Use it where a gallery should fit into less memory later: the embeddings are trained once, and
    cut to the width that is wanted. Any loss on embeddings fits inside, with its own options.

    .. math::
        L = \sum_{d \in D} c_d\, \ell(z_{1:d})

    Args:
        loss: A loss without weights of a fixed width, called with embeddings and labels, or with
            embeddings of several kinds.
        dims: Widths :math:`D`, each at least 1, all different. Name the full width, too, if it
            should be trained as such.
        weights: :math:`c_d \ge 0` of each width; 1 for each by default, as in the paper.

    Raises:
        ValueError: If the widths or weights are out of their range; in ``forward``, if the
            embeddings have fewer entries than the largest width.

    Example:
        >>> import torch
        >>> from clipreid_kit import SupConLoss
        >>> loss = MatryoshkaLoss(SupConLoss(temperature=1.0), dims=(2, 4))
        >>> # of width 2 rows 2 and 3 are zero: ln 3 for every row, as for width 4
        >>> loss(torch.eye(4), torch.tensor([0, 0, 1, 1]))
        tensor(2.1972)

    Relations:
        At test time cut the embeddings: ``evaluate_reid(query[:, :64], gallery[:, :64], ...)``;
        cosines normalise what is left.

    Note:
        The first argument decides the width: every other matrix of its width is cut, too, and
        labels, masks and other arguments are passed on as they are. A loss with ``distributed``
        gathers once for each width.

    References:
        Kusupati et al., Matryoshka Representation Learning, NeurIPS 2022, eq. 1.
    """

    dims: Final[tuple[int, ...]]

    def __init__(
        self, loss: nn.Module, dims: Sequence[int], weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        if len(dims) == 0 or len(set(dims)) < len(dims):
            raise fail(_OWNER, "dims as one or more different widths", tuple(dims))
        for dim in dims:
            check_integer(_OWNER, "dims", dim, 1)

        weights = [1.0] * len(dims) if weights is None else weights
        if len(weights) != len(dims):
            raise fail(_OWNER, f"{len(dims)} weights, one for each width", len(weights))
        for weight in weights:
            check_at_least(_OWNER, "weights", weight, 0)

        self.loss = loss
        self.dims = tuple(dims)
        self.weights = tuple(weights)

    def forward(
        self, embeddings: Float[Tensor, "n d"], *arguments: Tensor | None
    ) -> Float[Tensor, " *p"]:
        """Sum the loss over the widths.

        Args:
            embeddings: First argument of the loss.
            arguments: Its other arguments, in order.
        """
        width = embeddings.shape[1]
        if max(self.dims) > width:
            raise fail(_OWNER, f"embeddings of width {max(self.dims)} or more", width)

        total: Tensor | None = None
        for dim, weight in zip(self.dims, self.weights, strict=True):
            others = [_cut(argument, width, dim) for argument in arguments]
            value = weight * self.loss(embeddings[:, :dim], *others)
            total = value if total is None else total + value

        if total is None:
            raise ValueError(f"{_OWNER}: there are no widths.")
        return total

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return f"dims={self.dims}, weights={self.weights}"


def _cut(argument: Tensor | None, width: int, dim: int) -> Tensor | None:
    """The first entries of embeddings; anything else as it is."""
    if argument is None or argument.ndim != 2 or not argument.is_floating_point():
        return argument
    return argument[:, :dim] if argument.shape[1] == width else argument
