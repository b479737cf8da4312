"""Protocols by brute force; imports nothing of ours."""

import itertools

import numpy as np
from oracles import reid


def of_split(similarity, ids, query_rows, gallery_rows):
    """Evaluate rows of one set as queries and gallery."""
    matrix = np.asarray(similarity)[np.ix_(query_rows, gallery_rows)]
    return reid.evaluate(matrix, [ids[i] for i in query_rows], [ids[j] for j in gallery_rows])


def single_shot_expectation(similarity, query_ids, gallery_ids, query_cameras, gallery_cameras):
    """Exact mean of 1 / rank for each query, over all galleries that can be drawn.

    A gallery has one image of each identity by other cameras. None for a query without a match.
    """
    means = []
    for i, (identity, camera) in enumerate(zip(query_ids, query_cameras, strict=True)):
        images = {}
        for j, gallery_id in enumerate(gallery_ids):
            if gallery_cameras[j] != camera:
                images.setdefault(gallery_id, []).append(j)
        if identity not in images:
            means.append(None)
            continue

        values = []
        for gallery in itertools.product(*images.values()):
            (own,) = (j for j in gallery if gallery_ids[j] == identity)
            others = [j for j in gallery if j != own]
            num_above = sum(similarity[i][j] >= similarity[i][own] for j in others)
            values.append(1 / (1 + num_above))
        means.append(float(np.mean(values)))

    return means
