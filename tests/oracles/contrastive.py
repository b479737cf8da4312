"""Losses of image-text pairs as slow loops written from the papers, independent of the library."""

import math


def _unit(row):
    norm = math.sqrt(sum(x * x for x in row))
    return [x / norm if norm else 0.0 for x in row]


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def _cosines(images, texts):
    return [[_dot(_unit(image), _unit(text)) for text in texts] for image in images]


def siglip(images, texts, temperature, bias, labels=None, text_labels=None):
    """Zhai et al. 2023, section 3.2: the sum of a logistic loss of each pair, per image."""
    if labels is None:
        labels = range(len(images))
    if text_labels is None:
        text_labels = labels

    cosine = _cosines(images, texts)
    total = 0.0
    for i in range(len(images)):
        for j in range(len(texts)):
            sign = 1 if labels[i] == text_labels[j] else -1
            x = sign * (cosine[i][j] / temperature + bias)
            total += max(-x, 0.0) + math.log1p(math.exp(-abs(x)))

    return total / len(images) if images and texts else 0.0


def hard_negative(images, texts, temperature, margin, num_hard, weight, labels=None):
    """Symmetric InfoNCE without siblings, and a hinge on the hardest negatives each way."""
    cosine = _cosines(images, texts)
    n = len(images)

    def negatives(i):
        return [j for j in range(n) if j != i and (labels is None or labels[i] != labels[j])]

    softmax = 0.0
    hinges = []
    for direction in (lambda i, j: cosine[i][j], lambda i, j: cosine[j][i]):
        rows = []
        for i in range(n):
            of_negatives = [direction(i, j) for j in negatives(i)]
            true = math.exp(direction(i, i) / temperature)
            total = true + sum(math.exp(value / temperature) for value in of_negatives)
            softmax -= math.log(true / total) / (2 * n)

            hardest = sorted(of_negatives, reverse=True)[:num_hard]
            if hardest:
                rows.append(sum(max(0.0, value - margin) for value in hardest) / len(hardest))

        hinges.append(sum(rows) / len(rows) if rows else 0.0)

    return softmax + weight * sum(hinges) / 2


def nt_xent(rows, image_ids, temperature):
    """Chen et al. 2020, eq. 1: the mean over all ordered pairs of views of one image."""
    cosine = _cosines(rows, rows)
    losses = []
    for i in range(len(rows)):
        others = [k for k in range(len(rows)) if k != i]
        denominator = sum(math.exp(cosine[i][k] / temperature) for k in others)
        for j in others:
            if image_ids[i] == image_ids[j]:
                losses.append(-math.log(math.exp(cosine[i][j] / temperature) / denominator))
    return sum(losses) / len(losses)
