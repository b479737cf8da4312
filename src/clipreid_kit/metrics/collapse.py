"""Signs that a training collapses or learns nothing: cosines of pairs, and losses that stand where nothing is told."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from clipreid_kit._checks import check_at_least, check_embeddings, check_integer, check_labels, fail
from clipreid_kit.distances import l2_normalize


class PairCosines(NamedTuple):
    """What :func:`pair_cosines` gives.

    Attributes:
        positive: Mean cosine of two rows of one identity; ``None`` where there are no two.
        negative: Mean cosine of rows of different identities; ``None`` for a single identity and for no rows.
    """

    positive: float | None
    negative: float | None


@torch.no_grad()
def pair_cosines(embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]) -> PairCosines:
    r"""Mean cosine of pairs of one identity, and of different ones.

    Use it in a training loop, for the log and for :func:`check_collapse`: the first should rise above the second. When
    both go to 1, all embeddings are about equal. Nothing of N x N is made: with unit rows :math:`u`, the sums
    :math:`S_c` of an identity's rows and :math:`S` of all,

    .. math::
        \sum_{i \ne j,\, y_i = y_j} u_i \cdot u_j = \sum_c |S_c|^2 - \sum_i |u_i|^2, \qquad
        \sum_{y_i \ne y_j} u_i \cdot u_j = |S|^2 - \sum_c |S_c|^2

    Args:
        embeddings: Rows, of any length; a zero row has cosine 0 with every other.
        labels: Identity of each row; any integers.

    Returns:
        Both means, as numbers (this waits for the device). Of a row with NaN, NaN.

    Raises:
        ValueError: If the shapes disagree.

    Example:
        >>> pair_cosines(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), torch.tensor([7, 7, 8]))
        PairCosines(positive=1.0, negative=0.0)
    """
    check_embeddings("pair_cosines", "embeddings", embeddings)
    check_labels("pair_cosines", "labels", labels, embeddings.shape[0])
    rows = l2_normalize(embeddings.double())  # differences of large sums
    _, place, counts = torch.unique(labels.to(rows.device), return_inverse=True, return_counts=True)
    sums = rows.new_zeros(counts.shape[0], rows.shape[1]).index_add_(0, place, rows)
    of_identities = sums.square().sum()
    total = rows.shape[0]
    same = int(counts.square().sum())
    num_positive, num_negative = same - total, total * total - same
    positive = float(of_identities - rows.square().sum()) / num_positive if num_positive else None
    negative = (
        float(sums.sum(dim=0).square().sum() - of_identities) / num_negative
        if num_negative
        else None
    )
    return PairCosines(positive, negative)


def chance_level_losses(
    num_rows: int, num_identities: int | None = None, *, margin: float | None = 0.3
) -> dict[str, float]:
    r"""Values of losses where all embeddings are equal, or a classifier tells nothing.

    Use them as ``floors`` of :func:`check_collapse`. A softmax over k equal candidates has the loss :math:`\ln k`,
    whatever its temperature and label smoothing:

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
        num_rows: Rows R of a batch, of all ranks where the losses gather them; at least 1.
        num_identities: Training identities C, at least 1; ``None`` where there is no classifier.
        margin: Of triplets; ``None`` for soft ones.

    Returns:
        By name of a term of ``ClipBaseline``; those of classes only with ``num_identities``. Unweighted: multiply where
        your log holds weighted terms, or sums of two directions or several levels.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> floors = chance_level_losses(64, 751)
        >>> [round(floors[name], 3) for name in ("supcon_image", "info_nce", "id", "triplet")]
        [4.143, 4.159, 6.621, 0.3]
    """
    check_integer("chance_level_losses", "num_rows", num_rows, 1)
    if margin is not None:
        check_at_least("chance_level_losses", "margin", margin, 0)
    triplet = math.log(2) if margin is None else margin
    values = {
        "supcon_image": math.log(max(num_rows - 1, 1)),
        "supcon_text": math.log(num_rows),
        "info_nce": math.log(num_rows),
        "triplet": triplet,
        "triplet_text": triplet,
    }
    if num_identities is not None:
        check_integer("chance_level_losses", "num_identities", num_identities, 1)
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
    """Say in words what looks like a collapse, or like a head that does not learn.

    Use it once an epoch, on means over its batches, after the warm-up: a classifier begins where it tells nothing, and
    that is no alarm yet. There is an alarm

    - where different identities have a mean cosine above ``max_cosine``: the embeddings are about equal;
    - where a loss stands within ``tolerance`` of its floor: a contrastive loss that collapsed, or a head whose logits
      do not reach the loss;
    - where a loss is not finite.

    Args:
        losses: Mean of each term over the epoch.
        floors: Value of a term when nothing is told, above 0, in the same units: see :func:`chance_level_losses`. Terms
            without a floor, and floors of 0 or without a term, are passed over.
        negative_cosine: Of :func:`pair_cosines`; ``None`` where it is not known.
        max_cosine: In [-1, 1].
        tolerance: Share of the floor, at least 0.

    Returns:
        A sentence for each alarm; nothing where all is well.

    Raises:
        ValueError: If a threshold is out of its range.

    Example:
        >>> check_collapse({"id": 6.62, "triplet": 0.1}, chance_level_losses(64, 751), negative_cosine=0.4)
        ['id is 6.6200, near the 6.6214 of equal embeddings: nothing is learned']
    """
    if not -1 <= max_cosine <= 1:
        raise fail("check_collapse", "max_cosine in [-1, 1]", max_cosine)
    check_at_least("check_collapse", "tolerance", tolerance, 0)
    found = []
    if negative_cosine is not None and negative_cosine > max_cosine:
        found.append(
            f"different identities have a mean cosine of {negative_cosine:.4f}: embeddings have collapsed"
        )
    for name, value in losses.items():
        floor = floors.get(name, 0.0)
        if not math.isfinite(value):
            found.append(f"{name} is {value}")
        elif floor > 0 and abs(value - floor) <= tolerance * floor:
            found.append(
                f"{name} is {value:.4f}, near the {floor:.4f} of equal embeddings: nothing is learned"
            )
    return found
