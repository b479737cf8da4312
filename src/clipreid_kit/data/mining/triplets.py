"""Anchors with a positive that is too far and a negative that is too near."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from clipreid_kit._checks import check_choice, check_embeddings, check_positive, fail
from clipreid_kit.data.mining.groups import Groups, group_numbers
from clipreid_kit.data.mining.hard_negatives import ceiling_of, unit_features
from clipreid_kit.data.mining.nearest import Search, nearest_allowed
from clipreid_kit.distances import l2_normalize

Strategy = Literal["hardest", "semi_hard"]

_PAIRS = 1 << 16  # whose features are gathered at once
_TILE = 1 << 22


def mine_triplets(
    features: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"] | None = None,
    *,
    strategy: Strategy = "hardest",
    margin: float = 0.5,
    caption_features: Float[Tensor, "n e"] | None = None,
    caption_similarity: float = 0.9,
    captions: Sequence[str | None] | None = None,
    max_similarity: float | None = 0.99,
    search: Search = "auto",
) -> Int[Tensor, "t 3"]:
    r"""Find triplets (anchor, positive, negative) that a triplet loss would not yet be content with.

    Use it before training and every few epochs with new features. Distances are Euclidean between normalised rows,
    :math:`d = \sqrt{2 - 2 \cos}`, in [0, 2].

    - ``"hardest"``: the farthest positive p and the nearest negative n, kept where :math:`d(a, p) + m > d(a, n)`.
    - ``"semi_hard"``: the nearest positive p and, of the negatives that are farther, the nearest n, kept where
      :math:`d(a, p) < d(a, n) < d(a, p) + m`.

    Give ``labels``, and items of one identity are positives; or ``caption_features``, and items whose captions are
    alike are. Items with the same caption and near duplicates are never negatives.

    Args:
        features: A row for each item, normalised here.
        labels: Identity of each item; ``None`` with ``caption_features``.
        strategy: Which triplets.
        margin: :math:`m > 0`, a distance.
        caption_features: A row for each item's caption, such as ``ClipTowers.encode_text`` gives, normalised here;
            ``None`` with ``labels``.
        caption_similarity: Captions with a cosine from here on are alike, in (-1, 1].
        captions: The text of each item, ``None`` where it has none.
        max_similarity: Negatives with a cosine from here on count as near duplicates and are left out, in (-1, 1];
            ``None`` keeps them.
        search: As for :func:`mine_hard_negatives`; with ``caption_features`` all pairs are compared.

    Returns:
        Numbers of items, int64 on the CPU, a row for each triplet, by ascending anchor; one for each anchor at most.

    Raises:
        ValueError: If shapes disagree, not exactly one of ``labels`` and ``caption_features`` is given, features are
            not finite, or an option is out of its range.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])  # the third is between the first two
        >>> mine_triplets(features, torch.tensor([0, 0, 1]))
        tensor([[0, 1, 2],
                [1, 0, 2]])

    Note:
        Known code of this name keeps the triplets that need no training (distance with margin below that of the
        negative), and counts items as positives whose captions share two words, articles included.
    """
    owner = "mine_triplets"
    check_choice(owner, "strategy", strategy, ("hardest", "semi_hard"))
    check_choice(owner, "search", search, ("auto", "exact", "faiss"))
    check_positive(owner, "margin", margin, ", a distance")
    if (labels is None) == (caption_features is None):
        got = "neither" if labels is None else "both"
        raise fail(owner, "either labels or caption_features, which say what a positive is", got)
    unit, ceiling = unit_features(owner, features), ceiling_of(owner, max_similarity)
    if len(unit) == 0:
        return torch.zeros((0, 3), dtype=torch.int64)
    numbers = group_numbers(owner, len(unit), labels, captions)
    groups = Groups(numbers, unit.device)
    if labels is not None:
        positive, near = _by_identity(
            unit, Groups(numbers[1:2], unit.device), farthest=strategy == "hardest"
        )
        limit = (
            torch.minimum(near, torch.full_like(near, ceiling))
            if strategy == "semi_hard"
            else ceiling
        )
        found = nearest_allowed(unit, groups, 1, limit, search)
        negative, away = found.rows[:, 0], found.similarity[:, 0]
    else:
        if not -1 < caption_similarity <= 1:
            raise fail(owner, "caption_similarity in (-1, 1]", caption_similarity)
        texts = _caption_rows(owner, caption_features, len(unit)).to(unit.device)
        positive, near, negative, away = _by_captions(
            unit, texts, groups, caption_similarity, ceiling, strategy
        )
    kept = (positive >= 0) & (negative >= 0)
    to_positive, to_negative = _distance(near), _distance(away)
    kept &= to_positive + margin > to_negative
    if strategy == "semi_hard":
        kept &= to_negative > to_positive
    anchors = torch.nonzero(kept).flatten()
    return torch.stack([anchors, positive[anchors], negative[anchors]], dim=1).cpu()


def _distance(similarity: Tensor) -> Tensor:
    return (2 - 2 * similarity.double()).clamp(min=0).sqrt()


def _caption_rows(owner: str, caption_features: Tensor | None, rows: int) -> Tensor:
    texts = torch.zeros(0) if caption_features is None else caption_features
    check_embeddings(owner, "caption_features", texts)
    if len(texts) != rows:
        raise fail(owner, f"caption_features with {rows} rows, as features", len(texts))
    return l2_normalize(texts.detach()).float()


def _by_identity(unit: Tensor, identity: Groups, *, farthest: bool) -> tuple[Tensor, Tensor]:
    """For each row its farthest (or nearest) other row of its identity, -1 without one, and their cosine."""
    total = len(unit)
    positive = torch.full((total,), -1, dtype=torch.int64, device=unit.device)
    near = torch.full((total,), torch.nan, device=unit.device)
    sign = -1.0 if farthest else 1.0
    start = 0
    for rows in torch.split(torch.arange(total, device=unit.device), 1024):
        owner, member = identity.pairs(rows)
        other = rows[owner] != member
        owner, member = owner[other], member[other]
        similarity = torch.cat(
            [
                torch.linalg.vecdot(unit[rows[mine]], unit[theirs])
                for mine, theirs in zip(
                    torch.split(owner, _PAIRS), torch.split(member, _PAIRS), strict=True
                )
            ]
        )
        best = torch.full((len(rows),), -torch.inf, device=unit.device)
        best.scatter_reduce_(0, owner, sign * similarity, "amax")
        chosen = sign * similarity == best[owner]
        # of equals the one with the lowest number
        first = torch.full((len(rows),), total, dtype=torch.int64, device=unit.device)
        first.scatter_reduce_(0, owner[chosen], member[chosen], "amin")
        some = first < total
        part = slice(start, start + len(rows))
        positive[part] = torch.where(some, first, -1)
        near[part] = torch.where(some, sign * best, torch.nan)
        start += len(rows)
    return positive, near


def _by_captions(
    unit: Tensor, texts: Tensor, groups: Groups, alike: float, ceiling: float, strategy: Strategy
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positive and negative of each row and their cosines; what is a positive is found pair by pair."""
    total = len(unit)
    found = []
    for rows in torch.split(torch.arange(total, device=unit.device), max(1, _TILE // total)):
        with torch.autocast(unit.device.type, enabled=False):
            similarity, caption = unit[rows] @ unit.T, texts[rows] @ texts.T
        place = torch.arange(len(rows), device=unit.device)
        is_positive = caption >= alike
        may_be_negative = ~is_positive & (similarity < ceiling)
        may_be_negative[groups.pairs(rows)] = False
        is_positive[place, rows] = False
        if strategy == "hardest":
            near, positive = similarity.masked_fill(~is_positive, torch.inf).min(dim=1)
        else:
            near, positive = similarity.masked_fill(~is_positive, -torch.inf).max(dim=1)
            may_be_negative &= similarity < near[:, None]
        away, negative = similarity.masked_fill(~may_be_negative, -torch.inf).max(dim=1)
        found.append(
            (
                positive.masked_fill(torch.isinf(near), -1),
                near,
                negative.masked_fill(torch.isinf(away), -1),
                away,
            )
        )
    positives, nears, negatives, aways = zip(*found, strict=True)
    return torch.cat(positives), torch.cat(nears), torch.cat(negatives), torch.cat(aways)
