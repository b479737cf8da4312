"""BatchNorm1d whose mean and variance are those of the rows of all ranks, on any device."""

import torch
from torch import Tensor, nn

from clipreid_kit.distances import at_least_float32
from clipreid_kit.distributed import gather_batch, world_size


class CrossRankBatchNorm1d(nn.BatchNorm1d):
    r"""``nn.BatchNorm1d`` over the rows of all ranks; its tensors have the same names.

    Every rank sends its number of rows, its mean and its sum of squares about that mean, which
    combine without cancellation:

    .. math::
        \mu = \frac{1}{N} \sum_r n_r \mu_r, \qquad
        \sigma^2 = \frac{1}{N} \sum_r \big( q_r + n_r (\mu_r - \mu)^2 \big), \qquad
        q_r = \sum_{i \in r} (x_i - \mu_r)^2

    The gradient passes through the gathered moments, so that each rank has the gradient of one
    process with all rows, in the convention of ``clipreid_kit.distributed``.

    Args:
        num_features: Width of the rows.
        affine: Whether there is a learned scale and shift.
        owner: Module that errors name.

    References:
        Ioffe and Szegedy, Batch Normalization, ICML 2015, algorithm 1. Chan et al., Updating
        Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979, eq. 2.1.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, num_features: int, *, affine: bool = True, owner: str = "BNNeck") -> None:
        super().__init__(num_features, affine=affine)
        self.owner = owner
        self.distributed = True  # ``local_losses`` switches it off

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        """Normalise the rows (n, D) of this rank, n >= 0."""
        if not self.gathers():
            return super().forward(input)

        rows = at_least_float32(input)
        with torch.autocast(rows.device.type, enabled=False):
            count, mean, variance = moments_of_all_ranks(rows, self.owner)
            self._update_running_statistics(count, mean, variance)

            scale = (variance + self.eps).rsqrt()
            if not self.affine:
                return ((rows - mean) * scale).to(input.dtype)
            return ((rows - mean) * (scale * self.weight) + self.bias).to(input.dtype)

    def gathers(self) -> bool:
        """Whether a forward pass would gather from other ranks."""
        return self.training and self.distributed and world_size() > 1

    @torch.no_grad()
    def _update_running_statistics(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, of which the variance is unbiased, as torch's layer does."""
        unbiased = variance * (count / (count - 1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        self.num_batches_tracked += 1


def moments_of_all_ranks(rows: Tensor, owner: str = "BNNeck") -> tuple[Tensor, Tensor, Tensor]:
    """Number of rows, mean (D,) and biased variance (D,) over all ranks, with gradient.

    Raises:
        ValueError: If all ranks together have fewer than two rows; on every rank.
    """
    num_rows, dim = rows.shape
    own_mean = rows.sum(dim=0) / max(num_rows, 1)
    own_squares = (rows - own_mean).square().sum(dim=0)

    own = torch.cat([rows.new_full((1,), num_rows), own_mean, own_squares])
    (gathered,) = gather_batch(owner, own[None])
    counts, means, squares = gathered.split([1, dim, dim], dim=1)

    # A rank with two rows need not wait for the device to know that there are enough.
    count = counts.sum()
    if num_rows < 2 and count < 2:
        raise ValueError(
            f"{owner}: training mode needs at least two rows over all ranks, as one row has no "
            "variance; drop the last batch of one, or call eval() to use the running statistics."
        )

    mean = (counts * means).sum(dim=0) / count
    about_mean = squares + counts * (means - mean).square()
    return count, mean, about_mean.sum(dim=0) / count
