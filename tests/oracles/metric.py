"""Metric losses as slow loops written from the papers, independent of the library."""

import math


def _unit(row):
    norm = math.sqrt(sum(x * x for x in row))
    return [x / norm if norm else 0.0 for x in row]


def _cosine(a, b):
    return sum(x * y for x, y in zip(_unit(a), _unit(b), strict=True))


def _distance(a, b, kind):
    return 1 - _cosine(a, b) if kind == "cosine" else math.dist(a, b)


def _softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _log_sum(values):
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def _mean(values):
    return sum(values) / len(values) if values else 0.0


def anchors(rows, labels, contrast=None, contrast_labels=None):
    """Of every anchor that has both: its row, the rows of its positives and of its negatives."""
    for i, row in enumerate(rows):
        if contrast is None:
            near = [rows[j] for j in range(len(rows)) if j != i and labels[j] == labels[i]]
            far = [rows[j] for j in range(len(rows)) if labels[j] != labels[i]]
        else:
            near = [contrast[j] for j in range(len(contrast)) if contrast_labels[j] == labels[i]]
            far = [contrast[j] for j in range(len(contrast)) if contrast_labels[j] != labels[i]]

        if near and far:
            yield row, near, far


def triplet(rows, labels, contrast, contrast_labels, margin, mining, distance, average):
    """Hermans et al. 2017 (hardest, all) and FaceNet 2015 (semi-hard), one triplet at a time."""
    losses = []
    for row, near, far in anchors(rows, labels, contrast, contrast_labels):
        positives = [_distance(row, p, distance) for p in near]
        negatives = [_distance(row, n, distance) for n in far]

        if mining == "hardest":
            gaps = [max(positives) - min(negatives)]
        elif mining == "semi_hard":
            gaps = []
            for p in positives:
                beyond = [n for n in negatives if p < n and (margin is None or n <= p + margin)]
                gaps += [p - min(beyond)] if beyond else []
        else:
            gaps = [p - n for p in positives for n in negatives]

        losses += [_softplus(gap) if margin is None else max(0.0, gap + margin) for gap in gaps]

    if average is None:
        average = "violated" if mining == "all" else "mined"

    return _mean(losses if average == "mined" else [x for x in losses if x > 0])


def weighted_triplet(rows, labels, contrast, contrast_labels, distance):
    """Ye et al. 2021, eq. 8 and 9."""
    losses = []
    for row, near, far in anchors(rows, labels, contrast, contrast_labels):
        positives = [_distance(row, p, distance) for p in near]
        negatives = [_distance(row, n, distance) for n in far]
        total_p, total_n = sum(math.exp(d) for d in positives), sum(math.exp(-d) for d in negatives)
        mean_p = sum(math.exp(d) / total_p * d for d in positives)
        mean_n = sum(math.exp(-d) / total_n * d for d in negatives)
        losses.append(math.log(1 + math.exp(mean_p - mean_n)))

    return _mean(losses)


def circle(rows, labels, contrast, contrast_labels, margin, scale, weighed_at=None):
    """Sun et al. 2020, eq. 4 to 8; the weights are those at the rows ``weighed_at``, kept fixed."""
    losses = []
    fixed = anchors(weighed_at or rows, labels, contrast, contrast_labels)

    for (row, near, far), (row0, near0, far0) in zip(
        anchors(rows, labels, contrast, contrast_labels), fixed, strict=True
    ):
        pull = [
            -scale * max(0.0, 1 + margin - _cosine(row0, p0)) * (_cosine(row, p) - (1 - margin))
            for p, p0 in zip(near, near0, strict=True)
        ]
        push = [
            scale * max(0.0, _cosine(row0, n0) + margin) * (_cosine(row, n) - margin)
            for n, n0 in zip(far, far0, strict=True)
        ]
        losses.append(_softplus(_log_sum(pull) + _log_sum(push)))

    return _mean(losses)


def multi_similarity(rows, labels, contrast, contrast_labels, alpha, beta, base, epsilon):
    """Wang et al. 2019: mining by eq. 10 and 11, loss by eq. 15."""
    losses = []
    for row, near, far in anchors(rows, labels, contrast, contrast_labels):
        positives, negatives = [_cosine(row, p) for p in near], [_cosine(row, n) for n in far]

        if epsilon is not None:
            least, most = min(positives), max(negatives)
            positives = [s for s in positives if s - epsilon < most]
            negatives = [s for s in negatives if s + epsilon > least]

        pull = math.log(1 + sum(math.exp(-alpha * (s - base)) for s in positives)) / alpha
        push = math.log(1 + sum(math.exp(beta * (s - base)) for s in negatives)) / beta
        losses.append(pull + push)

    return _mean(losses)


def center(rows, labels, centers):
    """Wen et al. 2016, eq. 2, divided by the number of rows."""
    return _mean(
        [math.dist(row, centers[label]) ** 2 / 2 for row, label in zip(rows, labels, strict=True)]
    )
