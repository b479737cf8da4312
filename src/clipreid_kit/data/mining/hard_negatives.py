"""Mine each item's hardest negatives."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from clipreid_kit._checks import (
    check_choice,
    check_embeddings,
    check_integer,
    check_number,
    fail,
)
from clipreid_kit.data._hash_number import hash_number
from clipreid_kit.data.mining._nearest_neighbours import Search, nearest_allowed
from clipreid_kit.data.mining._row_groups import RowGroups, number_groups
from clipreid_kit.distances import l2_normalize

_ATTEMPTS = 16  # of drawing again the rows that held an excluded item
_BLOCK = 1 << 22


def mine_hard_negatives(
    features: Float[Tensor, "n d"] | None,
    labels: Integer[Tensor, " n"] | None = None,
    num_negatives: int = 3,
    *,
    strategy: Literal["semantic", "random"] = "semantic",
    captions: Sequence[str | None] | None = None,
    images: Integer[Tensor, " n"] | None = None,
    max_similarity: float | None = 0.99,
    search: Search = "auto",
    seed: int = 0,
    epoch: int = 0,
) -> Int[Tensor, "n k"]:
    """Find negatives for every item: the most similar items of other identities, or random ones.

    Use it before training and every few epochs with new features; :class:`MinedDataset` loads each
    item together with its negatives. Items of one identity, items with the same caption (regardless
    of case and spacing), copies of one image and near duplicates are never each other's negatives.

    Args:
        features: One row for each item, normalised here: features of the image or the text, or the
            sum of both after :func:`l2_normalize`. ``None`` for ``strategy="random"``, which needs
            none.
        labels: Identity of each item. ``None`` means that all identities differ.
        num_negatives: Number of negatives for each item, >= 1.
        strategy: ``"semantic"`` takes the items of highest cosine, highest first, and of equal ones
            the first; ``"random"`` draws without repetition.
        captions: The text of each item, ``None`` for an item without one.
        images: Number of the image that each item shows, such as ``ReidDataset.image_numbers``.
            ``None`` means that all images differ.
        max_similarity: Items with at least this cosine count as near duplicates, in (-1, 1];
            ``None`` keeps them. Ignored by ``"random"``.
        search: ``"exact"`` compares all pairs, in blocks; ``"faiss"`` searches only the nearest
            inverted lists, which is faster for very many items and misses some negatives;
            ``"auto"`` is exact up to 150,000 items.
        seed: Seed of the random negatives, >= 0.
        epoch: Another epoch draws other random negatives, >= 0.

    Returns:
        Rows of the negatives, int64 on the CPU; -1 where an item has no further negative.

    Raises:
        ValueError: If shapes disagree, features are missing or not finite, or an option is out of
            its range.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.6, 0.8], [0.0, 1.0]])
        >>> mine_hard_negatives(features, torch.tensor([0, 0, 1, 2]), 2)
        tensor([[2, 3],
                [2, 3],
                [3, 1],
                [2, 1]])

    Note:
        Other implementations average features without normalising them, keep items with the same
        caption, and mine only once for the whole training run.
    """
    owner = "mine_hard_negatives"
    check_choice(owner, "strategy", strategy, ("semantic", "random"))
    check_choice(owner, "search", search, ("auto", "exact", "faiss"))
    check_integer(owner, "num_negatives", num_negatives, 1)
    check_integer(owner, "seed", seed, 0)
    check_integer(owner, "epoch", epoch, 0)

    if strategy == "random":
        num_rows = _count_rows(owner, features, labels, captions, images)
        numbers = number_groups(owner, num_rows, labels, captions, images)
        groups = RowGroups(numbers, torch.device("cpu"))
        rng = torch.Generator().manual_seed(hash_number(f"negatives {seed} {epoch}"))
        return _draw_negatives(num_rows, groups, num_negatives, rng)

    unit = unit_features(owner, features)
    numbers = number_groups(owner, len(unit), labels, captions, images)
    groups = RowGroups(numbers, unit.device)
    ceiling = similarity_ceiling(owner, max_similarity)
    return nearest_allowed(unit, groups, num_negatives, ceiling, search).rows.cpu()


def unit_features(owner: str, features: Tensor | None) -> Float[Tensor, "n d"]:
    """Check and normalise features; the result is float32, for speed."""
    if features is None:
        raise ValueError(f'{owner}: features are missing; only strategy="random" needs none.')
    check_embeddings(owner, "features", features)

    unit = l2_normalize(features.detach()).float()
    broken = torch.nonzero(~torch.isfinite(unit).all(dim=1)).flatten()
    if len(broken):
        got = f"{len(broken)} rows with NaN or infinity, the first is {int(broken[0])}"
        raise fail(owner, "finite features", got)

    return unit


def similarity_ceiling(owner: str, max_similarity: float | None) -> float:
    """Return the cosine from which on items count as near duplicates."""
    if max_similarity is None:
        return float("inf")

    check_number(owner, "max_similarity", max_similarity)
    if not -1 < max_similarity <= 1:
        raise fail(owner, "max_similarity in (-1, 1] or None", max_similarity)

    return max_similarity


def _count_rows(
    owner: str,
    features: Tensor | None,
    labels: Tensor | None,
    captions: Sequence[str | None] | None,
    images: Tensor | None,
) -> int:
    for given in (features, labels, captions, images):
        if given is not None:
            return len(given)

    raise ValueError(
        f"{owner}: pass features, labels, captions or images, which give the number of items."
    )


def _draw_negatives(
    num_rows: int, groups: RowGroups, count: int, rng: torch.Generator
) -> Int[Tensor, "n k"]:
    """Draw for all rows at once, and again for the rows that got an excluded or repeated item.

    The few rows that are left in the end draw from exactly the items that they may have.
    """
    drawn = torch.full((num_rows, count), -1, dtype=torch.int64, device="cpu")
    pending = torch.arange(num_rows, device="cpu")

    attempts = _ATTEMPTS if num_rows > 4 * count else 0
    for _ in range(attempts):
        if not len(pending):
            break
        attempt = torch.randint(num_rows, (len(pending), count), generator=rng, device="cpu")
        excluded = groups.share_group(pending[:, None], attempt).any(dim=1)
        accepted = ~excluded & ~_has_repeats(attempt)

        drawn[pending[accepted]] = attempt[accepted]
        pending = pending[~accepted]

    for rows in torch.split(pending, max(1, _BLOCK // max(num_rows, 1))):
        # The largest of random keys are a random choice; excluded items have none.
        keys = torch.rand((len(rows), num_rows), generator=rng, dtype=torch.float32, device="cpu")
        keys[groups.pairs(rows)] = -1
        values, columns = keys.topk(min(count, num_rows), dim=1)
        drawn[rows, : columns.shape[1]] = columns.masked_fill(values < 0, -1)

    return drawn


def _has_repeats(rows: Int[Tensor, "n k"]) -> Bool[Tensor, " n"]:
    ordered = rows.sort(dim=1).values
    return (ordered[:, 1:] == ordered[:, :-1]).any(dim=1)
