"""Detect collapsed embeddings and losses stuck at chance level."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from clipreid_kit._checks import (
    check_at_least,
    check_embeddings,
    check_integer,
    check_labels,
    check_number,
    fail,
)
from clipreid_kit.distances import l2_normalize


class PairCosines(NamedTuple):
    """The result of :func:`pair_cosines`.

    Attributes:
        positive: Mean cosine of two rows of one identity; ``None`` if no identity has two rows.
        negative: Mean cosine of two rows of different identities; ``None`` if there is at most one
            identity.
    """

    positive: float | None
    negative: float | None


@torch.no_grad()
def pair_cosines(embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]) -> PairCosines:
    r"""Compute the mean cosine of pairs of one identity, and of pairs of different identities.

    Use it in a training loop, for the log and for :func:`check_collapse`: the first mean should
    rise above the second. When both approach 1, all embeddings are nearly equal. Nothing of size N
    x N is
    computed: with unit rows :math:`u`, the sums :math:`S_c` of an identity's rows and :math:`S` of
    all,

    .. math::
        \sum_{i \ne j,\, y_i = y_j} u_i \cdot u_j = \sum_c |S_c|^2 - \sum_i |u_i|^2, \qquad
        \sum_{y_i \ne y_j} u_i \cdot u_j = |S|^2 - \sum_c |S_c|^2

    Args:
        embeddings: (N, D), any scale; a zero row has cosine 0 with every other row.
        labels: Identity of each row; any integers.

    Returns:
        Both means as plain numbers, which waits for the device; NaN if a row holds NaN.

    Raises:
        ValueError: If the shapes disagree.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
        >>> pair_cosines(rows, torch.tensor([7, 7, 8]))
        PairCosines(positive=1.0, negative=0.0)
    """
    check_embeddings("pair_cosines", "embeddings", embeddings)
    check_labels("pair_cosines", "labels", labels, embeddings.shape[0])

    rows = l2_normalize(embeddings.double())  # float64: the formula subtracts large sums
    labels = labels.to(rows.device)
    _, identity, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    sums = rows.new_zeros(counts.shape[0], rows.shape[1]).index_add_(0, identity, rows)
    within_identities = sums.square().sum()

    num_rows = rows.shape[0]
    num_same = int(counts.square().sum())
    num_positive = num_same - num_rows
    num_negative = num_rows * num_rows - num_same

    positive = negative = None
    if num_positive:
        positive = float(within_identities - rows.square().sum()) / num_positive
    if num_negative:
        negative = float(sums.sum(dim=0).square().sum() - within_identities) / num_negative
    return PairCosines(positive, negative)


def chance_level_losses(
    num_rows: int, num_identities: int | None = None, *, margin: float | None = 0.3
) -> dict[str, float]:
    r"""Compute the values of losses when all embeddings are equal, or a classifier is at chance.

    Use them as ``floors`` of :func:`check_collapse`. A softmax over k equal logits has the loss
    :math:`\ln k`, whatever its temperature and label smoothing:

    ============================================ ===================================
    loss                                         value
    ============================================ ===================================
    SupCon in one modality (``supcon_image``)    :math:`\ln (R - 1)`
    SupCon over images and texts as 2B rows      the same with R = 2B: ln(2B - 1)
    SupCon, images against texts, one direction  :math:`\ln R` (``supcon_text``)
    InfoNCE (``info_nce``)                       :math:`\ln R`
    softmax head (``id``), image to text         :math:`\ln C`
    triplets with a hinge (``triplet``)          the margin
    triplets with a soft margin                  :math:`\ln 2`
    ============================================ ===================================

    Args:
        num_rows: Number of rows R of a batch, at least 1; of all ranks if the losses gather them.
        num_identities: Number of training identities C, at least 1; ``None`` without a classifier.
        margin: Margin of the triplet loss, at least 0; ``None`` for a soft margin.

    Returns:
        Values by the names of the terms of ``ClipBaseline``; ``id`` only with ``num_identities``.
        They are unweighted: multiply them if your log holds weighted terms, or sums over two
        directions or several levels.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> floors = chance_level_losses(64, 751)
        >>> [round(floors[name], 3) for name in ("supcon_image", "info_nce", "id", "triplet")]
        [4.143, 4.159, 6.621, 0.3]
    """
    owner = "chance_level_losses"
    check_integer(owner, "num_rows", num_rows, 1)
    if margin is not None:
        check_at_least(owner, "margin", margin, 0)

    triplet = math.log(2) if margin is None else margin
    values = {
        "supcon_image": math.log(max(num_rows - 1, 1)),
        "supcon_text": math.log(num_rows),
        "info_nce": math.log(num_rows),
        "triplet": triplet,
        "triplet_text": triplet,
    }
    if num_identities is not None:
        check_integer(owner, "num_identities", num_identities, 1)
        values["id"] = math.log(num_identities)
    return values


def check_collapse(
    losses: Mapping[str, float],
    floors: Mapping[str, float],
    *,
    negative_cosine: float | None = None,
    max_cosine: float = 0.99,
    tolerance: float = 0.005,
) -> list[str]:
    """Return warnings of collapsed embeddings, and of losses stuck at chance level.

    Use it once an epoch, on means over its batches, after the warm-up: a classifier starts at
    chance level, which is no reason for a warning yet. There is a warning

    - if different identities have a mean cosine above ``max_cosine``: the embeddings are nearly
      equal;
    - if a loss is within ``tolerance`` of its floor: a contrastive loss has collapsed, or the
      logits of
      a head do not reach the loss;
    - if a loss is not finite.

    Args:
        losses: Mean of each term over the epoch.
        floors: Chance level of each term, above 0, in the same units: see
            :func:`chance_level_losses`. Terms without a floor, floors of 0 and floors without a
            term are ignored.
        negative_cosine: ``negative`` of :func:`pair_cosines`; ``None`` if unknown.
        max_cosine: In [-1, 1].
        tolerance: Relative to the floor, at least 0.

    Returns:
        A sentence for each warning; an empty list if all is well.

    Raises:
        ValueError: If a threshold is out of its range.

    Example:
        >>> floors = chance_level_losses(64, 751)
        >>> check_collapse({"id": 6.62, "triplet": 0.1}, floors, negative_cosine=0.4)
        ['id is 6.6200, near its chance level of 6.6214: nothing is learned']
    """
    owner = "check_collapse"
    check_number(owner, "max_cosine", max_cosine)
    if not -1 <= max_cosine <= 1:
        raise fail(owner, "max_cosine in [-1, 1]", max_cosine)
    check_at_least(owner, "tolerance", tolerance, 0)

    warnings = []
    if negative_cosine is not None and negative_cosine > max_cosine:
        warnings.append(
            f"different identities have a mean cosine of {negative_cosine:.4f}: "
            "embeddings have collapsed"
        )

    for name, value in losses.items():
        floor = floors.get(name, 0.0)
        if not math.isfinite(value):
            warnings.append(f"{name} is {value}")
        elif floor > 0 and abs(value - floor) <= tolerance * floor:
            warnings.append(
                f"{name} is {value:.4f}, near its chance level of {floor:.4f}: nothing is learned"
            )
    return warnings
