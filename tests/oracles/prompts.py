"""The prompt methods, restated from the papers in plain loops and plain tensors; nothing of ours is imported."""

import math

import torch


def gem(features, p, eps=1e-6):
    """Radenovic et al., eq. 3, over the places of one image (places, channels)."""
    places, channels = len(features), len(features[0])
    return [
        (sum(max(features[t][c], eps) ** p for t in range(places)) / places) ** (1 / p)
        for c in range(channels)
    ]


def layer_norm(x, weight, bias, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (variance + eps).sqrt() * weight + bias


def batch_norm(x, weight, bias, eps=1e-5):
    """In training: statistics of the batch."""
    mean, variance = x.mean(0), ((x - x.mean(0)) ** 2).mean(0)
    return (x - mean) / (variance + eps).sqrt() * weight + bias


def linear(x, state, name):
    y = x @ state[f"{name}.weight"].T
    return y + state[f"{name}.bias"] if f"{name}.bias" in state else y


def attention(queries, keys, values, heads):
    """Scaled dot-product attention of (n, d) rows, one head after another."""
    width = queries.shape[-1] // heads
    parts, weights = [], []
    for h in range(heads):
        span = slice(h * width, (h + 1) * width)
        share = torch.softmax(queries[:, span] @ keys[:, span].T / math.sqrt(width), dim=-1)
        parts.append(share @ values[:, span])
        weights.append(share)
    return torch.cat(parts, dim=-1), torch.stack(weights).mean(0)


def inversion(v, state):
    """PromptSG: three layers, ReLU between them, BatchNorm last."""
    hidden = torch.relu(linear(v, state, "layers.0"))
    hidden = torch.relu(linear(hidden, state, "layers.2"))
    return batch_norm(linear(hidden, state, "layers.4"), state["norm.weight"], state["norm.bias"])


def cross_attention(text, patches, state, heads):
    """PromptSG: softmax(Q K^T / sqrt d) V of one text over the patches of one image, with output layer."""
    q = linear(text[None], state, "attention.query")
    k = linear(patches, state, "attention.key")
    v = linear(patches, state, "attention.value")
    seen, weights = attention(q, k, v, heads)
    return linear(seen, state, "attention.out")[0], weights[0]


def self_block(x, state, name, heads, norm):
    """A transformer block of one image's tokens (t, d)."""

    def attend(y):
        value = linear(y, state, f"{name}.value")
        if f"{name}.query.weight" in state:
            q, k = linear(y, state, f"{name}.query"), linear(y, state, f"{name}.key")
            value, _ = attention(q, k, value, heads)
        return linear(value, state, f"{name}.out")

    def mlp(y):
        hidden = linear(y, state, f"{name}.mlp.0")
        return linear(hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))), state, f"{name}.mlp.2")

    first = state[f"{name}.norm_1.weight"], state[f"{name}.norm_1.bias"]
    second = state[f"{name}.norm_2.weight"], state[f"{name}.norm_2.bias"]
    if norm == "post":
        x = layer_norm(x + attend(x), *first)
        return layer_norm(x + mlp(x), *second)
    x = x + attend(layer_norm(x, *first))
    return x + mlp(layer_norm(x, *second))


def interaction(text, patches, state, heads, blocks, *, joint, readout, residual, norm, input_norm):
    """One image at a time: cross-attention, then blocks; states as lists of rows."""
    embeddings, all_states, all_weights = [], [], []
    for sentence, x in zip(text, patches, strict=True):
        query, tokens = sentence, x
        if input_norm:
            query = layer_norm(sentence, state["query_norm.weight"], state["query_norm.bias"])
            tokens = layer_norm(x, state["visual_norm.weight"], state["visual_norm.bias"])
        seen, weights = cross_attention(query, tokens, state, heads)
        row = sentence + seen if residual else seen
        if norm == "post":
            row = layer_norm(row, state["attended_norm.weight"], state["attended_norm.bias"])
        sequence = (
            torch.cat([row[None], linear(tokens, state, "projection")]) if joint else row[None]
        )
        states = [row]
        for b in range(blocks):
            sequence = self_block(sequence, state, f"blocks.{b}", heads, norm)
            states.append(sequence[0] if readout == "query" else sequence[1:].mean(0))
        if norm == "pre":
            states[-1] = layer_norm(states[-1], state["last_norm.weight"], state["last_norm.bias"])
        embeddings.append(states[-1])
        all_states.append(states)
        all_weights.append(weights)
    return torch.stack(embeddings), all_states, torch.stack(all_weights)


def _log_softmax_at(logits, chosen):
    return logits[chosen] - math.log(sum(math.exp(x) for x in logits))


def prompt_stage(images, texts, labels, temperature, normalize):
    """CLIP-ReID, eq. 3 and 4, over the rows of a batch."""
    unit = lambda row: row / row.norm() if normalize else row  # noqa: E731
    v, t = [unit(row) for row in images], [unit(row) for row in texts]
    n = len(labels)
    s = [[float((v[i] @ t[j]).detach()) / temperature for j in range(n)] for i in range(n)]
    image_to_text = text_to_image = 0.0
    for i in range(n):
        same = [p for p in range(n) if labels[p] == labels[i]]
        image_to_text -= _log_softmax_at(s[i], i) / n
        column = [s[a][i] for a in range(n)]
        text_to_image -= sum(_log_softmax_at(column, p) for p in same) / len(same) / n
    return image_to_text, text_to_image


def smoothed_ce(logits, labels, smoothing):
    """Cross-entropy with q = (1 - eps) [c = y] + eps / C, mean over rows."""
    total = 0.0
    for row, label in zip(logits.tolist(), labels, strict=True):
        classes = len(row)
        target = [(1 - smoothing) * (c == label) + smoothing / classes for c in range(classes)]
        total -= sum(q * _log_softmax_at(row, c) for c, q in enumerate(target))
    return total / len(labels)


def batch_hard_triplet(rows, labels, margin):
    """Farthest positive, nearest negative, Euclidean, mean over anchors that have both."""
    losses = []
    for i in range(len(rows)):
        distances = [float((rows[i] - row).detach().norm()) for row in rows]
        positives = [d for j, d in enumerate(distances) if j != i and labels[j] == labels[i]]
        negatives = [d for j, d in enumerate(distances) if labels[j] != labels[i]]
        if positives and negatives:
            losses.append(max(0.0, max(positives) - min(negatives) + margin))
    return sum(losses) / len(losses) if losses else 0.0


def supcon_across(rows, others, labels, temperature):
    """PromptSG, eq. 5, mean over positives; by cosine, with the pair itself."""
    n = len(labels)
    unit = lambda row: row / row.norm()  # noqa: E731
    total = 0.0
    for i in range(n):
        logits = [float((unit(rows[i]) @ unit(others[j])).detach()) / temperature for j in range(n)]
        same = [p for p in range(n) if labels[p] == labels[i]]
        total -= sum(_log_softmax_at(logits, p) for p in same) / len(same)
    return total / n
