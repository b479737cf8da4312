"""Query expansion with plain loops; imports nothing of ours."""

import numpy as np


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    length = np.sqrt((rows**2).sum(axis=-1, keepdims=True))
    return np.where(length > 0, rows / np.where(length > 0, length, 1), 0)


def weight_of(cosine, alpha):
    if alpha is None:
        return 1.0
    return cosine**alpha if cosine > 0 else 0.0


def expand(queries, gallery, k, alpha=None, skip_self=False):
    queries, gallery = unit(queries), unit(gallery)
    out = []
    for i, query in enumerate(queries):
        cosine = [(query * row).sum() for row in gallery]
        others = [j for j in range(len(gallery)) if not (skip_self and i == j)]
        nearest = sorted(others, key=lambda j: (-cosine[j], j))[:k]

        total = query.copy()
        for j in nearest:
            total += weight_of(cosine[j], alpha) * gallery[j]
        out.append(total)

    return unit(np.array(out))
