"""Heads with a margin as slow loops written from the papers, independent of the library."""

import math


def _cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return max(-1.0, min(1.0, dot / norms)) if norms else 0.0


def _cosines(row, weight, num_centers):
    """Deng et al. 2020, eq. 3: of an identity's centers the nearest counts."""
    found = [_cosine(row, w) for w in weight]
    return [max(found[c : c + num_centers]) for c in range(0, len(found), num_centers)]


def _arcface(cosine, margin, fallback):
    """Deng et al. 2019, eq. 3, with the two conventions where the angle would leave [0, pi]."""
    angle = math.acos(cosine)

    if fallback == "easy":
        return math.cos(angle + margin) if angle < math.pi / 2 else cosine

    if angle + margin < math.pi:
        return math.cos(angle + margin)

    return cosine - margin * math.sin(margin)


def arcface_logits(rows, labels, weight, scale, margin, fallback="linear", num_centers=1):
    logits = []
    for row, label in zip(rows, labels, strict=True):
        cosines = _cosines(row, weight, num_centers)
        cosines[label] = _arcface(cosines[label], margin, fallback)
        logits.append([scale * c for c in cosines])

    return logits


def cosface_logits(rows, labels, weight, scale, margin, num_centers=1):
    """Wang et al. 2018, eq. 4."""
    logits = []
    for row, label in zip(rows, labels, strict=True):
        cosines = _cosines(row, weight, num_centers)
        cosines[label] -= margin
        logits.append([scale * c for c in cosines])

    return logits


def circle_softmax_logits(rows, labels, weight, scale, margin):
    """Sun et al. 2020, section 3, with the label of a class."""
    logits = []
    for row, label in zip(rows, labels, strict=True):
        found = []
        for identity, cosine in enumerate(_cosines(row, weight, 1)):
            if identity == label:
                found.append(scale * max(1 + margin - cosine, 0) * (cosine - (1 - margin)))
            else:
                found.append(scale * max(cosine + margin, 0) * (cosine - margin))
        logits.append(found)

    return logits


def identity_losses(logits, labels, smoothing=0.0, adaptive=0.0, gamma=0.0):
    """Lin et al. 2017, eq. 4, around a smoothed cross entropy; one row at a time."""
    losses = []
    for row, label in zip(logits, labels, strict=True):
        top = max(row)
        total = sum(math.exp(x - top) for x in row)
        probability = math.exp(row[label] - top) / total

        smoothed = adaptive * probability if adaptive else smoothing
        loss = cross_entropy([row], [label], smoothed)
        losses.append((1 - probability) ** gamma * loss)

    return losses


def cross_entropy(logits, labels, smoothing=0.0):
    """Targets are 1 - e at the label plus e / C everywhere."""
    losses = []
    for row, label in zip(logits, labels, strict=True):
        top = max(row)
        log_total = top + math.log(sum(math.exp(x - top) for x in row))

        target = [smoothing / len(row)] * len(row)
        target[label] += 1 - smoothing
        losses.append(sum(q * (log_total - x) for q, x in zip(target, row, strict=True)))

    return sum(losses) / len(losses) if losses else 0.0


def proxy_anchor(rows, labels, proxies, scale, margin):
    """Kim et al. 2020, eq. 4, one proxy at a time."""
    pulls = []
    pushes = []
    for identity, proxy in enumerate(proxies):
        same = []
        other = []
        for row, label in zip(rows, labels, strict=True):
            (same if label == identity else other).append(_cosine(row, proxy))

        if same:
            pulls.append(math.log(1 + sum(math.exp(-scale * (s - margin)) for s in same)))
        pushes.append(math.log(1 + sum(math.exp(scale * (s + margin)) for s in other)))

    return (sum(pulls) / len(pulls) if pulls else 0.0) + sum(pushes) / len(pushes)
