"""Losses of image-text pairs as slow loops written from the papers, independent of the library."""

import math


def _cosines(images, texts):
    def unit(row):
        norm = math.sqrt(sum(x * x for x in row))
        return [x / norm if norm else 0.0 for x in row]

    v, t = [unit(row) for row in images], [unit(row) for row in texts]
    return [[sum(x * y for x, y in zip(a, b, strict=True)) for b in t] for a in v]


def siglip(images, texts, temperature, bias, labels=None, text_labels=None):
    """Zhai et al. 2023, section 3.2: the sum of a logistic loss of each pair, per image."""
    cosine = _cosines(images, texts)
    total = 0.0

    for i in range(len(images)):
        for j in range(len(texts)):
            together = (
                i == j
                if labels is None
                else labels[i] == (labels if text_labels is None else text_labels)[j]
            )
            x = (1 if together else -1) * (cosine[i][j] / temperature + bias)
            total += math.log1p(math.exp(-x)) if x > 0 else -x + math.log1p(math.exp(x))

    return total / len(images) if images and texts else 0.0


def hard_negative(images, texts, temperature, margin, num_hard, weight, labels=None):
    """Symmetric InfoNCE without siblings, and a hinge on the hardest negatives' cosines each way."""
    cosine = _cosines(images, texts)
    n = len(images)

    def negatives(i):
        return [j for j in range(n) if j != i and (labels is None or labels[i] != labels[j])]

    softmax, hinges = 0.0, []

    for direction in (lambda i, j: cosine[i][j], lambda i, j: cosine[j][i]):
        rows = []

        for i in range(n):
            true = math.exp(direction(i, i) / temperature)
            others = sum(math.exp(direction(i, j) / temperature) for j in negatives(i))
            softmax -= math.log(true / (true + others)) / (2 * n)
            hardest = sorted((direction(i, j) for j in negatives(i)), reverse=True)[:num_hard]

            if hardest:
                rows.append(sum(max(0.0, value - margin) for value in hardest) / len(hardest))

        hinges.append(sum(rows) / len(rows) if rows else 0.0)

    return softmax + weight * sum(hinges) / 2
