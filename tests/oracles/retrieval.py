"""Retrieval measures, by walking down the sorted list of every query; imports nothing of ours."""

import math

import numpy as np


def cosine(queries, gallery):
    q, g = (np.asarray(x, dtype=np.float64) for x in (queries, gallery))
    q = q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-300)
    g = g / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-300)
    return (q[:, None] * g[None]).sum(-1)


def squared_distance(queries, gallery):
    q, g = (np.asarray(x, dtype=np.float64) for x in (queries, gallery))
    return ((q[:, None] - g[None]) ** 2).sum(-1)


def expected_ranks(similarity, kept, relevant):
    """Ranks of the relevant rows, averaged over all orders of the ties.

    The j-th smallest of r positions drawn from 1 to n is on average j (n + 1) / (r + 1).
    """
    ranks, num_before = [], 0
    for value in sorted({similarity[j] for j in kept}, reverse=True):
        tied = [j for j in kept if similarity[j] == value]
        num_drawn = sum(j in relevant for j in tied)
        for j in range(1, num_drawn + 1):
            ranks.append(num_before + j * (len(tied) + 1) / (num_drawn + 1))
        num_before += len(tied)

    return ranks


def from_ranks(ranks, k):
    """The measures, from the rank of each relevant row, which need not be an integer."""
    total = len(ranks)
    precision = [n / rank for n, rank in enumerate(ranks, start=1)]
    within_r = [p for p, rank in zip(precision, ranks, strict=True) if rank <= total]
    gain = sum(1 / math.log2(rank + 1) for rank in ranks if rank <= k)
    ideal = sum(1 / math.log2(r + 2) for r in range(min(total, k)))
    return {
        "hit_rate": float(ranks[0] <= k),
        "recall": sum(rank <= k for rank in ranks) / total,
        "precision": sum(rank <= k for rank in ranks) / k,
        "ndcg": gain / ideal,
        "average_precision": sum(precision) / total,
        "reciprocal_rank": 1 / ranks[0],
        "r_precision": sum(rank <= total for rank in ranks) / total,
        "average_precision_at_r": sum(within_r) / total,
    }


def from_hits(hits, k):
    """The measures, from whether each row of the sorted list is relevant."""
    total = sum(hits)
    precision = [sum(hits[: r + 1]) / (r + 1) for r in range(len(hits))]
    at_hits = [p for p, hit in zip(precision, hits, strict=True) if hit]
    within_r = [p * hit for p, hit in zip(precision[:total], hits, strict=False)]
    gain = sum(hit / math.log2(r + 2) for r, hit in enumerate(hits[:k]))
    ideal = sum(1 / math.log2(r + 2) for r in range(min(total, k)))
    return {
        "hit_rate": float(any(hits[:k])),
        "recall": sum(hits[:k]) / total,
        "precision": sum(hits[:k]) / k,
        "ndcg": gain / ideal,
        "average_precision": sum(at_hits) / total,
        "reciprocal_rank": 1 / (hits.index(True) + 1),
        "r_precision": sum(hits[:total]) / total,
        "average_precision_at_r": sum(within_r) / total,
    }


def evaluate(similarity, relevant, k, ties="pessimistic", leave_one_out=False):
    """A dictionary of measures for each query; None if nothing is relevant."""
    rows = []
    for i, listed in enumerate(relevant):
        kept = [j for j in range(len(similarity[i])) if not (leave_one_out and j == i)]
        members = set(listed) - ({i} if leave_one_out else set())
        if not members:
            rows.append(None)
        elif ties == "mean":
            rows.append(from_ranks(expected_ranks(similarity[i], kept, members), k))
        else:
            hits = walk_down(similarity[i], kept, members, ties)
            rows.append(from_hits(hits, k))

    return rows


def walk_down(similarity, kept, members, ties):
    """Whether each row of the sorted list is relevant; others come first among ties, or last."""
    relevant_last = ties == "pessimistic"
    order = sorted(kept, key=lambda j: (-similarity[j], (j in members) == relevant_last))
    return [j in members for j in order]
