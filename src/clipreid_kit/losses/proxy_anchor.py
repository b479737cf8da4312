"""Proxy-Anchor loss: learned proxies, pulled and pushed by the hardest rows of the batch."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least, check_integer, check_labels, check_positive
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import (
    cosine_similarity,
    dot_product,
    l2_normalize,
    to_common_precision,
)
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.margin_softmax import check_head_inputs


def proxy_anchor_definition(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    weight: Float[Tensor, "c d"],
    *,
    scale: float = 32.0,
    margin: float = 0.1,
) -> Float[Tensor, ""]:
    """The formula of :func:`proxy_anchor_loss`, without care for overflow and memory.

    Example:
        >>> row, proxies = torch.tensor([[1.0, 0.0]]), torch.eye(2)
        >>> proxy_anchor_definition(row, torch.tensor([0]), proxies, scale=1.0, margin=1.0)
        tensor(1.3498)
    """
    cosine_NC = cosine_similarity(embeddings, weight)
    own_NC = F.one_hot(labels.long(), len(weight)).bool()

    near_NC = torch.exp(-scale * (cosine_NC - margin))
    far_NC = torch.exp(scale * (cosine_NC + margin))
    pull_C = torch.where(own_NC, near_NC, 0.0).sum(dim=0).log1p()
    push_C = torch.where(own_NC, 0.0, far_NC).sum(dim=0).log1p()

    num_present = own_NC.any(dim=0).sum().clamp(min=1)
    return pull_C.sum() / num_present + push_C.mean()


def proxy_anchor_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    weight: Float[Tensor, "c d"],
    *,
    scale: float = 32.0,
    margin: float = 0.1,
) -> Float[Tensor, ""]:
    r"""Proxy-Anchor loss: each identity's proxy is an anchor, the rows its positives and negatives.

    A softmax head compares a row with all identities. Here a proxy is compared with all rows, so
    the rows of a batch are weighed against each other, and hard ones count more. It converges fast,
    also with few images for each identity.

    .. math::
        \ell = \frac{1}{|P^+|} \sum_{p \in P^+}
            \ln\Big(1 + \sum_{x \in X_p^+} e^{-\alpha (s(x, p) - \delta)}\Big)
        + \frac{1}{|P|} \sum_{p \in P}
            \ln\Big(1 + \sum_{x \in X_p^-} e^{\alpha (s(x, p) + \delta)}\Big)

    Here :math:`s` is the cosine, :math:`P` are all proxies, :math:`P^+` those of the identities in
    the batch, :math:`X_p^+` the rows of the proxy's identity, and :math:`X_p^-` those of other
    identities.

    Args:
        embeddings: Rows of any length; L2-normalised here.
        labels: Identity of each row, in [0, C).
        weight: Proxy of each identity (C, D), of any length.
        scale: :math:`\alpha > 0`; 32 in the paper.
        margin: :math:`\delta \ge 0` in units of the cosine; 0.1 in the paper.

    Returns:
        Loss of the batch; zero, connected to the graph, for no rows.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> row, proxies = torch.tensor([[1.0, 0.0]]), torch.eye(2)
        >>> # ln 2 + ln(1 + e) / 2
        >>> proxy_anchor_loss(row, torch.tensor([0]), proxies, scale=1.0, margin=1.0)
        tensor(1.3498)

    Relations:
        Equals :func:`proxy_anchor_definition`, the formula in a few lines.

    References:
        Kim et al., Proxy Anchor Loss for Deep Metric Learning, CVPR 2020, eq. 4.
    """
    check_head_inputs("proxy_anchor_loss", embeddings, labels, weight, scale, num_centers=1)
    check_labels("proxy_anchor_loss", "labels", labels, embeddings.shape[0])
    check_at_least("proxy_anchor_loss", "margin", margin, 0, " (cosine)")

    rows_ND, proxies_CD = to_common_precision(embeddings, weight)
    with torch.autocast(rows_ND.device.type, enabled=False):
        label_N = labels.long()
        logits_NC = dot_product(l2_normalize(rows_ND) * scale, l2_normalize(proxies_CD))

        near_N = scale * margin - logits_NC.gather(1, label_N[:, None])[:, 0]
        pull_C, present_C = _log1p_sum_exp_of_identities(near_N, label_N, proxies_CD.shape[0])
        pull = pull_C.sum() / present_C.sum().clamp(min=1)

        far_C = logits_NC.scatter(1, label_N[:, None], -math.inf).logsumexp(dim=0)
        push = F.softplus(far_C + scale * margin).mean()

        return pull + push


def _log1p_sum_exp_of_identities(
    values_N: Tensor, label_N: Tensor, num_identities: int
) -> tuple[Tensor, Tensor]:
    """ln(1 + sum of exp(x)) over the rows of each identity, and 1 where it has rows."""
    zero_C = values_N.new_zeros(num_identities)

    # The largest exponent, of those of the rows and of the 0 of the 1, is subtracted before exp.
    largest_C = zero_C.scatter_reduce(0, label_N, values_N.detach(), "amax")
    sum_C = (-largest_C).exp().scatter_add(0, label_N, (values_N - largest_C[label_N]).exp())
    present_C = zero_C.scatter(0, label_N, 1.0)

    return sum_C.log() + largest_C, present_C


@fixed_options(not_kept=("dim", "num_identities"))
class ProxyAnchorLoss(nn.Module):
    """Module of :func:`proxy_anchor_loss`; it holds the options and the proxies.

    The parameter ``weight`` (num_identities, dim) holds a proxy for each identity.
    Give the proxies to the optimiser, usually with a learning rate 10 to 100 times that of the
    model.

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
        """Compute :func:`proxy_anchor_loss`."""
        if self.distributed:
            options = (self.extra_repr(),)
            embeddings, labels = gather_batch(
                "ProxyAnchorLoss", embeddings, labels, options=options
            )

        return proxy_anchor_loss(
            embeddings, labels, self.weight, scale=self.scale, margin=self.margin
        )

    def extra_repr(self) -> str:
        """Sizes and options for ``print(module)``."""
        num_identities, dim = self.weight.shape
        return (
            f"dim={dim}, num_identities={num_identities}, scale={self.scale}, "
            f"margin={self.margin}, distributed={self.distributed}"
        )
