"""Pooling of frames in plain loops, written from the formulas."""

import math


def mean(frames):
    """Mean of a list of vectors."""
    return [sum(values) / len(frames) for values in zip(*frames, strict=True)]


def attention(frames, weight, bias, score):
    """Sum of the frames, each with the softmax of v . tanh(W x + b)."""
    logits = []
    for frame in frames:
        logit = 0.0
        for row, offset, factor in zip(weight, bias, score, strict=True):
            inner = sum(w * x for w, x in zip(row, frame, strict=True)) + offset
            logit += factor * math.tanh(inner)
        logits.append(logit)

    exponentials = [math.exp(logit) for logit in logits]
    total = sum(exponentials)
    pooled = [0.0] * len(frames[0])
    for frame, exponential in zip(frames, exponentials, strict=True):
        for i, value in enumerate(frame):
            pooled[i] += exponential / total * value
    return pooled


def position(table, index, count):
    """Learned position at (index + 1/2) / count of a tracklet, between two rows in proportion."""
    last = len(table) - 1
    place = min(max((index + 0.5) / count * len(table) - 0.5, 0.0), float(last))
    before = math.floor(place)
    after = min(before + 1, last)
    part = place - before
    return [(1 - part) * a + part * b for a, b in zip(table[before], table[after], strict=True)]


def layer_norm(vector, weight, bias):
    """LayerNorm of a vector."""
    centre = sum(vector) / len(vector)
    variance = sum((x - centre) ** 2 for x in vector) / len(vector)
    scale = math.sqrt(variance + 1e-5)
    return [w * (x - centre) / scale + b for x, w, b in zip(vector, weight, bias, strict=True)]


def linear(vector, weight, bias=None):
    """Linear layer on a vector."""
    out = [sum(w * x for w, x in zip(row, vector, strict=True)) for row in weight]
    return out if bias is None else [o + b for o, b in zip(out, bias, strict=True)]


def gelu(x):
    """GELU by the error function."""
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def block(tokens, p, num_heads):
    """Pre-norm transformer block; p holds its parameters by name, as lists."""
    normed = [layer_norm(t, p["norm_1.weight"], p["norm_1.bias"]) for t in tokens]
    queries = [linear(t, p["query.weight"], p["query.bias"]) for t in normed]
    keys = [linear(t, p["key.weight"]) for t in normed]
    values = [linear(t, p["value.weight"], p["value.bias"]) for t in normed]
    width = len(tokens[0]) // num_heads

    after = []
    for token, query in zip(tokens, queries, strict=True):
        joined = []
        for head in range(num_heads):
            part = slice(head * width, (head + 1) * width)
            logits = [
                sum(q * k for q, k in zip(query[part], key[part], strict=True)) / math.sqrt(width)
                for key in keys
            ]
            weights = [math.exp(logit) for logit in logits]
            total = sum(weights)
            for i in range(width):
                joined.append(
                    sum(w / total * v[part][i] for w, v in zip(weights, values, strict=True))
                )
        attended = linear(joined, p["out.weight"], p["out.bias"])
        after.append([t + a for t, a in zip(token, attended, strict=True)])

    result = []
    for token in after:
        hidden = layer_norm(token, p["norm_2.weight"], p["norm_2.bias"])
        hidden = [gelu(x) for x in linear(hidden, p["mlp.0.weight"], p["mlp.0.bias"])]
        change = linear(hidden, p["mlp.2.weight"], p["mlp.2.bias"])
        result.append([t + c for t, c in zip(token, change, strict=True)])
    return result
