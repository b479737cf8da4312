"""The protocol of re-identification by brute force; imports nothing of ours."""

import itertools

import numpy as np


def exact(queries, gallery, distance):
    """Similarities in extended precision, rounded to float64.

    For integers, every step but the last is exact.
    """
    q, g = queries.astype(np.longdouble), gallery.astype(np.longdouble)
    if distance == "euclidean":
        return -((q[:, None] - g[None]) ** 2).sum(axis=2).astype(np.float64)

    dots = (q[:, None] * g[None]).sum(axis=2).astype(np.float64)
    q_norm, g_norm = (np.sqrt((x * x).sum(axis=1).astype(np.float64)) for x in (q, g))
    product = q_norm[:, None] * g_norm[None]
    return dots / np.where(product > 0, product, 1)


def expected_ranks(kept):
    """Mean rank of the 1st, 2nd, ... match over all orders of ties.

    ``kept`` are pairs (similarity, whether it is a match).
    """
    ranks, num_before = [], 0
    descending = sorted(kept, key=lambda item: -item[0])
    for _, group in itertools.groupby(descending, key=lambda item: item[0]):
        is_match = [match for _, match in group]
        num_matches = sum(is_match)
        positions = list(itertools.combinations(range(1, len(is_match) + 1), num_matches))
        for k in range(num_matches):
            ranks.append(num_before + np.mean([chosen[k] for chosen in positions]))
        num_before += len(is_match)

    return ranks


def ranks_of_matches(kept, ties):
    """Rank of each match; among ties, non-matches come first (pessimistic) or last."""
    if ties == "mean":
        return expected_ranks(kept)

    matches_last = ties == "pessimistic"
    kept = sorted(kept, key=lambda item: (-item[0], item[1] == matches_last))
    return [rank for rank, (_, match) in enumerate(kept, start=1) if match]


def evaluate(similarity, query_ids, gallery_ids, columns=(), junk=(), ties="pessimistic"):
    """Sort the gallery for each query, and walk down the list.

    ``columns`` are pairs of values: a row of the query's identity is left out if any of its values
    is the query's.

    Returns (AP, INP, first rank) for each query, None without a match.
    """
    rows = []
    for i, query_id in enumerate(query_ids):
        kept = []
        for j, gallery_id in enumerate(gallery_ids):
            is_match = bool(gallery_id == query_id)
            same_value = any(of_query[i] == of_gallery[j] for of_query, of_gallery in columns)
            if not (is_match and same_value) and gallery_id not in junk:
                kept.append((similarity[i][j], is_match))

        ranks = ranks_of_matches(kept, ties)
        if not ranks:
            rows.append(None)
            continue

        precision = [n / rank for n, rank in enumerate(ranks, start=1)]
        rows.append((sum(precision) / len(ranks), len(ranks) / ranks[-1], ranks[0]))

    return rows
