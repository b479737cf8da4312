"""The prompt methods, restated from the papers in plain loops and tensors, without our code."""

import math

import torch


def gem(features, p, eps=1e-6):
    """Radenovic et al., eq. 3, over the positions of one image (positions, channels)."""
    num_positions, num_channels = len(features), len(features[0])
    pooled = []
    for channel in range(num_channels):
        powers = [max(row[channel], eps) ** p for row in features]
        pooled.append((sum(powers) / num_positions) ** (1 / p))
    return pooled


def layer_norm(x, weight, bias, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (variance + eps).sqrt() * weight + bias


def batch_norm(x, weight, bias, eps=1e-5):
    """In training: statistics of the batch."""
    mean = x.mean(0)
    variance = ((x - mean) ** 2).mean(0)
    return (x - mean) / (variance + eps).sqrt() * weight + bias


def linear(x, state, name):
    y = x @ state[f"{name}.weight"].T
    return y + state[f"{name}.bias"] if f"{name}.bias" in state else y


def attention(queries, keys, values, num_heads):
    """Scaled dot-product attention of (n, d) rows, one head after another."""
    width = queries.shape[-1] // num_heads
    parts, weights_of_heads = [], []
    for head in range(num_heads):
        span = slice(head * width, (head + 1) * width)
        logits = queries[:, span] @ keys[:, span].T / math.sqrt(width)
        weights = torch.softmax(logits, dim=-1)
        parts.append(weights @ values[:, span])
        weights_of_heads.append(weights)
    return torch.cat(parts, dim=-1), torch.stack(weights_of_heads).mean(0)


def inversion(v, state):
    """PromptSG: three layers, ReLU between them, BatchNorm last."""
    hidden = torch.relu(linear(v, state, "layers.0"))
    hidden = torch.relu(linear(hidden, state, "layers.2"))
    return batch_norm(linear(hidden, state, "layers.4"), state["norm.weight"], state["norm.bias"])


def cross_attention(text, patches, state, heads):
    """PromptSG: softmax(Q K^T / sqrt d) V of one text over the patches of one image."""
    query = linear(text[None], state, "attention.query")
    keys = linear(patches, state, "attention.key")
    values = linear(patches, state, "attention.value")
    attended, weights = attention(query, keys, values, heads)
    return linear(attended, state, "attention.out")[0], weights[0]


def self_block(x, state, name, heads, norm):
    """A transformer block of one image's tokens (t, d)."""

    def attend(y):
        values = linear(y, state, f"{name}.value")
        if f"{name}.query.weight" in state:
            queries = linear(y, state, f"{name}.query")
            keys = linear(y, state, f"{name}.key")
            values, _ = attention(queries, keys, values, heads)
        return linear(values, state, f"{name}.out")

    def mlp(y):
        hidden = linear(y, state, f"{name}.mlp.0")
        activated = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        return linear(activated, state, f"{name}.mlp.2")

    def norm_1(y):
        return layer_norm(y, state[f"{name}.norm_1.weight"], state[f"{name}.norm_1.bias"])

    def norm_2(y):
        return layer_norm(y, state[f"{name}.norm_2.weight"], state[f"{name}.norm_2.bias"])

    if norm == "post":
        x = norm_1(x + attend(x))
        return norm_2(x + mlp(x))
    x = x + attend(norm_1(x))
    return x + mlp(norm_2(x))


def interaction(text, patches, state, heads, blocks, *, joint, readout, residual, norm, input_norm):
    """One image at a time: cross-attention, then blocks; states as lists of rows."""
    options = {
        "joint": joint,
        "readout": readout,
        "residual": residual,
        "norm": norm,
        "input_norm": input_norm,
    }
    states_of_images, weights_of_images = [], []
    for sentence, tokens in zip(text, patches, strict=True):
        states, weights = _interaction_of_one_image(
            sentence, tokens, state, heads, blocks, **options
        )
        states_of_images.append(states)
        weights_of_images.append(weights)

    embeddings = torch.stack([states[-1] for states in states_of_images])
    return embeddings, states_of_images, torch.stack(weights_of_images)


def _interaction_of_one_image(
    sentence, tokens, state, heads, blocks, *, joint, readout, residual, norm, input_norm
):
    def normed(x, name):
        return layer_norm(x, state[f"{name}.weight"], state[f"{name}.bias"])

    query = sentence
    if input_norm:
        query = normed(sentence, "query_norm")
        tokens = normed(tokens, "visual_norm")
    attended, weights = cross_attention(query, tokens, state, heads)

    row = sentence + attended if residual else attended
    if norm == "post":
        row = normed(row, "attended_norm")

    sequence = row[None]
    if joint:
        sequence = torch.cat([sequence, linear(tokens, state, "projection")])
    states = [row]
    for number in range(blocks):
        sequence = self_block(sequence, state, f"blocks.{number}", heads, norm)
        states.append(sequence[0] if readout == "query" else sequence[1:].mean(0))

    if norm == "pre":
        states[-1] = normed(states[-1], "last_norm")
    return states, weights


def _log_softmax_at(logits, chosen):
    return logits[chosen] - math.log(sum(math.exp(x) for x in logits))


def _cosine(row, other):
    return float((row @ other / row.norm() / other.norm()).detach())


def prompt_stage(images, texts, labels, temperature, normalize):
    """CLIP-ReID, eq. 3 and 4, over the rows of a batch."""
    n = len(labels)
    logits = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(n):
            dot_product = float((images[i] @ texts[j]).detach())
            similarity = _cosine(images[i], texts[j]) if normalize else dot_product
            logits[i][j] = similarity / temperature

    image_to_text = text_to_image = 0.0
    for i in range(n):
        image_to_text -= _log_softmax_at(logits[i], i) / n

        positives = [p for p in range(n) if labels[p] == labels[i]]
        column = [logits[a][i] for a in range(n)]
        log_probabilities = [_log_softmax_at(column, p) for p in positives]
        text_to_image -= sum(log_probabilities) / len(positives) / n
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
    total = 0.0
    for i in range(n):
        logits = [_cosine(rows[i], others[j]) / temperature for j in range(n)]
        positives = [p for p in range(n) if labels[p] == labels[i]]
        log_probabilities = [_log_softmax_at(logits, p) for p in positives]
        total -= sum(log_probabilities) / len(positives)
    return total / n
