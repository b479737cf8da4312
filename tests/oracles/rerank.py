"""k-reciprocal re-ranking as printed (Zhong et al., CVPR 2017), with dense float64 matrices and plain loops.

Sets are of k + 1 members, the item itself first (the convention of the code that was published with the paper, and of
CLIP-ReID). Numbers in brackets are the paper's equations.
"""

import numpy as np


def distances(rows, distance):
    rows = np.asarray(rows, dtype=np.float64)
    if distance == "euclidean":
        return ((rows[:, None] - rows[None]) ** 2).sum(-1)
    length = np.sqrt((rows**2).sum(-1, keepdims=True))
    unit = rows / np.where(length > 0, length, 1)
    return 1 - (unit[:, None] * unit[None]).sum(-1)


def ranking(matrix):
    """All items for each item: itself, then the others by distance, the lower index first among equals."""
    lists = []
    for i, row in enumerate(matrix):
        others = [j for j in range(len(row)) if j != i]
        lists.append([i, *sorted(others, key=lambda j: (row[j], j))])
    return lists


def rerank(queries, gallery, k1, k2, lambda_value, distance="cosine"):
    rows = np.concatenate([queries, gallery]).astype(np.float64)
    total, num_queries = len(rows), len(queries)
    matrix = distances(rows, distance)
    np.fill_diagonal(matrix, 0.0)
    largest = matrix.max(axis=1, keepdims=True)
    matrix = matrix / np.where(largest > 0, largest, 1)
    lists = ranking(distances(rows, distance))

    def nearest(i, k):
        return lists[i][: k + 1]

    def reciprocal(i, k):  # (2)
        return {j for j in nearest(i, k) if i in nearest(j, k)}

    half = int(np.around(k1 / 2))
    weights = np.zeros((total, total))
    for i in range(total):
        own = reciprocal(i, k1)
        expanded = set(own)
        for candidate in own:  # (3)
            other = reciprocal(candidate, half)
            if 3 * len(own & other) > 2 * len(other):
                expanded |= other
        for j in expanded:  # (7)
            weights[i, j] = np.exp(-matrix[i, j])
        weights[i] /= weights[i].sum()
    smoothed = np.zeros_like(weights)
    for i in range(total):  # (11)
        near = lists[i][:k2]
        for j in near:
            smoothed[i] += weights[j] / len(near)
    final = np.zeros((num_queries, total - num_queries))
    for i in range(num_queries):
        for j in range(num_queries, total):
            lower = np.minimum(smoothed[i], smoothed[j]).sum()
            upper = np.maximum(smoothed[i], smoothed[j]).sum()
            jaccard = 1 - lower / upper  # (10)
            final[i, j - num_queries] = (1 - lambda_value) * jaccard + lambda_value * matrix[
                i, j
            ]  # (12)
    return final
