"""Measures of retrieval by walking down the sorted list of every query."""

import math

import numpy as np


def cosine(queries, candidates):
    q, c = (np.asarray(x, dtype=np.float64) for x in (queries, candidates))
    q = q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-300)
    c = c / np.maximum(np.linalg.norm(c, axis=1, keepdims=True), 1e-300)
    return (q[:, None] * c[None]).sum(-1)


def squared_distance(queries, candidates):
    q, c = (np.asarray(x, dtype=np.float64) for x in (queries, candidates))
    return ((q[:, None] - c[None]) ** 2).sum(-1)


def expected_ranks(similarity, kept, right):
    """Ranks of the right candidates, averaged over all orders of equals.

    The j-th smallest of r places drawn from 1 to n is on average j (n + 1) / (r + 1).
    """
    ranks, before = [], 0
    for value in sorted({similarity[j] for j in kept}, reverse=True):
        equal = [j for j in kept if similarity[j] == value]
        drawn = sum(j in right for j in equal)
        ranks += [before + j * (len(equal) + 1) / (drawn + 1) for j in range(1, drawn + 1)]
        before += len(equal)
    return ranks


def from_ranks(ranks, k):
    """The measures, written with the rank of each right candidate, which need not be a whole number."""
    total = len(ranks)
    precision = [n / rank for n, rank in enumerate(ranks, start=1)]
    ideal = sum(1 / math.log2(r + 2) for r in range(min(total, k)))
    return {
        "hit_rate": float(ranks[0] <= k),
        "recall": sum(rank <= k for rank in ranks) / total,
        "precision": sum(rank <= k for rank in ranks) / k,
        "ndcg": sum(1 / math.log2(rank + 1) for rank in ranks if rank <= k) / ideal,
        "average_precision": sum(precision) / total,
        "reciprocal_rank": 1 / ranks[0],
        "r_precision": sum(rank <= total for rank in ranks) / total,
        "average_precision_at_r": sum(
            p for p, rank in zip(precision, ranks, strict=True) if rank <= total
        )
        / total,
    }


def evaluate(similarity, relevant, k, ties="pessimistic", alone=False):
    """A row of measures for each query, None without a relevant candidate."""
    rows = []
    for i, members in enumerate(relevant):
        right = set(members) - ({i} if alone else set())
        kept = [j for j in range(len(similarity[i])) if not (alone and j == i)]
        if not right:
            rows.append(None)
            continue
        if ties == "mean":
            rows.append(from_ranks(expected_ranks(similarity[i], kept, right), k))
            continue
        # among equals the wrong ones come first (pessimistic) or last
        order = sorted(
            kept, key=lambda j: (-similarity[i][j], (j in right) == (ties == "pessimistic"))
        )
        hits = [j in right for j in order]
        total = len(right)
        precision = [sum(hits[: r + 1]) / (r + 1) for r in range(len(hits))]
        ideal = sum(1 / math.log2(r + 2) for r in range(min(total, k)))
        rows.append(
            {
                "hit_rate": float(any(hits[:k])),
                "recall": sum(hits[:k]) / total,
                "precision": sum(hits[:k]) / k,
                "ndcg": sum(hit / math.log2(r + 2) for r, hit in enumerate(hits[:k])) / ideal,
                "average_precision": sum(p for p, hit in zip(precision, hits, strict=True) if hit)
                / total,
                "reciprocal_rank": 1 / (hits.index(True) + 1),
                "r_precision": sum(hits[:total]) / total,
                "average_precision_at_r": sum(
                    p * hit for p, hit in zip(precision[:total], hits, strict=False)
                )
                / total,
            }
        )
    return rows
