"""Center loss: rows are pulled to a learned center of their identity."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_at_least,
    check_embeddings,
    check_integer,
    check_label_range,
    check_labels,
    check_same_width,
)
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import at_least_float32
from clipreid_kit.distributed import gather_batch


def center_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    centers: Float[Tensor, "c d"],
    *,
    sparse_grad: bool = False,
) -> Float[Tensor, ""]:
    r"""Center loss: half the mean squared distance of the rows to the centers of their identities.

    Use it beside a loss that keeps identities apart (a classifier, a triplet loss): alone it is
    smallest where all rows and centers are the same point.

    .. math:: L = \frac{1}{2N} \sum_i \lVert x_i - c_{y_i} \rVert^2

    Args:
        embeddings: Rows :math:`x`, used unchanged.
        labels: Identity of each row, the index of its center, in [0, C). Checked if the labels are
            on the CPU and the graph is not compiled. Elsewhere reading them would wait for the
            device, and a label out of range is an indexing error of the device.
        centers: One row for each of C identities.
        sparse_grad: Give ``centers`` a sparse gradient that holds only the rows of the batch,
            instead of one as large as ``centers``. Worth it from about ten thousand identities on,
            for optimisers that accept it: ``torch.optim.SGD`` without weight decay, ``SparseAdam``,
            ``Adagrad``.

    Returns:
        Mean over the rows, in squared units of the embeddings. Zero, connected to the graph, for no
        rows.

    Raises:
        ValueError: If shapes disagree, or a label on the CPU has no center.

    Example:
        >>> centers = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
        >>> rows = torch.tensor([[3.0, 4.0], [1.0, 1.0]])
        >>> center_loss(rows, torch.tensor([0, 1]), centers)  # (25 + 1) / 4
        tensor(6.5000)

    Note:
        About the factor: Wen et al. sum over the batch with 1/2, CLIP-FH takes the mean with 1/2 as
        here, and CLIP-ReID and the strong ReID baselines take the mean without 1/2. Their weight of
        0.0005 is therefore 0.001 here. Those codes compute the distances to all centers and clamp
        the masked ones at 1e-12, which adds (C - 1) times that to each row.

    References:
        Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition, ECCV 2016,
        eq. 2.
    """
    check_embeddings("center_loss", "embeddings", embeddings)
    check_labels("center_loss", "labels", labels, embeddings.shape[0], embeddings.device)
    check_embeddings("center_loss", "centers", centers)
    check_same_width("center_loss", "embeddings", embeddings, "centers", centers)
    check_label_range("center_loss", labels, centers.shape[0])

    with torch.autocast(embeddings.device.type, enabled=False):
        own_centers = F.embedding(labels.long(), centers, sparse=sparse_grad)
        offset = at_least_float32(embeddings) - at_least_float32(own_centers)

        return 0.5 * offset.square().sum() / max(embeddings.shape[0], 1)


@fixed_options(not_kept=("dim", "num_identities", "std"))
class CenterLoss(nn.Module):
    """Module of :func:`center_loss`; it holds the centers, a Parameter (num_identities, dim).

    Weight the loss (0.0005 to 0.001 is usual beside a triplet loss), and put the centers into a
    parameter group of the one optimiser, without weight decay::

        optimizer = torch.optim.AdamW([
            {"params": model.parameters()},
            {"params": center.parameters(), "lr": 0.01, "weight_decay": 0.0},
        ])
        loss = triplet(embeddings, labels) + 0.0005 * center(embeddings, labels)

    The strong ReID baselines train the centers by SGD with a learning rate of 0.5, and first divide
    their gradient by the weight w of the loss. Without that division the same step is SGD with a
    rate of 0.5 / w (1000 for w = 0.0005) for the group of the centers. Clip the gradients of the
    model only, so that those of the centers do not count in the norm. Adam and AdamW divide by the
    size of the
    gradient: for the centers only their group's learning rate matters, and not the weight.

    Args:
        dim: Width of the embeddings.
        num_identities: Training identities, labelled 0 to ``num_identities`` - 1.
        std: Standard deviation of the initial centers, at least 0. The baselines use 1, with long
            embeddings. For unit rows begin at 0, or copy the mean embedding of each identity into
            ``centers``.
        sparse_grad: Sparse gradient of the centers; see :func:`center_loss`.
        distributed: Gather embeddings and labels from all ranks first. Give the centers to DDP with
            the model, or let every rank step them: they get the same gradient everywhere.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> loss = CenterLoss(dim=2, num_identities=2, std=0.0)
        >>> loss(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([0, 1]))  # 25 / 4
        tensor(6.2500, grad_fn=<DivBackward0>)
    """

    def __init__(
        self,
        dim: int,
        num_identities: int,
        *,
        std: float = 1.0,
        sparse_grad: bool = False,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_integer("CenterLoss", "dim", dim, 1)
        check_integer("CenterLoss", "num_identities", num_identities, 1)
        check_at_least("CenterLoss", "std", std, 0)

        self.centers = nn.Parameter(torch.randn(num_identities, dim) * std)
        self.sparse_grad = sparse_grad
        self.distributed = distributed

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Compute :func:`center_loss`."""
        if self.distributed:
            options = (self.extra_repr(),)
            embeddings, labels = gather_batch("CenterLoss", embeddings, labels, options=options)
        return center_loss(embeddings, labels, self.centers, sparse_grad=self.sparse_grad)

    def extra_repr(self) -> str:
        """Sizes and options for ``print(module)``."""
        num_identities, dim = self.centers.shape
        return (
            f"dim={dim}, num_identities={num_identities}, sparse_grad={self.sparse_grad}, "
            f"distributed={self.distributed}"
        )
