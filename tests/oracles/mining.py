"""Hard negatives and triplets by comparing all pairs in plain loops, in float64."""

import math


def cosines(features):
    rows = [_unit(row) for row in features]
    return [[sum(a * b for a, b in zip(r, s, strict=True)) for s in rows] for r in rows]


def hard_negatives(features, labels, count, captions=None, ceiling=math.inf):
    """List (cosine, item) of the ``count`` most similar allowed negatives of each item."""
    similarity = cosines(features)
    found = []

    for i in range(len(similarity)):
        allowed = []
        for j in range(len(similarity)):
            if may_be_negative(i, j, labels, captions, similarity[i][j], ceiling):
                allowed.append((similarity[i][j], j))

        allowed.sort(key=lambda pair: -pair[0])
        found.append(allowed[:count])

    return found


def triplets(features, is_positive, strategy, margin, labels=None, captions=None, ceiling=math.inf):
    """List (anchor, distance to the positive, distance to the negative) of every kept triplet."""
    similarity = cosines(features)
    kept = []

    for anchor in range(len(similarity)):
        positives, negatives = [], []
        for other in range(len(similarity)):
            cosine = similarity[anchor][other]
            distance = math.sqrt(max(0.0, 2 - 2 * cosine))

            if is_positive(anchor, other):
                if other != anchor:
                    positives.append(distance)
            elif may_be_negative(anchor, other, labels, captions, cosine, ceiling):
                negatives.append(distance)

        if not positives:
            continue

        if strategy == "hardest":
            to_positive = max(positives)
        else:
            to_positive = min(positives)
            negatives = [distance for distance in negatives if distance > to_positive]

        if negatives and min(negatives) < to_positive + margin:
            kept.append((anchor, to_positive, min(negatives)))

    return kept


def may_be_negative(i, j, labels, captions, cosine, ceiling):
    if i == j or cosine >= ceiling:
        return False
    if labels is not None and labels[i] == labels[j]:
        return False
    if captions is None or captions[i] is None:
        return True

    return _normalized(captions[i]) != _normalized(captions[j])


def _unit(row):
    length = math.sqrt(sum(x * x for x in row))
    return [x / length if length else 0.0 for x in row]


def _normalized(text):
    return None if text is None else " ".join(text.casefold().split())
