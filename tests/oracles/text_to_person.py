"""Losses of text-to-person papers as slow loops written from them, independent of the library."""

import math


def _unit(row):
    norm = math.sqrt(sum(x * x for x in row))
    return [x / norm if norm else 0.0 for x in row]


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def _mean(values):
    return sum(values) / len(values) if values else 0.0


def _divergence(logits, matches):
    """KL of the softmax of some logits from the even distribution over the matches."""
    top = max(logits)
    total = sum(math.exp(x - top) for x in logits)
    count = sum(matches)
    loss = 0.0
    for x, is_match in zip(logits, matches, strict=True):
        p = math.exp(x - top) / total
        q = is_match / count
        # p ln p is 0 for p = 0
        loss += p * (x - top - math.log(total) - math.log(q + 1e-8))

    return loss


def _both_directions(rows, columns, labels, column_labels, loss, ignore=None):
    """Mean of ``loss`` over the rows that have a match, and the same over the columns."""
    values = []
    for transposed in (False, True):
        near, far = (columns, rows) if transposed else (rows, columns)
        near_labels, far_labels = (column_labels, labels) if transposed else (labels, column_labels)
        losses = []
        for i, row in enumerate(near):
            kept = [
                j
                for j in range(len(far))
                if ignore is None or not (ignore[j][i] if transposed else ignore[i][j])
            ]
            matches = [near_labels[i] == far_labels[j] for j in kept]
            losses.append(loss(row, [far[j] for j in kept], matches) if any(matches) else None)

        values.append(losses)

    return values


def _total(values):
    return sum(_mean([loss for loss in losses if loss is not None]) for losses in values)


def _of_pairs(values):
    images, texts = values
    return [(a or 0.0) + (b or 0.0) for a, b in zip(images, texts, strict=True)]


def sdm(images, texts, labels, text_labels, temperature, ignore=None, pairs=False):
    """Jiang and Ye 2023 (IRRA), section 3.3."""

    def loss(row, others, matches):
        cosines = [_dot(_unit(row), _unit(other)) / temperature for other in others]
        return _divergence(cosines, matches)

    values = _both_directions(images, texts, labels, text_labels, loss, ignore)
    return _of_pairs(values) if pairs else _total(values)


def cmpm(images, texts, labels, text_labels, ignore=None, pairs=False):
    """Zhang and Lu 2018, section 3.2: the length of a row's projection onto the others."""

    def loss(row, others, matches):
        return _divergence([_dot(row, _unit(other)) for other in others], matches)

    values = _both_directions(images, texts, labels, text_labels, loss, ignore)
    return _of_pairs(values) if pairs else _total(values)


def cmpc(images, texts, labels, weight):
    """Zhang and Lu 2018, section 3.3: the norm-softmax of the projections, both ways."""
    losses = []
    for image, text, label in zip(images, texts, labels, strict=True):
        of_pair = 0.0
        for row, partner in ((image, _unit(text)), (text, _unit(image))):
            projection = [_dot(row, partner) * x for x in partner]
            logits = [_dot(_unit(w), projection) for w in weight]
            of_pair += math.log(sum(math.exp(x) for x in logits)) - logits[label]
        losses.append(of_pair)

    return losses


def triplet_alignment(
    images, texts, labels, text_labels, margin, temperature, ignore=None, pairs=False
):
    """Qin et al. 2024 (RDE), section 3.4."""

    def loss(row, others, matches):
        cosines = [_dot(_unit(row), _unit(other)) for other in others]
        near = [c for c, is_match in zip(cosines, matches, strict=True) if is_match]
        far = [c for c, is_match in zip(cosines, matches, strict=True) if not is_match]
        if not far:
            return 0.0

        # Shifted by the largest, so that no exponential overflows.
        top = max(near)
        weights = [math.exp((c - top) / temperature) for c in near]
        mean = sum(w * c for w, c in zip(weights, near, strict=True)) / sum(weights)

        top = max(far)
        soft_max = top + temperature * math.log(sum(math.exp((c - top) / temperature) for c in far))
        return max(0.0, margin - mean + soft_max)

    values = _both_directions(images, texts, labels, text_labels, loss, ignore)
    return _of_pairs(values) if pairs else _total(values)
