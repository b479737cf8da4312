"""For each item the others that are most easily taken for it."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from clipreid_kit._checks import check_choice, check_embeddings, check_integer, fail
from clipreid_kit.data._hash_number import hash_number
from clipreid_kit.data.mining.groups import Groups, group_numbers
from clipreid_kit.data.mining.nearest import Search, nearest_allowed
from clipreid_kit.distances import l2_normalize

_ROUNDS = 16  # of drawing again what was not allowed
_BLOCK = 1 << 22


def mine_hard_negatives(
    features: Float[Tensor, "n d"] | None,
    labels: Integer[Tensor, " n"] | None = None,
    num_negatives: int = 3,
    *,
    strategy: Literal["semantic", "random"] = "semantic",
    captions: Sequence[str | None] | None = None,
    max_similarity: float | None = 0.99,
    search: Search = "auto",
    seed: int = 0,
    epoch: int = 0,
) -> Int[Tensor, "n k"]:
    """Find negatives for every item: the most similar others, or any others.

    Use it before training and every few epochs with new features; :class:`MinedDataset` shows each item with its
    negatives. Items of one identity, items with the same caption (whatever its case and spacing) and near duplicates
    are never each other's negatives.

    Args:
        features: A row for each item, normalised here: of the image, the text, or the sum of both after
            :func:`l2_normalize`. ``None`` for ``strategy="random"``, which needs none.
        labels: Identity of each item. ``None`` means that all differ.
        num_negatives: How many for each item, >= 1.
        strategy: ``"semantic"`` takes those of highest cosine, highest first; ``"random"`` draws without repeats.
        captions: The text of each item, ``None`` where it has none.
        max_similarity: Others with a cosine from here on count as near duplicates, in (-1, 1]; ``None`` keeps them.
            ``"random"`` does not look at it.
        search: ``"exact"`` compares all pairs, in blocks; ``"faiss"`` looks at the nearest of faiss's inverted lists
            only, which is faster for very many items and misses some negatives; ``"auto"`` is exact up to 150,000
            items.
        seed: Of what is drawn, >= 0.
        epoch: Likewise: another epoch, other random negatives.

    Returns:
        Numbers of items, int64 on the CPU; -1 where an item has no more that are allowed.

    Raises:
        ValueError: If shapes disagree, features are missing or not finite, or an option is out of its range.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.6, 0.8], [0.0, 1.0]])
        >>> mine_hard_negatives(features, torch.tensor([0, 0, 1, 2]), 2)
        tensor([[2, 3],
                [2, 3],
                [3, 1],
                [2, 1]])

    Note:
        Known code averages features that are not normalised, keeps items with the same caption, and mines once for the
        whole training.
    """
    owner = "mine_hard_negatives"
    check_choice(owner, "strategy", strategy, ("semantic", "random"))
    check_choice(owner, "search", search, ("auto", "exact", "faiss"))
    for name, number, lowest in (
        ("num_negatives", num_negatives, 1),
        ("seed", seed, 0),
        ("epoch", epoch, 0),
    ):
        check_integer(owner, name, number, lowest)
    if strategy == "random":
        rows = len(labels) if features is None and labels is not None else len(captions or ())
        rows = rows if features is None else len(features)
        groups = Groups(group_numbers(owner, rows, labels, captions), torch.device("cpu"))
        return _drawn(
            rows,
            groups,
            num_negatives,
            torch.Generator().manual_seed(hash_number(f"negatives {seed} {epoch}")),
        )
    unit = unit_features(owner, features)
    groups = Groups(group_numbers(owner, len(unit), labels, captions), unit.device)
    found = nearest_allowed(unit, groups, num_negatives, ceiling_of(owner, max_similarity), search)
    return found.rows.cpu()


def unit_features(owner: str, features: Tensor | None) -> Float[Tensor, "n d"]:
    """Check and normalise features; float32 for speed, whatever they were."""
    if features is None:
        raise fail(owner, "features", "none", 'Only strategy="random" needs none.')
    check_embeddings(owner, "features", features)
    unit = l2_normalize(features.detach()).float()
    broken = torch.nonzero(~torch.isfinite(unit).all(dim=1)).flatten()
    if len(broken):
        raise fail(
            owner,
            "finite features",
            f"{len(broken)} rows with NaN or infinity, the first is {int(broken[0])}",
        )
    return unit


def ceiling_of(owner: str, max_similarity: float | None) -> float:
    """The cosine from which on others are near duplicates."""
    if max_similarity is None:
        return float("inf")
    if not -1 < max_similarity <= 1:
        raise fail(owner, "max_similarity in (-1, 1] or None", max_similarity)
    return max_similarity


def _drawn(rows: int, groups: Groups, count: int, rng: torch.Generator) -> Int[Tensor, "n k"]:
    """Draw for all rows, and again where something was not allowed; in the end draw from what a row may have."""
    drawn = torch.full((rows, count), -1, dtype=torch.int64)
    todo = torch.arange(rows)
    for _ in range(_ROUNDS if rows > 4 * count else 0):
        if not len(todo):
            break
        tried = torch.randint(rows, (len(todo), count), generator=rng)
        ordered = tried.sort(dim=1).values
        fine = ~groups.together(todo[:, None], tried).any(dim=1) & ~(
            ordered[:, 1:] == ordered[:, :-1]
        ).any(dim=1)
        drawn[todo[fine]] = tried[fine]
        todo = todo[~fine]
    for part in torch.split(todo, max(1, _BLOCK // max(rows, 1))):
        keys = torch.rand((len(part), rows), generator=rng)
        keys[groups.pairs(part)] = -1
        values, places = keys.topk(min(count, rows), dim=1)
        drawn[part, : places.shape[1]] = places.masked_fill(values < 0, -1)
    return drawn
