"""Mine triplets: anchors with a positive that is too far and a negative that is too near."""

import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from clipreid_kit._checks import (
    check_choice,
    check_embeddings,
    check_number,
    check_positive,
    fail,
)
from clipreid_kit.data.mining._nearest_neighbours import Search, nearest_allowed
from clipreid_kit.data.mining._row_groups import RowGroups, number_groups
from clipreid_kit.data.mining.hard_negatives import similarity_ceiling, unit_features
from clipreid_kit.distances import l2_normalize

Strategy = Literal["hardest", "semi_hard"]

_PAIRS = 1 << 16  # pairs whose features are gathered at once
_TILE = 1 << 22


class _Candidates(NamedTuple):
    """The positive and the negative of each anchor, and their cosines with it.

    Attributes:
        positive: Row of the positive; -1 for none.
        to_positive: Cosine of anchor and positive.
        negative: Row of the negative; -1 for none.
        to_negative: Cosine of anchor and negative.
    """

    positive: Int[Tensor, " n"]
    to_positive: Float[Tensor, " n"]
    negative: Int[Tensor, " n"]
    to_negative: Float[Tensor, " n"]


def mine_triplets(
    features: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"] | None = None,
    *,
    strategy: Strategy = "hardest",
    margin: float = 0.5,
    caption_features: Float[Tensor, "n e"] | None = None,
    caption_similarity: float = 0.9,
    captions: Sequence[str | None] | None = None,
    images: Integer[Tensor, " n"] | None = None,
    max_similarity: float | None = 0.99,
    search: Search = "auto",
) -> Int[Tensor, "t 3"]:
    r"""Find triplets (anchor, positive, negative) that still violate the margin of a triplet loss.

    Use it before training and every few epochs with new features. Distances are Euclidean between
    normalised rows, :math:`d = \sqrt{2 - 2 \cos}`, in [0, 2].

    - ``"hardest"``: the farthest positive p and the nearest negative n, kept if
      :math:`d(a, p) + m > d(a, n)`.
    - ``"semi_hard"``: the nearest positive p and, of the negatives that are farther, the nearest n,
      kept if :math:`d(a, p) < d(a, n) < d(a, p) + m`.

    With ``labels``, items of one identity are positives; with ``caption_features``, items with
    similar captions are. Copies of one image are neither. Items with the same caption and near
    duplicates are never negatives.

    Args:
        features: One row for each item, normalised here.
        labels: Identity of each item; ``None`` with ``caption_features``.
        strategy: Which triplets to keep.
        margin: :math:`m > 0`, a distance.
        caption_features: One row for each item's caption, such as ``ClipTowers.encode_text``
            returns, normalised here; ``None`` with ``labels``.
        caption_similarity: Captions with at least this cosine are similar, in (-1, 1].
        captions: The text of each item, ``None`` for an item without one.
        images: Number of the image that each item shows, such as ``ReidDataset.image_numbers``;
            pass it where images are repeated, as :func:`balance_records` does. ``None`` means that
            all images differ.
        max_similarity: Negatives with at least this cosine count as near duplicates and are left
            out, in (-1, 1]; ``None`` keeps them.
        search: As for :func:`mine_hard_negatives`; with ``caption_features`` all pairs are
            compared.

    Returns:
        Rows of anchor, positive and negative, int64 on the CPU, ordered by anchor; at most one
        triplet for each anchor. (0, 3) if there is none.

    Warns:
        UserWarning: If items have no positives but copies of their own image. They get no triplet.

    Raises:
        ValueError: If shapes disagree, not exactly one of ``labels`` and ``caption_features`` is
            given, features are not finite, or an option is out of its range.

    Example:
        >>> # the third is between the first two
        >>> features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])
        >>> mine_triplets(features, torch.tensor([0, 0, 1]))
        tensor([[0, 1, 2],
                [1, 0, 2]])

    Note:
        Other implementations keep exactly the triplets that need no training (distance plus margin
        below that of the negative), and count items as positives if their captions share two words,
        articles included.
    """
    owner = "mine_triplets"
    check_choice(owner, "strategy", strategy, ("hardest", "semi_hard"))
    check_choice(owner, "search", search, ("auto", "exact", "faiss"))
    check_positive(owner, "margin", margin, ", a distance")
    if (labels is None) == (caption_features is None):
        given = "neither was" if labels is None else "both were"
        raise ValueError(
            f"{owner}: pass either labels or caption_features, which define the positives; "
            f"{given} given."
        )

    unit = unit_features(owner, features)
    ceiling = similarity_ceiling(owner, max_similarity)
    if len(unit) == 0:
        return torch.zeros((0, 3), dtype=torch.int64, device="cpu")

    numbers = number_groups(owner, len(unit), labels, captions, images)
    groups = RowGroups(numbers, unit.device)
    image = numbers[0].to(unit.device)
    if labels is not None:
        identities = RowGroups(numbers[1:2], unit.device)
        candidates = _by_identity(unit, image, identities, groups, ceiling, strategy, search)
    else:
        check_number(owner, "caption_similarity", caption_similarity)
        if not -1 < caption_similarity <= 1:
            raise fail(owner, "caption_similarity in (-1, 1]", caption_similarity)
        texts = _unit_captions(owner, caption_features, len(unit)).to(unit.device)
        candidates = _by_captions(unit, image, texts, groups, caption_similarity, ceiling, strategy)

    _warn_of_lonely_copies(owner, image, candidates.positive)
    return _violations(candidates, margin, strategy).cpu()


def _warn_of_lonely_copies(
    owner: str, image: Int[Tensor, " n"], positive: Int[Tensor, " n"]
) -> None:
    """Warn of rows that have copies, and no positive besides them."""
    is_copied = torch.bincount(image)[image] > 1
    num_lonely = int((is_copied & (positive < 0)).sum())
    if num_lonely:
        warnings.warn(
            f"{owner}: {num_lonely} of {len(image)} items have no positives but copies of their "
            "own image, and get no triplet; define the positives in another way, or repeat no "
            "images.",
            stacklevel=3,
        )


def _violations(candidates: _Candidates, margin: float, strategy: Strategy) -> Int[Tensor, "t 3"]:
    """Keep the triplets that violate the margin."""
    to_positive = _distance(candidates.to_positive)
    to_negative = _distance(candidates.to_negative)

    kept = (candidates.positive >= 0) & (candidates.negative >= 0)
    kept &= to_positive + margin > to_negative
    if strategy == "semi_hard":
        kept &= to_negative > to_positive

    anchors = torch.nonzero(kept).flatten()
    columns = [anchors, candidates.positive[anchors], candidates.negative[anchors]]
    return torch.stack(columns, dim=1)


def _distance(similarity: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return (2 - 2 * similarity.double()).clamp(min=0).sqrt()


def _unit_captions(
    owner: str, caption_features: Tensor | None, num_rows: int
) -> Float[Tensor, "n e"]:
    texts = torch.zeros(0, device="cpu") if caption_features is None else caption_features
    check_embeddings(owner, "caption_features", texts)
    if len(texts) != num_rows:
        raise fail(owner, f"caption_features with {num_rows} rows, like features", len(texts))

    return l2_normalize(texts.detach()).float()


def _by_identity(
    unit: Float[Tensor, "n d"],
    image: Int[Tensor, " n"],
    identities: RowGroups,
    groups: RowGroups,
    ceiling: float,
    strategy: Strategy,
    search: Search,
) -> _Candidates:
    """Find positives among the rows of the same identity, and the nearest allowed negative."""
    positive, to_positive = _positives(unit, image, identities, farthest=strategy == "hardest")

    # A semi-hard negative is farther than the positive: its cosine stays below that of the
    # positive.
    limit: float | Tensor = ceiling
    if strategy == "semi_hard":
        limit = torch.minimum(to_positive, torch.full_like(to_positive, ceiling))

    nearest = nearest_allowed(unit, groups, 1, limit, search)
    return _Candidates(positive, to_positive, nearest.rows[:, 0], nearest.similarity[:, 0])


def _positives(
    unit: Float[Tensor, "n d"], image: Int[Tensor, " n"], identities: RowGroups, *, farthest: bool
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Find each row's farthest (or nearest) other image of its identity, and their cosine.

    Of equally far rows the first counts. A row without another image has -1 and NaN.
    """
    total = len(unit)
    positive = torch.full((total,), -1, dtype=torch.int64, device=unit.device)
    to_positive = torch.full((total,), torch.nan, dtype=torch.float32, device=unit.device)
    sign = -1.0 if farthest else 1.0

    start = 0
    for rows in torch.split(torch.arange(total, device=unit.device), 1024):
        position, member = identities.pairs(rows)
        is_other = image[rows[position]] != image[member]
        position, member = position[is_other], member[is_other]
        score = sign * _pair_similarities(unit, rows[position], member)

        best = torch.full((len(rows),), -torch.inf, dtype=torch.float32, device=unit.device)
        best.scatter_reduce_(0, position, score, "amax")

        is_best = score == best[position]
        first = torch.full((len(rows),), total, dtype=torch.int64, device=unit.device)
        first.scatter_reduce_(0, position[is_best], member[is_best], "amin")

        found = first < total
        part = slice(start, start + len(rows))
        positive[part] = torch.where(found, first, -1)
        to_positive[part] = torch.where(found, sign * best, torch.nan)
        start += len(rows)

    return positive, to_positive


def _pair_similarities(
    unit: Float[Tensor, "n d"], first: Int[Tensor, " p"], second: Int[Tensor, " p"]
) -> Float[Tensor, " p"]:
    """Compute the cosines of pairs of rows, gathering a limited number of rows at once."""
    parts = zip(torch.split(first, _PAIRS), torch.split(second, _PAIRS), strict=True)
    return torch.cat([torch.linalg.vecdot(unit[one], unit[other]) for one, other in parts])


def _by_captions(
    unit: Float[Tensor, "n d"],
    image: Int[Tensor, " n"],
    texts: Float[Tensor, "n e"],
    groups: RowGroups,
    caption_similarity: float,
    ceiling: float,
    strategy: Strategy,
) -> _Candidates:
    """Find positives among the rows with similar captions, comparing all pairs in blocks."""
    total = len(unit)
    found = []

    for rows in torch.split(torch.arange(total, device=unit.device), max(1, _TILE // total)):
        with torch.autocast(unit.device.type, enabled=False):
            similarity = unit[rows] @ unit.T
            of_captions = texts[rows] @ texts.T

        is_positive = of_captions >= caption_similarity
        is_negative = ~is_positive & (similarity < ceiling)
        is_negative[groups.pairs(rows)] = False
        is_positive &= image[rows, None] != image

        # The farthest positive; or the nearest, with negatives that are farther than it.
        if strategy == "hardest":
            to_positive, positive = similarity.masked_fill(~is_positive, torch.inf).min(dim=1)
        else:
            to_positive, positive = similarity.masked_fill(~is_positive, -torch.inf).max(dim=1)
            is_negative &= similarity < to_positive[:, None]

        to_negative, negative = similarity.masked_fill(~is_negative, -torch.inf).max(dim=1)

        # -1 for rows that have none
        positive = positive.masked_fill(torch.isinf(to_positive), -1)
        negative = negative.masked_fill(torch.isinf(to_negative), -1)
        found.append(_Candidates(positive, to_positive, negative, to_negative))

    return _Candidates(*(torch.cat(column) for column in zip(*found, strict=True)))
