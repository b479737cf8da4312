"""Proxy-Anchor loss: a learned proxy for each identity, pulled and pushed by the batch's hardest rows."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least, check_integer, check_positive
from clipreid_kit.distances import dot_product, l2_normalize
from clipreid_kit.distributed import gather
from clipreid_kit.losses._cosine_softmax import check_head, promoted


def proxy_anchor_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    weight: Float[Tensor, "c d"],
    *,
    scale: float = 32.0,
    margin: float = 0.1,
) -> Float[Tensor, ""]:
    r"""Proxy-Anchor loss: each identity's proxy is an anchor, and the rows of the batch its positives and negatives.

    A softmax head compares a row with all identities; here a proxy is compared with all rows, so that the rows of a
    batch weigh against each other and hard ones count for more. Converges fast, also with few images an identity.

    .. math::
        \ell = \frac{1}{|P^+|} \sum_{p \in P^+} \ln\Big(1 + \sum_{x \in X_p^+} e^{-\alpha (s(x, p) - \delta)}\Big)
             + \frac{1}{|P|} \sum_{p \in P} \ln\Big(1 + \sum_{x \in X_p^-} e^{\alpha (s(x, p) + \delta)}\Big)

    with the cosine :math:`s`, all proxies :math:`P`, those of the batch's identities :math:`P^+`, and the rows of the
    proxy's identity :math:`X_p^+` and of others :math:`X_p^-`.

    Args:
        embeddings: Rows of any scale; L2-normalised here.
        labels: Identity of each row, in [0, C).
        weight: Proxy of each identity (C, D), of any scale.
        scale: :math:`\alpha > 0`; 32 in the paper.
        margin: :math:`\delta \ge 0` in units of the cosine; 0.1 in the paper.

    Returns:
        The loss of the batch; without rows zero, still connected to the graph.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> row, proxies = torch.tensor([[1.0, 0.0]]), torch.eye(2)
        >>> proxy_anchor_loss(row, torch.tensor([0]), proxies, scale=1.0, margin=1.0)  # ln 2 + ln(1 + e) / 2
        tensor(1.3498)

    References:
        Kim et al., Proxy Anchor Loss for Deep Metric Learning, CVPR 2020, eq. 4.
    """
    check_head("proxy_anchor_loss", embeddings, labels, weight, scale, 1)
    check_at_least("proxy_anchor_loss", "margin", margin, 0, " (cosine)")
    rows_ND, proxies_CD = promoted(embeddings, weight)
    with torch.autocast(rows_ND.device.type, enabled=False):
        label_N = labels.long()
        logits_NC = dot_product(l2_normalize(rows_ND) * scale, l2_normalize(proxies_CD))
        near_N = scale * margin - logits_NC.gather(1, label_N[:, None])[:, 0]
        # ln(1 + sum e^x) over the rows of each identity, less the largest x (or the 0 of the 1) on the way
        zero_C = near_N.new_zeros(proxies_CD.shape[0])
        top_C = zero_C.scatter_reduce(0, label_N, near_N.detach(), "amax")
        sum_C = (-top_C).exp().scatter_add(0, label_N, (near_N - top_C[label_N]).exp())
        present_C = zero_C.scatter(0, label_N, 1.0)
        pull = (sum_C.log() + top_C).sum() / present_C.sum().clamp(min=1)
        far_C = logits_NC.scatter(1, label_N[:, None], -math.inf).logsumexp(dim=0)
        return pull + F.softplus(far_C + scale * margin).mean()


class ProxyAnchorLoss(nn.Module):
    """:func:`proxy_anchor_loss` with its options held; one parameter, ``weight`` (num_identities, dim): the proxies.

    The proxies have to be in the optimiser, usually at a rate 10 to 100 times that of the model.

    Args:
        dim: Width D of the embeddings.
        num_identities: Number of identities C.
        scale: Above 0; 32 in the paper.
        margin: At least 0, in units of the cosine; 0.1 in the paper.
        distributed: Gather embeddings and labels from all ranks first.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> loss = ProxyAnchorLoss(dim=8, num_identities=100)
        >>> loss(torch.randn(4, 8), torch.tensor([5, 5, 17, 99])).backward()
        >>> loss.weight.grad.shape
        torch.Size([100, 8])
    """

    def __init__(
        self,
        dim: int,
        num_identities: int,
        scale: float = 32.0,
        margin: float = 0.1,
        *,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_integer("ProxyAnchorLoss", "dim", dim, 1)
        check_integer("ProxyAnchorLoss", "num_identities", num_identities, 1)
        check_positive("ProxyAnchorLoss", "scale", scale)
        check_at_least("ProxyAnchorLoss", "margin", margin, 0, " (cosine)")
        self.scale = scale
        self.margin = margin
        self.distributed = distributed
        self.weight = nn.Parameter(torch.empty(num_identities, dim))
        nn.init.kaiming_normal_(self.weight, mode="fan_out")

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """See :func:`proxy_anchor_loss`."""
        if self.distributed:
            embeddings, labels = gather(embeddings), gather(labels)
        return proxy_anchor_loss(
            embeddings, labels, self.weight, scale=self.scale, margin=self.margin
        )

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        rows, dim = self.weight.shape
        return (
            f"dim={dim}, num_identities={rows}, scale={self.scale}, margin={self.margin}, "
            f"distributed={self.distributed}"
        )
