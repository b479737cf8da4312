"""Center loss: rows are drawn to a trained centre of their identity."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_at_least,
    check_embeddings,
    check_integer,
    check_labels,
    check_same_width,
    fail,
)
from clipreid_kit.distances import exact
from clipreid_kit.distributed import gather


def center_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    centers: Float[Tensor, "c d"],
    *,
    sparse_grad: bool = False,
) -> Float[Tensor, ""]:
    r"""Center loss: half the mean squared Euclidean distance of the rows to the centres of their identities.

    Use it beside a loss that keeps identities apart (a classifier, a triplet loss): alone it is least where all rows
    and centres are one point.

    .. math:: L = \frac{1}{2N} \sum_i \lVert x_i - c_{y_i} \rVert^2

    Args:
        embeddings: Rows :math:`x`, used as they are.
        labels: Identity of each row: the number of its centre, in [0, c). Checked where the labels are on the CPU and
            the graph is not compiled; elsewhere reading them would wait for the device, and a label out of range is an
            indexing error of the device.
        centers: A row for each identity.
        sparse_grad: Give ``centers`` a sparse gradient that holds the rows of the batch only, instead of one as large
            as ``centers``. Worth it from some ten thousand identities on, and for optimisers that take it:
            ``torch.optim.SGD`` without weight decay, ``SparseAdam``, ``Adagrad``.

    Returns:
        Mean over the rows, in the unit of the embeddings squared. Zero, connected to the graph, for no rows.

    Raises:
        ValueError: If shapes disagree, or a label on the CPU has no centre.

    Example:
        >>> centers = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
        >>> center_loss(torch.tensor([[3.0, 4.0], [1.0, 1.0]]), torch.tensor([0, 1]), centers)  # (25 + 1) / 4
        tensor(6.5000)

    Note:
        The factor: Wen et al. sum over the batch with 1/2; the mean with 1/2 here is CLIP-FH's; the mean without 1/2
        is CLIP-ReID's and that of the strong ReID baselines, so their weight 0.0005 is 0.001 here. Those codes take
        the distances to all centres and clamp the masked ones at 1e-12, which adds (c - 1) times that to each row.

    References:
        Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition, ECCV 2016, eq. 2.
    """
    check_embeddings("center_loss", "embeddings", embeddings)
    check_labels("center_loss", "labels", labels, embeddings.shape[0])
    check_embeddings("center_loss", "centers", centers)
    check_same_width("center_loss", "embeddings", embeddings, "centers", centers)
    if not torch.compiler.is_compiling() and labels.device.type == "cpu" and labels.numel() > 0:
        low, high = (int(edge) for edge in labels.aminmax())
        if low < 0 or high >= centers.shape[0]:
            remedy = "Number the training identities from 0."
            raise fail(
                "center_loss",
                f"labels from 0 to {centers.shape[0] - 1}",
                f"{low} to {high}",
                remedy,
            )
    with torch.autocast(embeddings.device.type, enabled=False):
        offset = exact(embeddings) - exact(F.embedding(labels.long(), centers, sparse=sparse_grad))
        return 0.5 * offset.square().sum() / max(embeddings.shape[0], 1)


class CenterLoss(nn.Module):
    """:func:`center_loss` with its centres, which are a Parameter that an optimiser has to be given.

    Weight the loss (0.0005 to 0.001 is usual beside a triplet loss) and put the centres into a parameter group of the
    one optimiser, without weight decay::

        optimizer = torch.optim.AdamW([
            {"params": model.parameters()},
            {"params": center.parameters(), "lr": 0.01, "weight_decay": 0.0},
        ])
        loss = triplet(embeddings, labels) + 0.0005 * center(embeddings, labels)

    The strong ReID baselines train the centres with SGD at a rate of 0.5, and divide their gradient by the weight w of
    the loss first. Without that division the same step is SGD at a rate of 0.5 / w (1000 for w = 0.0005) for the group
    of the centres; clip the gradients of the model only, so that the centres' do not count in the norm. Adam and AdamW
    divide by the size of the gradient: the weight does not matter for the centres, only the group's rate does.

    Args:
        dim: Width of the embeddings.
        num_identities: Training identities, labelled 0 to ``num_identities`` - 1.
        std: Standard deviation of the first centres, at least 0; 1 is that of the baselines, whose embeddings are
            long. For unit rows begin at 0, or copy the mean embedding of each identity into ``centers``.
        sparse_grad: Sparse gradient of the centres; see :func:`center_loss`.
        distributed: Gather embeddings and labels from all ranks first. Give the centres to DDP with the model, or let
            every rank step them: they get the same gradient everywhere.

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
        """See :func:`center_loss`."""
        if self.distributed:
            embeddings, labels = gather(embeddings), gather(labels)
        return center_loss(embeddings, labels, self.centers, sparse_grad=self.sparse_grad)

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        num_identities, dim = self.centers.shape
        return (
            f"dim={dim}, num_identities={num_identities}, sparse_grad={self.sparse_grad}, "
            f"distributed={self.distributed}"
        )
