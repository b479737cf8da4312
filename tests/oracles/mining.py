"""Hard negatives and triplets by comparing all pairs in plain loops, in float64."""

import math


def _unit(row):
    length = math.sqrt(sum(x * x for x in row))
    return [x / length if length else 0.0 for x in row]


def cosines(features):
    rows = [_unit(row) for row in features]
    return [[sum(a * b for a, b in zip(r, s, strict=True)) for s in rows] for r in rows]


def _tidy(text):
    return None if text is None else " ".join(text.casefold().split())


def may_be_negative(i, j, labels, captions, near, ceiling):
    if i == j or near >= ceiling:
        return False
    if labels is not None and labels[i] == labels[j]:
        return False
    return captions is None or captions[i] is None or _tidy(captions[i]) != _tidy(captions[j])


def hard_negatives(features, labels, count, captions=None, ceiling=math.inf):
    """For each item its allowed others by descending cosine, as (cosine, item), the first ``count``."""
    near = cosines(features)
    found = []
    for i in range(len(near)):
        allowed = [
            (near[i][j], j)
            for j in range(len(near))
            if may_be_negative(i, j, labels, captions, near[i][j], ceiling)
        ]
        found.append(sorted(allowed, key=lambda pair: -pair[0])[:count])
    return found


def triplets(features, is_positive, strategy, margin, labels=None, captions=None, ceiling=math.inf):
    """(anchor, distance to the positive, distance to the negative) of every triplet that is kept."""
    near = cosines(features)
    kept = []
    for a in range(len(near)):
        positives = [
            math.sqrt(max(0.0, 2 - 2 * near[a][p]))
            for p in range(len(near))
            if p != a and is_positive(a, p)
        ]
        negatives = [
            math.sqrt(max(0.0, 2 - 2 * near[a][n]))
            for n in range(len(near))
            if not is_positive(a, n)
            and may_be_negative(a, n, labels, captions, near[a][n], ceiling)
        ]
        if not positives:
            continue
        to_positive = max(positives) if strategy == "hardest" else min(positives)
        if strategy == "semi_hard":
            negatives = [d for d in negatives if d > to_positive]
        if negatives and min(negatives) < to_positive + margin:
            kept.append((a, to_positive, min(negatives)))
    return kept
