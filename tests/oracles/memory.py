"""Losses with a memory or over all classes, as slow loops written from the papers.

They are independent of the library.
"""

import math

from oracles.losses import supcon


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def _unit(row):
    norm = math.sqrt(_dot(row, row))
    return [x / norm if norm else 0.0 for x in row]


def _log_softmax(logits):
    top = max(logits)
    total = top + math.log(sum(math.exp(x - top) for x in logits))
    return [x - total for x in logits]


def image_to_text_ce(images, labels, texts, temperature, label_smoothing, normalize):
    """CLIP-ReID, second stage: cross entropy over the texts of all identities, smoothed."""
    if normalize:
        images = [_unit(image) for image in images]
        texts = [_unit(text) for text in texts]

    losses = []
    for image, label in zip(images, labels, strict=True):
        log_p = _log_softmax([_dot(image, text) / temperature for text in texts])
        target = [label_smoothing / len(texts)] * len(texts)
        target[label] += 1 - label_smoothing
        losses.append(-_dot(target, log_p))

    return sum(losses) / len(losses) if losses else 0.0


class PrototypeMemory:
    """Cluster Contrast: a prototype for each identity, moved after the loss; ``None`` is empty."""

    def __init__(self, num_identities, temperature, momentum, update):
        self.prototypes = [None] * num_identities
        self.temperature = temperature
        self.momentum = momentum
        self.update = update

    def initialize(self, rows, labels):
        for identity in range(len(self.prototypes)):
            mine = [_unit(r) for r, y in zip(rows, labels, strict=True) if y == identity]
            total = [sum(x) for x in zip(*mine, strict=True)]
            self.prototypes[identity] = _unit(total) if mine else None

    def loss(self, rows, labels):
        filled = [k for k, c in enumerate(self.prototypes) if c is not None]
        losses = []
        for row, label in zip(rows, labels, strict=True):
            if label in filled:
                logits = [_dot(_unit(row), self.prototypes[k]) / self.temperature for k in filled]
                losses.append(-_log_softmax(logits)[filled.index(label)])

        return sum(losses) / len(losses) if losses else 0.0

    def move(self, rows, labels, normalise_each=False):
        for identity in sorted(set(labels)):
            mine = [_unit(r) for r, y in zip(rows, labels, strict=True) if y == identity]
            present = self.prototypes[identity]
            mean = [sum(x) / len(mine) for x in zip(*mine, strict=True)]

            if present is None:
                steps, momentum, present = [mean], 0.0, mean
            elif self.update == "each":
                steps, momentum = mine, self.momentum
            elif self.update == "mean":
                steps, momentum = [mean], self.momentum
            else:
                steps = [min(mine, key=lambda z: _dot(z, self.prototypes[identity]))]
                momentum = self.momentum

            for z in steps:
                present = [
                    momentum * c + (1 - momentum) * x for c, x in zip(present, z, strict=True)
                ]
                present = _unit(present) if normalise_each else present

            self.prototypes[identity] = _unit(present)


def camera_prototypes(rows, labels, cameras, memory, temperature, num_negatives, inter_weight):
    """CAP's loss of a batch.

    ``memory`` has the prototypes that exist, by cluster and camera.
    """
    total = 0.0
    for camera in set(cameras):
        losses = []
        for row, label, own in zip(rows, labels, cameras, strict=True):
            if own != camera or (label, camera) not in memory:
                continue

            scores = {key: _dot(_unit(row), c) / temperature for key, c in memory.items()}
            within = [key for key in memory if key[1] == camera]
            log_p = _log_softmax([scores[key] for key in within])
            loss = -log_p[within.index((label, camera))]

            positives = [key for key in memory if key[0] == label and key[1] != camera]
            others = [key for key in memory if key[0] != label]
            hardest = sorted(others, key=lambda key: -scores[key])[:num_negatives]
            log_p = _log_softmax([scores[key] for key in positives + hardest]) if positives else []
            for place in range(len(positives)):
                loss -= inter_weight * log_p[place] / len(positives)
            losses.append(loss)
        total += sum(losses) / len(losses) if losses else 0.0
    return total


def cross_batch_supcon(batches, size, weight, temperature, warmup_steps=0):
    """XBM, algorithm 1, around SupCon: losses of successive batches, each stored after its loss."""
    rows = []
    labels = []
    losses = []
    for step, (batch, batch_labels) in enumerate(batches):
        loss = supcon(batch, batch_labels, temperature)
        if rows:
            loss += weight * supcon(batch, batch_labels, temperature, rows, labels)
        losses.append(loss)

        if step >= warmup_steps:
            rows = (rows + batch)[-size:]
            labels = (labels + batch_labels)[-size:]

    return losses
