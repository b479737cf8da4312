"""The ReID protocol by brute force, in float64; imports nothing of ours."""

import numpy as np


def exact_cosine(queries, gallery):
    """Cosine similarities, float64."""
    q, g = queries.astype(np.float64), gallery.astype(np.float64)
    q /= np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-300)
    g /= np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-300)
    return q @ g.T


def evaluate(similarity, query_ids, gallery_ids, query_cameras=None, gallery_cameras=None, pessimistic=True):
    """Sort the gallery for each query, walk down the list; AP, INP and first rank for each query (None: no match)."""
    rows = []
    for i, q in enumerate(query_ids):
        kept = []
        for j, g in enumerate(gallery_ids):
            junk = query_cameras is not None and g == q and gallery_cameras[j] == query_cameras[i]
            if not junk:
                kept.append((similarity[i][j], g == q))
        # among equals the wrong ones come first (pessimistic) or last
        kept.sort(key=lambda item: (-item[0], item[1] if pessimistic else not item[1]))
        hits = [rank for rank, (_, match) in enumerate(kept, start=1) if match]
        if not hits:
            rows.append(None)
            continue
        precision = [(n + 1) / rank for n, rank in enumerate(hits)]
        rows.append((sum(precision) / len(hits), len(hits) / hits[-1], hits[0]))
    return rows
