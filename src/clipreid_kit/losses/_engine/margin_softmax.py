"""Softmax of scaled cosines to class weights, where a margin changes only the target's cosine.

Shape suffixes: N rows, D width, C identities, K centers of each, M = C * K rows of the weight
(identity c owns the rows c * K to c * K + K - 1), B rows of a block.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from clipreid_kit._checks import (
    check_embeddings,
    check_fraction,
    check_integer,
    check_label_range,
    check_labels,
    check_positive,
    check_same_width,
    fail,
    inside_a_transform,
)
from clipreid_kit.distances import dot_product, l2_normalize, to_common_precision

Margin = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps the targets' cosines to the values that replace them, and to the derivatives of those."""


def check_head_inputs(
    owner: str,
    embeddings: Tensor,
    labels: Tensor | None,
    weight: Tensor,
    scale: float,
    num_centers: int,
) -> None:
    """Require what every head of scaled cosines needs."""
    check_embeddings(owner, "embeddings", embeddings)
    check_embeddings(owner, "weight", weight)
    check_same_width(owner, "embeddings", embeddings, "weight", weight)
    if labels is not None:
        check_labels(owner, "labels", labels, embeddings.shape[0], embeddings.device)

    check_positive(owner, "scale", scale)
    check_rows_per_identity(owner, weight, num_centers)
    if labels is not None:
        check_label_range(owner, labels, weight.shape[0] // num_centers)


def check_rows_per_identity(owner: str, weight: Tensor, num_centers: int) -> None:
    """Require ``num_centers`` rows of the weight for each of at least one identity."""
    check_integer(owner, "num_centers", num_centers, 1)

    num_rows = weight.shape[0]
    if num_rows == 0 or num_rows % num_centers != 0:
        expected = f"weight with {num_centers} row(s) for each identity"
        raise fail(owner, expected, f"{num_rows} rows")


def nearest_center(cosine_NM: Tensor, num_centers: int) -> Tensor:
    """Largest cosine (N, C) to the centers of each identity."""
    if num_centers == 1:
        return cosine_NM
    return _by_center(cosine_NM, num_centers).max(dim=2).values


def margin_logits(
    owner: str,
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"] | None,
    weight: Float[Tensor, "m d"],
    margin: Margin,
    scale: float,
    num_centers: int,
) -> Float[Tensor, "n c"]:
    """Scaled cosine to the nearest center of each identity, in plain autograd.

    The margin is applied if labels are given.
    """
    check_head_inputs(owner, embeddings, labels, weight, scale, num_centers)

    rows_ND, weight_MD = to_common_precision(embeddings, weight)

    with torch.autocast(rows_ND.device.type, enabled=False):
        return _margin_logits(rows_ND, labels, weight_MD, margin, scale, num_centers)


def _margin_logits(
    rows_ND: Tensor,
    labels: Tensor | None,
    weight_MD: Tensor,
    margin: Margin,
    scale: float,
    num_centers: int,
) -> Tensor:
    logits_NM = dot_product(l2_normalize(rows_ND) * scale, l2_normalize(weight_MD))
    logits_NC = nearest_center(logits_NM, num_centers)
    if labels is None:
        return logits_NC

    target_N1 = labels.long()[:, None]
    cosine_N1 = logits_NC.gather(1, target_N1) / scale
    changed_N1, _ = margin(cosine_N1)
    return logits_NC.scatter(1, target_N1, changed_N1 * scale)


def margin_cross_entropy(
    owner: str,
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    weight: Float[Tensor, "m d"],
    margin: Margin,
    scale: float,
    num_centers: int,
    label_smoothing: float,
) -> Float[Tensor, ""]:
    """Mean cross entropy of :func:`margin_logits`, with one (N, M) matrix in memory.

    Inside a transform of ``torch.func`` it is plain autograd.
    """
    check_head_inputs(owner, embeddings, labels, weight, scale, num_centers)
    check_labels(owner, "labels", labels, embeddings.shape[0])  # a head may do without
    check_fraction(owner, "label_smoothing", label_smoothing)

    rows_ND, weight_MD = to_common_precision(embeddings, weight)

    with torch.autocast(rows_ND.device.type, enabled=False):
        if inside_a_transform():
            logits_NC = _margin_logits(rows_ND, labels, weight_MD, margin, scale, num_centers)
            total = F.cross_entropy(
                logits_NC, labels.long(), reduction="sum", label_smoothing=label_smoothing
            )
            return total / max(rows_ND.shape[0], 1)

        loss_N: Tensor = _MarginCrossEntropy.apply(
            l2_normalize(rows_ND),
            weight_MD,
            labels.long(),
            margin,
            scale,
            num_centers,
            label_smoothing,
        )
        return loss_N.sum() / max(rows_ND.shape[0], 1)


class _MarginCrossEntropy(torch.autograd.Function):
    """Cross entropy of each row; the forward pass overwrites the logits by the slope at them.

    What autograd would keep besides (unit weights and their gradient, log-probabilities, a copy of
    the logits with the margin) exists for one block at a time.
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
        label_smoothing: float,
    ) -> Tensor:
        # A zero row of the weight stays zero and gets no gradient, as in l2_normalize.
        length_M = torch.linalg.vector_norm(weight_MD, dim=1)
        tiny = torch.finfo(length_M.dtype).tiny
        inverse_length_M = torch.where(length_M == 0, 0.0, 1 / length_M.clamp(min=tiny))

        logits_NM = rows_ND.new_empty(rows_ND.shape[0], weight_MD.shape[0])
        scaled_ND = rows_ND * scale
        for block in _row_slices(weight_MD):
            unit_BD = weight_MD[block] * inverse_length_M[block, None]
            logits_NM[:, block].addmm_(scaled_ND, unit_BD.T, beta=0)

        losses = [rows_ND.new_zeros(0)]
        for block in _row_slices(logits_NM):
            loss_B = _replace_logits_by_slope(
                logits_NM[block],
                labels_N[block, None],
                margin,
                scale,
                num_centers,
                label_smoothing,
            )
            losses.append(loss_B)

        slope_NM = logits_NM
        ctx.save_for_backward(rows_ND, weight_MD, inverse_length_M, slope_NM)
        ctx.scale = scale
        return torch.cat(losses)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        upstream_N: Tensor,
    ) -> tuple[Tensor | None, ...]:
        # Only with create_graph. torch's once_differentiable would let a plain mean pass.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "This loss has first derivatives only. "
                "For second derivatives take the cross entropy of the head's logits."
            )

        rows_ND, weight_MD, inverse_length_M, slope_NM = ctx.saved_tensors
        with torch.autocast(rows_ND.device.type, enabled=False):
            upstream_N1 = upstream_N[:, None] * ctx.scale
            pull_ND = rows_ND * upstream_N1
            by_rows_ND = torch.zeros_like(rows_ND)
            by_weight_MD = torch.empty_like(weight_MD)

            for block in _row_slices(weight_MD):
                unit_BD = weight_MD[block] * inverse_length_M[block, None]
                by_rows_ND.addmm_(slope_NM[:, block], unit_BD)

                # A unit row can only turn, so the part of its gradient along it is removed.
                by_unit_BD = by_weight_MD[block].addmm_(slope_NM[:, block].T, pull_ND, beta=0)
                along_B1 = torch.linalg.vecdot(unit_BD, by_unit_BD)[:, None]
                by_unit_BD.addcmul_(unit_BD, along_B1, value=-1)
                by_unit_BD.mul_(inverse_length_M[block, None])

        return by_rows_ND * upstream_N1, by_weight_MD, None, None, None, None, None


def _replace_logits_by_slope(
    logits_BM: Tensor,
    target_B1: Tensor,
    margin: Margin,
    scale: float,
    num_centers: int,
    label_smoothing: float,
) -> Tensor:
    """Cross entropy (B,) of scaled cosines, which are overwritten by its slope at them."""
    logits_BC = logits_BM
    if num_centers > 1:
        nearest = _by_center(logits_BM, num_centers).max(dim=2, keepdim=True)
        logits_BC = nearest.values[:, :, 0]

    changed_B1, margin_slope_B1 = margin(logits_BC.gather(1, target_B1) / scale)
    logits_BC.scatter_(1, target_B1, changed_B1 * scale)
    loss_B, slope_BC = _smoothed_cross_entropy(logits_BC, target_B1, label_smoothing)

    # The chain rule through the margin, at the target only.
    target_slope_B1 = slope_BC.gather(1, target_B1) + (label_smoothing - 1)
    slope_BC.scatter_(1, target_B1, target_slope_B1 * margin_slope_B1)

    if num_centers == 1:
        logits_BM.copy_(slope_BC)
    else:
        slope_BCK = _by_center(logits_BM.zero_(), num_centers)
        slope_BCK.scatter_(2, nearest.indices, slope_BC[:, :, None])

    return loss_B


def _smoothed_cross_entropy(
    logits_BC: Tensor, target_B1: Tensor, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """Loss, and the softmax minus the part of the smoothed target that all classes share."""
    log_probability_BC = logits_BC.log_softmax(dim=1)
    loss_B = (label_smoothing - 1) * log_probability_BC.gather(1, target_B1)[:, 0]
    if label_smoothing > 0:
        loss_B = loss_B - label_smoothing * log_probability_BC.mean(dim=1)

    slope_BC = log_probability_BC.exp_()
    if label_smoothing > 0:
        slope_BC -= label_smoothing / slope_BC.shape[1]

    return loss_B, slope_BC


def _by_center(matrix_BM: Tensor, num_centers: int) -> Tensor:
    """View (B, C, K) of a matrix (B, C * K)."""
    num_rows, num_columns = matrix_BM.shape
    return matrix_BM.view(num_rows, num_columns // num_centers, num_centers)


def _row_slices(matrix: Tensor) -> Iterator[slice]:
    """Slices of rows that fit into a processor's cache, or that occupy an accelerator."""
    num_rows, num_columns = matrix.shape
    elements = 2**19 if matrix.device.type == "cpu" else 2**24
    block_size = max(1, elements // max(num_columns, 1))

    for start in range(0, num_rows, block_size):
        yield slice(start, start + block_size)
