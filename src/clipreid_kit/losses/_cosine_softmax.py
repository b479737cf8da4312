"""Softmax over scaled cosines to class weights, where a margin changes the target's cosine only.

Shape suffixes: N rows, D width, C identities, K centres of each, M = C * K rows of the weight (identity c owns rows
c * K to c * K + K - 1), B rows of a block.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from clipreid_kit._checks import (
    check_embeddings,
    check_fraction,
    check_integer,
    check_labels,
    check_positive,
    check_same_width,
    fail,
)
from clipreid_kit.distances import dot_product, exact, l2_normalize

# cosines to the target -> (what takes their place, its derivative)
Margin = Callable[[Tensor], tuple[Tensor, Tensor]]


def check_head(
    owner: str,
    embeddings: Tensor,
    labels: Tensor | None,
    weight: Tensor,
    scale: float,
    num_centers: int,
) -> None:
    """Require what every head of scaled cosines requires; the values of labels are not looked at."""
    check_embeddings(owner, "embeddings", embeddings)
    check_embeddings(owner, "weight", weight)
    check_same_width(owner, "embeddings", embeddings, "weight", weight)
    if labels is not None:
        check_labels(owner, "labels", labels, embeddings.shape[0])
    check_positive(owner, "scale", scale)
    check_integer(owner, "num_centers", num_centers, 1)
    if weight.shape[0] == 0 or weight.shape[0] % num_centers != 0:
        raise fail(
            owner, f"weight with {num_centers} row(s) for each identity", f"{weight.shape[0]} rows"
        )


def check_loss(
    owner: str, label_smoothing: float, num_sampled: int | None = None, *, sparse_grad: bool = False
) -> None:
    """Require what every loss of a head requires besides."""
    check_fraction(owner, "label_smoothing", label_smoothing)
    if sparse_grad and num_sampled is None:
        raise fail(
            owner,
            "sparse_grad with num_sampled",
            "sparse_grad alone",
            "Without sampling every row has a gradient.",
        )


def promoted(embeddings: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(exact(embeddings).dtype, exact(weight).dtype)
    return embeddings.to(dtype), weight.to(dtype)


def margin_logits(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"] | None,
    weight: Float[Tensor, "m d"],
    margin: Margin,
    scale: float,
    num_centers: int,
) -> Float[Tensor, "n c"]:
    """Scaled cosine to each identity (its nearest centre), in plain autograd; the margin is for given labels."""
    rows_ND, weight_MD = promoted(embeddings, weight)
    with torch.autocast(rows_ND.device.type, enabled=False):
        logits_NC = dot_product(l2_normalize(rows_ND) * scale, l2_normalize(weight_MD))
        if num_centers > 1:
            logits_NC = logits_NC.view(*_by_center(logits_NC, num_centers)).max(dim=2).values
        if labels is None:
            return logits_NC
        target_N1 = labels.long()[:, None]
        changed_N1, _ = margin(logits_NC.gather(1, target_N1) / scale)
        return logits_NC.scatter(1, target_N1, changed_N1 * scale)


def margin_cross_entropy(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    weight: Float[Tensor, "m d"],
    margin: Margin,
    scale: float,
    num_centers: int,
    label_smoothing: float,
) -> Float[Tensor, ""]:
    """Mean cross entropy of :func:`margin_logits`, with one (N, M) matrix in memory."""
    rows_ND, weight_MD = promoted(embeddings, weight)
    with torch.autocast(rows_ND.device.type, enabled=False):
        loss_N: Tensor = _CrossEntropy.apply(
            l2_normalize(rows_ND),
            weight_MD,
            labels.long(),
            margin,
            scale,
            num_centers,
            label_smoothing,
        )
        return loss_N.sum() / max(rows_ND.shape[0], 1)


def _by_center(logits: Tensor, num_centers: int) -> tuple[int, int, int]:
    return logits.shape[0], logits.shape[1] // num_centers, num_centers


def _blocks(matrix: Tensor) -> Iterator[slice]:
    """Cut the rows of a matrix into blocks that stay in a processor's cache, or that occupy an accelerator."""
    count, width = matrix.shape
    step = max(1, (2**19 if matrix.device.type == "cpu" else 2**24) // max(width, 1))
    return (slice(start, start + step) for start in range(0, count, step))


class _CrossEntropy(torch.autograd.Function):
    """Cross entropy of each row; the forward pass leaves d loss / d logits where the logits were.

    What autograd would keep besides (unit weights, their gradient, log-probabilities, a copy with the margin) exists
    for one block at a time.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        rows_ND: Tensor,
        weight_MD: Tensor,
        labels_N: Tensor,
        margin: Margin,
        scale: float,
        num_centers: int,
        smoothing: float,
    ) -> Tensor:
        length_M = torch.linalg.vector_norm(weight_MD, dim=1)
        # a zero row of the weight counts as zero and gets no gradient, as in l2_normalize
        inverse_M = torch.where(
            length_M == 0, 0.0, 1 / length_M.clamp(min=torch.finfo(length_M.dtype).tiny)
        )
        logits_NM = rows_ND.new_empty(rows_ND.shape[0], weight_MD.shape[0])
        scaled_ND = rows_ND * scale
        for part in _blocks(weight_MD):
            unit_BD = weight_MD[part] * inverse_M[part, None]
            logits_NM[:, part].addmm_(scaled_ND, unit_BD.T, beta=0)
        losses = [
            _loss_and_gradient(
                logits_NM[part], labels_N[part, None], margin, scale, num_centers, smoothing
            )
            for part in _blocks(logits_NM)
        ]
        ctx.save_for_backward(rows_ND, weight_MD, inverse_M, logits_NM)
        ctx.scale = scale
        return torch.cat([rows_ND.new_zeros(0), *losses])

    @staticmethod
    def backward(ctx: Any, upstream_N: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 (torch's own context)
        if (
            torch.is_grad_enabled()
        ):  # only with create_graph; torch's once_differentiable lets a plain mean pass
            raise RuntimeError(
                "the gradient is written out once: for a second one take the cross entropy of the logits"
            )
        rows_ND, weight_MD, inverse_M, gradient_NM = ctx.saved_tensors
        with torch.autocast(rows_ND.device.type, enabled=False):
            upstream_N1 = upstream_N[:, None] * ctx.scale
            pull_ND = rows_ND * upstream_N1
            rows_gradient_ND = torch.zeros_like(rows_ND)
            weight_gradient_MD = torch.empty_like(weight_MD)
            for part in _blocks(weight_MD):
                unit_BD = weight_MD[part] * inverse_M[part, None]
                rows_gradient_ND.addmm_(gradient_NM[:, part], unit_BD)
                turn_BD = weight_gradient_MD[part].addmm_(gradient_NM[:, part].T, pull_ND, beta=0)
                # a unit row only turns: what points along it is taken away
                along_B1 = torch.linalg.vecdot(unit_BD, turn_BD)[:, None]
                turn_BD.addcmul_(unit_BD, along_B1, value=-1).mul_(inverse_M[part, None])
        return rows_gradient_ND * upstream_N1, weight_gradient_MD, None, None, None, None, None


def _loss_and_gradient(
    logits_BM: Tensor,
    target_B1: Tensor,
    margin: Margin,
    scale: float,
    num_centers: int,
    smoothing: float,
) -> Tensor:
    """Cross entropy (B,) of scaled cosines, which are overwritten by its derivative by them."""
    logits_BC, winner_BC1 = logits_BM, None
    if num_centers > 1:
        nearest = logits_BM.view(*_by_center(logits_BM, num_centers)).max(dim=2, keepdim=True)
        logits_BC, winner_BC1 = nearest.values[:, :, 0], nearest.indices
    changed_B1, slope_B1 = margin(logits_BC.gather(1, target_B1) / scale)
    log_prob_BC = logits_BC.scatter_(1, target_B1, changed_B1 * scale).log_softmax(dim=1)
    loss_B = (smoothing - 1) * log_prob_BC.gather(1, target_B1)[:, 0]
    if smoothing > 0:
        loss_B = loss_B - smoothing * log_prob_BC.mean(dim=1)
    gradient_BC = log_prob_BC.exp_()
    if smoothing > 0:
        gradient_BC -= smoothing / gradient_BC.shape[1]
    gradient_BC.scatter_(
        1, target_B1, (gradient_BC.gather(1, target_B1) + (smoothing - 1)) * slope_B1
    )
    if winner_BC1 is None:
        logits_BM.copy_(gradient_BC)
    else:
        by_center_BCK = logits_BM.zero_().view(*_by_center(logits_BM, num_centers))
        by_center_BCK.scatter_(2, winner_BC1, gradient_BC[:, :, None])
    return loss_B
