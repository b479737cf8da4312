"""k-reciprocal re-ranking as printed (Zhong et al., CVPR 2017): dense matrices and plain loops.

Sets have k + 1 members, the item itself first (the convention of the code that was published with
the paper, and of CLIP-ReID). Numbers in brackets are the paper's equations. Imports nothing of
ours.
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
    """All items for each item: itself, then the others by distance, the lower index first."""
    lists = []
    for i, row in enumerate(matrix):
        others = [j for j in range(len(row)) if j != i]
        lists.append([i, *sorted(others, key=lambda j: (row[j], j))])
    return lists


def reciprocal(lists, i, k):
    """Equation (2)."""
    return {j for j in lists[i][: k + 1] if i in lists[j][: k + 1]}


def expanded(lists, i, k1):
    """Equation (3)."""
    own = reciprocal(lists, i, k1)
    members = set(own)
    for neighbour in own:
        other = reciprocal(lists, neighbour, int(np.around(k1 / 2)))
        if 3 * len(own & other) > 2 * len(other):
            members |= other
    return members


def encode(rows, k1, k2, distance):
    """Averaged weights of the neighbours of each item, and its distances by the largest of them."""
    rows = np.asarray(rows, dtype=np.float64)
    total = len(rows)
    lists = ranking(distances(rows, distance))
    matrix = distances(rows, distance)
    np.fill_diagonal(matrix, 0.0)
    largest = matrix.max(axis=1, keepdims=True)
    matrix = matrix / np.where(largest > 0, largest, 1)

    weights = np.zeros((total, total))
    for i in range(total):
        for j in expanded(lists, i, k1):
            weights[i, j] = np.exp(-matrix[i, j])  # (7)
        weights[i] /= weights[i].sum()

    smoothed = np.zeros_like(weights)
    for i in range(total):
        nearest = lists[i][:k2]
        for j in nearest:
            smoothed[i] += weights[j] / len(nearest)  # (11)
    return smoothed, matrix


def of_sets(one, other):
    """Equation (10)."""
    return 1 - np.minimum(one, other).sum() / np.maximum(one, other).sum()


def jaccard(rows, k1, k2, distance="cosine"):
    """Distances of all items to all."""
    smoothed, _ = encode(rows, k1, k2, distance)
    return np.array([[of_sets(one, other) for other in smoothed] for one in smoothed])


def rerank(queries, gallery, k1, k2, lambda_value, distance="cosine"):
    smoothed, matrix = encode(np.concatenate([queries, gallery]), k1, k2, distance)
    total, num_queries = len(smoothed), len(queries)

    final = np.zeros((num_queries, total - num_queries))
    for i in range(num_queries):
        for j in range(num_queries, total):
            distance_of_sets = of_sets(smoothed[i], smoothed[j])
            mixed = (1 - lambda_value) * distance_of_sets + lambda_value * matrix[i, j]  # (12)
            final[i, j - num_queries] = mixed
    return final
