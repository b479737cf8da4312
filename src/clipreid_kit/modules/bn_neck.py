"""BNNeck: metric losses before a batch normalisation, classification after it."""

from typing import Final, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import check_embeddings, check_integer, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distributed import errors_on_all_ranks
from clipreid_kit.modules._cross_rank_batch_norm import CrossRankBatchNorm1d

_OWNER = "BNNeck"


class BNNeckOutput(NamedTuple):
    """Output of :class:`BNNeck`.

    Attributes:
        before: Input of the BatchNorm (N, D'), for triplet and center losses.
        after: Output of the BatchNorm (N, D'), for an identity classifier.
    """

    before: Tensor
    after: Tensor


@fixed_options(not_kept=("reduced_dim", "distributed"))
class BNNeck(nn.Module):
    """Batch normalisation between metric losses and the identity classifier.

    Use it where a metric loss and a classifier train the same embeddings. Metric losses need free
    Euclidean distances, a softmax classifier needs directions: the neck gives each its own view.
    The shift of the BatchNorm is fixed at 0, so that the classifier's hyperplanes pass through the
    origin.

    Args:
        dim: Width D of the embeddings, at least 1.
        reduced_dim: Width D' of a linear layer (no bias) before the BatchNorm, at least 1. ``None``
            for no layer, with D' = D.
        distributed: Take the mean and the variance over the rows of all ranks, on any device;
            torch's ``SyncBatchNorm`` needs GPUs. Every rank has to call the neck in training mode.
            The numbers of rows may differ.

    Raises:
        ValueError: If a width is below 1; in ``forward``, if the embeddings have another width, or
            for a batch of one row in training mode (its variance is undefined).

    Example:
        >>> import torch
        >>> neck = BNNeck(4).eval()
        >>> neck(torch.ones(2, 4)).after.shape
        torch.Size([2, 4])
        >>> neck.norm.bias.requires_grad
        False

    References:
        Luo et al., Bag of Tricks and A Strong Baseline for Deep Person Re-Identification, CVPRW
        2019, section 3.5.
    """

    dim: Final[int]
    out_dim: Final[int]

    def __init__(
        self, dim: int, reduced_dim: int | None = None, *, distributed: bool = False
    ) -> None:
        super().__init__()
        check_integer(_OWNER, "dim", dim, 1)
        if reduced_dim is not None:
            check_integer(_OWNER, "reduced_dim", reduced_dim, 1)

        self.dim = dim
        self.out_dim = dim if reduced_dim is None else reduced_dim
        self.reduction: nn.Module = nn.Identity()
        if reduced_dim is not None:
            self.reduction = nn.Linear(dim, reduced_dim, bias=False)
            nn.init.kaiming_normal_(self.reduction.weight, mode="fan_out")

        norm_class = CrossRankBatchNorm1d if distributed else nn.BatchNorm1d
        self.norm = norm_class(self.out_dim)
        self.norm.bias.requires_grad = False

    def forward(self, embeddings: Float[Tensor, "n d"]) -> BNNeckOutput:
        """Return the embeddings before and after the BatchNorm."""
        with errors_on_all_ranks(_OWNER, 1, distributed=self._gathers()):
            self._check_rows(embeddings)

        before = self.reduction(embeddings)
        return BNNeckOutput(before, self.norm(before))

    def _check_rows(self, embeddings: Tensor) -> None:
        """Raise ValueError for rows of another width, or a single row whose variance is asked."""
        check_embeddings(_OWNER, "embeddings", embeddings)
        if embeddings.shape[1] != self.dim:
            raise fail(_OWNER, f"embeddings of width {self.dim}", embeddings.shape[1])

        if embeddings.shape[0] == 1 and self.training and not self._gathers():
            raise ValueError(
                f"{_OWNER}: training mode needs at least two rows, as one row has no variance; "
                "drop the last batch of one, or call eval() to use the running statistics."
            )

    def _gathers(self) -> bool:
        """Whether the statistics come from several ranks, which may have a single row each."""
        return isinstance(self.norm, CrossRankBatchNorm1d) and self.norm.gathers()
