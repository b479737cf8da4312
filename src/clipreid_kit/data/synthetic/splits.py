"""Which identities are learnt from, and which images are asked for."""

import math
from collections.abc import Sequence

from clipreid_kit._checks import fail


def split_counts(num_identities: int, fractions: Sequence[float]) -> tuple[int, int, int]:
    """Share identities among train, val and test, as nearly as whole numbers can.

    Args:
        num_identities: How many there are.
        fractions: Shares of train, val and test, each in [0, 1], together 1. A share above 0 gets one
            identity at least; a share of 0 gets none.

    Returns:
        Numbers of train, val and test identities; their sum is ``num_identities``.

    Raises:
        ValueError: If the fractions are not such shares, or there are fewer identities than shares above 0.

    Example:
        >>> split_counts(240, (0.6, 0.15, 0.25))
        (144, 36, 60)
    """
    owner = "SyntheticReid"
    if len(fractions) != 3 or not all(math.isfinite(part) and part >= 0 for part in fractions):
        raise fail(owner, "split_fractions as three numbers >= 0 (train, val, test)", fractions)
    if not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise fail(owner, "split_fractions that sum to 1", f"{fractions} with sum {sum(fractions)}")
    used = sum(part > 0 for part in fractions)
    if num_identities < used:
        raise fail(
            owner,
            f"num_identities >= {used}, one for each split",
            num_identities,
            "Ask for more identities, or set a fraction to 0.",
        )
    exact = [num_identities * part for part in fractions]
    counts = [max(math.floor(share + 1e-9), 1 if share > 0 else 0) for share in exact]
    while sum(counts) != num_identities:
        step = 1 if sum(counts) < num_identities else -1
        open_to_change = [i for i in range(3) if exact[i] > 0 and counts[i] + step > 0]
        behind = max(open_to_change, key=lambda i: step * (exact[i] - counts[i]))
        counts[behind] += step
    return counts[0], counts[1], counts[2]


def split_name(identity: int, view: int, counts: tuple[int, int, int], query_views: int) -> str:
    """Split of one image: train identities come first, then val, then test; early views are the queries.

    Example:
        >>> split_name(9, 0, (6, 2, 2), query_views=1), split_name(7, 1, (6, 2, 2), query_views=1)
        ('query', 'val_gallery')
    """
    train, val, _ = counts
    if identity < train:
        return "train"
    role = "query" if view < query_views else "gallery"
    return f"val_{role}" if identity < train + val else role
