"""Query expansion with plain loops."""

import numpy as np


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    length = np.sqrt((rows**2).sum(axis=-1, keepdims=True))
    return np.where(length > 0, rows / np.where(length > 0, length, 1), 0)


def expand(queries, gallery, k, alpha=None, skip_self=False):
    queries, gallery = unit(queries), unit(gallery)
    out = []
    for i, q in enumerate(queries):
        cosine = [(q * g).sum() for g in gallery]
        order = sorted(
            (j for j in range(len(gallery)) if not (skip_self and i == j)),
            key=lambda j: (-cosine[j], j),
        )
        total = q.copy()
        for j in order[:k]:
            weight = 1.0 if alpha is None else (cosine[j] ** alpha if cosine[j] > 0 else 0.0)
            total += weight * gallery[j]
        out.append(total)
    return unit(np.array(out))
