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


def evaluate(similarity, relevant, k, pessimistic=True, alone=False):
    """A row of measures for each query, None without a relevant candidate."""
    rows = []
    for i, members in enumerate(relevant):
        right = set(members) - ({i} if alone else set())
        kept = [j for j in range(len(similarity[i])) if not (alone and j == i)]
        # among equals the wrong ones come first (pessimistic) or last
        order = sorted(kept, key=lambda j: (-similarity[i][j], (j in right) == pessimistic))
        hits = [j in right for j in order]
        if not right:
            rows.append(None)
            continue
        total = len(right)
        precision = [sum(hits[: r + 1]) / (r + 1) for r in range(len(hits))]
        ideal = sum(1 / math.log2(r + 2) for r in range(min(total, k)))
        rows.append(
            {
                "hit_rate": float(any(hits[:k])),
                "recall": sum(hits[:k]) / total,
                "precision": sum(hits[:k]) / k,
                "ndcg": sum(hit / math.log2(r + 2) for r, hit in enumerate(hits[:k])) / ideal,
                "average_precision": sum(p for p, hit in zip(precision, hits, strict=True) if hit) / total,
                "reciprocal_rank": 1 / (hits.index(True) + 1),
                "r_precision": sum(hits[:total]) / total,
                "average_precision_at_r": sum(p * hit for p, hit in zip(precision[:total], hits, strict=False)) / total,
            }
        )
    return rows
