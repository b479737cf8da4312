"""Losses over all identities or with a memory, and contrastive steps with cached gradients."""

from collections import defaultdict

import torch
from pytorch_metric_learning import losses
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.losses.step import seeded, step
from benchmarks.measure import OURS, Work
from clipreid_kit import (
    CachedContrastive,
    CrossBatchMemory,
    ImageToTextCELoss,
    InfoNCELoss,
    PrototypeMemoryLoss,
    SupConLoss,
)

DIM = 512
INSTANCES = 4
IDENTITIES = 10_000
MEMORY = 8192
CHUNK = 64


class ClusterMemory(nn.Module):
    """The usual algorithm: cross entropy of all logits, then a loop over the batch's identities."""

    def __init__(self, rows: Tensor, momentum: float = 0.2, temperature: float = 0.05) -> None:
        super().__init__()
        self.rows = functional.normalize(rows, dim=1)
        self.momentum = momentum
        self.temperature = temperature

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        unit = functional.normalize(embeddings, dim=1)
        loss = functional.cross_entropy(unit @ self.rows.clone().T / self.temperature, labels)

        groups = defaultdict(list)
        for row, label in zip(unit.detach(), labels.tolist(), strict=True):
            groups[label].append(row)

        for label, members in groups.items():
            hardest = min(members, key=lambda row: float(row @ self.rows[label]))
            moved = self.momentum * self.rows[label] + (1 - self.momentum) * hardest
            self.rows[label] = moved / moved.norm()

        return loss


class SmallViT(nn.Module):
    """Sixteen patches of 48 numbers, two blocks of width 64."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            64, 4, 256, dropout=0.0, batch_first=True, norm_first=True
        )
        self.patches = nn.Linear(48, 64)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, images: Tensor) -> Tensor:
        encoded: Tensor = self.blocks(self.patches(images)).mean(dim=1)
        return encoded


def contenders(batch: int) -> dict[str, dict[str, Work]]:
    """Cases at one batch size, each with its contenders."""
    generator = seeded(0)
    rows = torch.randn(batch, DIM, generator=generator)
    labels = torch.arange(batch) // INSTANCES
    texts = torch.randn(IDENTITIES, DIM, generator=generator)

    cases = {
        "image-to-text CE, C = 10000, cosine": image_to_text_by_cosine(rows, labels, texts),
        "image-to-text CE, C = 10000, raw": image_to_text_raw(rows, labels, texts),
        "prototype memory, C = 10000, hardest": prototype_memory(rows, labels, texts),
    }

    # The peer holds N x M pairs in several copies.
    if batch <= 512:
        cases["cross-batch memory, M = 8192, SupCon"] = cross_batch_memory(rows, labels, generator)

    if batch > CHUNK:
        cases["InfoNCE of two small ViTs, chunks of 64"] = cached_contrastive(batch, generator)

    return cases


def image_to_text_by_cosine(rows: Tensor, labels: Tensor, texts: Tensor) -> dict[str, Work]:
    loss = ImageToTextCELoss()
    unit_texts = functional.normalize(texts, dim=1)

    def plain(r: Tensor) -> Tensor:
        logits = functional.normalize(r, dim=1) @ unit_texts.T / 0.01
        return functional.cross_entropy(logits, labels, label_smoothing=0.1)

    return {
        OURS: step(rows, lambda r: loss(r, labels, texts)),
        "torch, texts normalised beforehand": step(rows, plain),
    }


def image_to_text_raw(rows: Tensor, labels: Tensor, texts: Tensor) -> dict[str, Work]:
    loss = ImageToTextCELoss(1.0, normalize=False)

    def plain(r: Tensor) -> Tensor:
        return functional.cross_entropy(r @ texts.T, labels, label_smoothing=0.1)

    return {OURS: step(rows, lambda r: loss(r, labels, texts)), "torch": step(rows, plain)}


def prototype_memory(rows: Tensor, labels: Tensor, texts: Tensor) -> dict[str, Work]:
    loss = PrototypeMemoryLoss(DIM, IDENTITIES)
    loss.initialize(texts, torch.arange(IDENTITIES))
    restated = ClusterMemory(texts)

    return {
        OURS: step(rows, lambda r: loss(r, labels)),
        "loop over identities": step(rows, lambda r: restated(r, labels)),
    }


def cross_batch_memory(rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Work]:
    stored = torch.randn(MEMORY, DIM, generator=generator)
    stored_labels = torch.arange(MEMORY) // INSTANCES

    ours = CrossBatchMemory(SupConLoss(), DIM, MEMORY)
    ours.queue.enqueue(stored, stored_labels)
    peer = losses.CrossBatchMemory(losses.SupConLoss(temperature=0.07), DIM, MEMORY)
    peer.add_to_memory(stored, stored_labels, MEMORY)

    return {
        OURS: step(rows, lambda r: ours(r, labels)),
        "pytorch-metric-learning": step(rows, lambda r: peer(r, labels)),
    }


def cached_contrastive(batch: int, generator: torch.Generator) -> dict[str, Work]:
    torch.manual_seed(0)
    image_tower = SmallViT()
    text_tower = SmallViT()
    loss = InfoNCELoss()
    images, captions = torch.randn(2, batch, 16, 48, generator=generator).unbind()
    cached = CachedContrastive(image_tower, text_tower, loss, chunk_size=CHUNK)

    # Three quarters of the chunks.
    kept = CachedContrastive(
        image_tower, text_tower, loss, chunk_size=CHUNK, kept_chunks=3 * batch // (4 * CHUNK)
    )

    return {
        OURS: lambda: cached(images, captions).backward(),
        "ours, three quarters kept": lambda: kept(images, captions).backward(),
        "one graph": lambda: loss(image_tower(images), text_tower(captions)).backward(),
    }
