"""Losses of ranks as slow loops written from the papers, independent of the library."""

import math


def _unit(row):
    norm = math.sqrt(sum(x * x for x in row))
    return [x / norm if norm else 0.0 for x in row]


def _cosine(a, b):
    return sum(x * y for x, y in zip(_unit(a), _unit(b), strict=True))


def _sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def smooth_ap(rows, labels, contrast, contrast_labels, temperature):
    """Brown et al. 2020, section 4, averaged over anchors with a positive."""
    losses = []
    for a, row in enumerate(rows):
        if contrast is None:
            others = [j for j in range(len(rows)) if j != a]
            cosine = {j: _cosine(row, rows[j]) for j in others}
            matches = {j for j in others if labels[j] == labels[a]}
        else:
            cosine = {j: _cosine(row, other) for j, other in enumerate(contrast)}
            matches = {j for j in cosine if contrast_labels[j] == labels[a]}

        if not matches:
            continue

        precision = 0.0
        for i in matches:
            above = {j: _sigmoid((cosine[j] - cosine[i]) / temperature) for j in cosine if j != i}
            right = 1 + sum(above[j] for j in matches if j != i)
            wrong = sum(above[j] for j in cosine if j not in matches)
            precision += right / (right + wrong)
        losses.append(1 - precision / len(matches))

    return sum(losses) / len(losses) if losses else 0.0


def recall_surrogate(rows, labels, contrast, contrast_labels, ks, tau_1, tau_2):
    """Patel et al. 2022, section 3, averaged over anchors with a positive."""
    losses = []
    for a, row in enumerate(rows):
        if contrast is None:
            cosine = {j: _cosine(row, rows[j]) for j in range(len(rows)) if j != a}
            matches = {j for j in cosine if labels[j] == labels[a]}
        else:
            cosine = {j: _cosine(row, other) for j, other in enumerate(contrast)}
            matches = {j for j in cosine if contrast_labels[j] == labels[a]}

        if not matches:
            continue

        recall = 0.0
        for k in ks:
            for i in matches:
                above = sum(_sigmoid((cosine[j] - cosine[i]) / tau_2) for j in cosine if j != i)
                recall += _sigmoid((k - 1 - above) / tau_1) / len(matches)
        losses.append(1 - recall / len(ks))

    return sum(losses) / len(losses) if losses else 0.0


def feature_distillation(student, teacher, distance):
    """Mean of 1 - cosine, or of the squared differences."""
    losses = []
    for a, b in zip(student, teacher, strict=True):
        squared = [(x - y) ** 2 for x, y in zip(a, b, strict=True)]
        losses.append(1 - _cosine(a, b) if distance == "cosine" else sum(squared) / len(squared))

    return sum(losses) / len(losses) if losses else 0.0


def _softmax(values):
    top = max(values)
    exponentials = [math.exp(value - top) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def _divergence(wanted, own):
    return sum(p * math.log(p / q) for p, q in zip(wanted, own, strict=True) if p > 0)


def relational_distillation(student, teacher, own_contrast, their_contrast, tau, tau_teacher):
    """Fang et al. 2021 (SEED), section 3.2, as a divergence."""
    losses = []
    for i in range(len(student)):
        if own_contrast is None:
            others = [j for j in range(len(student)) if j != i]
            own, their = student, teacher
        else:
            others = list(range(len(own_contrast)))
            own, their = own_contrast, their_contrast

        if not others:
            continue
        p = _softmax([_cosine(teacher[i], their[j]) / tau_teacher for j in others])
        q = _softmax([_cosine(student[i], own[j]) / tau for j in others])
        losses.append(_divergence(p, q))

    return sum(losses) / len(losses) if losses else 0.0


def logit_distillation(student, teacher, tau):
    """Hinton et al. 2015, section 2."""
    losses = [
        _divergence(_softmax([x / tau for x in t]), _softmax([x / tau for x in s]))
        for s, t in zip(student, teacher, strict=True)
    ]
    return tau**2 * sum(losses) / len(losses) if losses else 0.0
