"""SupCon and InfoNCE as slow loops written from the papers, independent of the library."""

import math


def _unit(row):
    norm = math.sqrt(sum(x * x for x in row))
    return [x / norm if norm else 0.0 for x in row]


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def supcon(rows, labels, temperature, contrast=None, contrast_labels=None, positives="mean"):
    """Khosla et al. 2020, eq. 2, averaged over anchors with a positive."""
    z = [_unit(r) for r in rows]
    same_set = contrast is None
    c = z if same_set else [_unit(r) for r in contrast]
    contrast_labels = labels if same_set else contrast_labels
    losses = []
    for i in range(len(z)):
        candidates = [a for a in range(len(c)) if not (same_set and a == i)]
        chosen = [p for p in candidates if contrast_labels[p] == labels[i]]

        if not chosen:
            continue

        total = sum(math.exp(_dot(z[i], c[a]) / temperature) for a in candidates)
        terms = [-math.log(math.exp(_dot(z[i], c[p]) / temperature) / total) for p in chosen]
        losses.append(sum(terms) / (len(chosen) if positives == "mean" else 1))

    return sum(losses) / len(losses) if losses else 0.0


def info_nce(images, texts, temperature, smoothing=0.0, gamma=0.0, alpha=1.0):
    """CLIP, figure 3: mean cross-entropy over rows and columns; smoothed, or focal (eq. 5)."""
    v, t = [_unit(r) for r in images], [_unit(r) for r in texts]
    n = len(v)
    s = [[math.exp(_dot(v[i], t[j]) / temperature) for j in range(n)] for i in range(n)]
    losses = []
    for matrix in (s, [list(column) for column in zip(*s, strict=True)]):
        for i in range(n):
            p = [value / sum(matrix[i]) for value in matrix[i]]
            target = [smoothing / n + (1 - smoothing) * (j == i) for j in range(n)]
            entropy = -sum(target[j] * math.log(p[j]) for j in range(n))
            losses.append(alpha * (1 - p[i]) ** gamma * entropy)

    return sum(losses) / (2 * n)
