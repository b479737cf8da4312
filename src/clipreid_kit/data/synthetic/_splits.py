"""Assign identities to train, val and test, and images to query and gallery."""

import math
from collections.abc import Sequence

from clipreid_kit._checks import check_number, fail

_OWNER = "SyntheticReid"


def split_counts(num_identities: int, fractions: Sequence[float]) -> tuple[int, int, int]:
    """Divide identities among train, val and test, as close to the fractions as possible.

    Args:
        num_identities: Number of identities.
        fractions: Fractions of train, val and test, each in [0, 1], with sum 1. A split with a
            fraction above 0 gets at least one identity; a split with fraction 0 gets none.

    Returns:
        Numbers of train, val and test identities; their sum is ``num_identities``.

    Raises:
        ValueError: If the fractions are out of range, or there are fewer identities than splits
            with a fraction above 0.

    Example:
        >>> split_counts(240, (0.6, 0.15, 0.25))
        (144, 36, 60)
    """
    _check_fractions(num_identities, fractions)

    exact = [num_identities * fraction for fraction in fractions]
    counts = []
    for share in exact:
        at_least = 1 if share > 0 else 0
        counts.append(max(math.floor(share + 1e-9), at_least))

    # Rounding leaves a few too many or too few: correct the split that is furthest from its share.
    while sum(counts) != num_identities:
        step = 1 if sum(counts) < num_identities else -1
        adjustable = [i for i in range(3) if exact[i] > 0 and counts[i] + step > 0]
        furthest = max(adjustable, key=lambda i: step * (exact[i] - counts[i]))
        counts[furthest] += step

    return counts[0], counts[1], counts[2]


def _check_fractions(num_identities: int, fractions: Sequence[float]) -> None:
    for fraction in fractions:
        check_number(_OWNER, "split_fractions", fraction)

    in_range = all(math.isfinite(fraction) and fraction >= 0 for fraction in fractions)
    if len(fractions) != 3 or not in_range:
        raise fail(_OWNER, "split_fractions as three numbers >= 0 (train, val, test)", fractions)

    total = sum(fractions)
    if not math.isclose(total, 1.0, abs_tol=1e-6):
        raise fail(_OWNER, "split_fractions that sum to 1", f"{fractions} with sum {total}")

    num_splits = sum(fraction > 0 for fraction in fractions)
    if num_identities < num_splits:
        remedy = "Ask for more identities, or set a fraction to 0."
        raise fail(
            _OWNER, f"num_identities >= {num_splits}, one for each split", num_identities, remedy
        )


def split_name(identity: int, view: int, counts: tuple[int, int, int], query_views: int) -> str:
    """Name the split of one image.

    Train identities come first, then val, then test; the first views of an identity are queries.

    Example:
        >>> split_name(9, 0, (6, 2, 2), query_views=1), split_name(7, 1, (6, 2, 2), query_views=1)
        ('query', 'val_gallery')
    """
    num_train, num_val, _ = counts
    if identity < num_train:
        return "train"

    role = "query" if view < query_views else "gallery"
    if identity < num_train + num_val:
        return f"val_{role}"

    return role
