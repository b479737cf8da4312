"""The ReID protocol by brute force; imports nothing of ours."""

import itertools

import numpy as np


def exact(queries, gallery, distance):
    """Similarities in extended precision, rounded to float64: for whole numbers, each step but the last is exact."""
    q, g = queries.astype(np.longdouble), gallery.astype(np.longdouble)
    if distance == "euclidean":
        return -((q[:, None] - g[None]) ** 2).sum(axis=2).astype(np.float64)
    dots = (q[:, None] * g[None]).sum(axis=2).astype(np.float64)
    norms = [np.sqrt((x * x).sum(axis=1).astype(np.float64)) for x in (q, g)]
    product = norms[0][:, None] * norms[1][None]
    return dots / np.where(product > 0, product, 1)


def expected_ranks(kept):
    """Mean rank of the 1st, 2nd, ... match over all orders of equal items; ``kept`` are (similarity, match)."""
    ranks, before = [], 0
    for _, group in itertools.groupby(
        sorted(kept, key=lambda item: -item[0]), key=lambda item: item[0]
    ):
        labels = [match for _, match in group]
        total = sum(labels)
        if total:
            places = set(itertools.combinations(range(1, len(labels) + 1), total))
            ranks += [before + np.mean([place[k] for place in places]) for k in range(total)]
        before += len(labels)
    return ranks


def evaluate(similarity, query_ids, gallery_ids, columns=(), junk=(), ties="pessimistic"):
    """Sort the gallery for each query, walk down the list; AP, INP and first rank for each query (None: no match).

    ``columns`` are pairs of values: an item of the query's identity is left out if any of its values is the query's.
    """
    rows = []
    for i, q in enumerate(query_ids):
        kept = []
        for j, g in enumerate(gallery_ids):
            left_out = g == q and any(
                of_query[i] == of_gallery[j] for of_query, of_gallery in columns
            )
            if not left_out and g not in junk:
                kept.append((similarity[i][j], bool(g == q)))
        if ties == "mean":
            hits = expected_ranks(kept)
        else:  # among equals the wrong ones come first (pessimistic) or last
            kept.sort(
                key=lambda item: (-item[0], item[1] if ties == "pessimistic" else not item[1])
            )
            hits = [rank for rank, (_, match) in enumerate(kept, start=1) if match]
        if not hits:
            rows.append(None)
            continue
        precision = [(n + 1) / rank for n, rank in enumerate(hits)]
        rows.append((sum(precision) / len(hits), len(hits) / hits[-1], hits[0]))
    return rows
