"""Parts that look at single tokens, as slow loops written from the papers."""

import math


def _linear(row, layer):
    weight, bias = layer
    return [
        sum(w * x for w, x in zip(line, row, strict=True)) + b
        for line, b in zip(weight, bias, strict=True)
    ]


def token_selection(tokens, importance, valid, ratio, linear, mlp):
    """Qin et al. 2024 (RDE), section 3.2, of one row of tokens."""
    order = sorted(
        (i for i in range(len(tokens)) if valid[i]), key=lambda i: importance[i], reverse=True
    )
    if not order:
        return [0.0] * len(linear[1])

    embedded = []
    for i in order[: max(1, int(ratio * len(order)))]:
        norm = math.sqrt(sum(x * x for x in tokens[i]))
        unit = [x / norm for x in tokens[i]]
        hidden = [max(0.0, x) for x in _linear(unit, mlp[0])]
        sums = zip(_linear(hidden, mlp[1]), _linear(unit, linear), strict=True)
        embedded.append([a + b for a, b in sums])

    return [max(column) for column in zip(*embedded, strict=True)]
