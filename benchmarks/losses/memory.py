"""Losses over all identities and with a memory; contrastive steps with cached gradients against one graph."""

from collections import defaultdict

import torch
from pytorch_metric_learning import losses
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.losses.step import step
from benchmarks.measure import OURS, Work
from clipreid_kit import (
    CachedContrastive,
    CrossBatchMemory,
    ImageToTextCELoss,
    InfoNCELoss,
    PrototypeMemoryLoss,
    SupConLoss,
)

DIM, INSTANCES, IDENTITIES, MEMORY, CHUNK = 512, 4, 10_000, 8192, 64


class ClusterMemory(nn.Module):
    """The usual algorithm: cross-entropy of all logits, then a loop over the identities of the batch."""

    def __init__(self, rows: Tensor, momentum: float = 0.2, temperature: float = 0.05) -> None:
        super().__init__()
        self.rows = functional.normalize(rows, dim=1)
        self.momentum, self.temperature = momentum, temperature

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
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(batch, DIM, generator=rng)
    labels = torch.arange(batch) // INSTANCES
    texts = torch.randn(IDENTITIES, DIM, generator=rng)
    unit_texts = functional.normalize(texts, dim=1)
    cosine, raw = ImageToTextCELoss(), ImageToTextCELoss(1.0, normalize=False)
    prototypes, restated = PrototypeMemoryLoss(DIM, IDENTITIES), ClusterMemory(texts)
    prototypes.initialize(texts, torch.arange(IDENTITIES))
    ours_queue = CrossBatchMemory(SupConLoss(), DIM, MEMORY)
    peer_queue = losses.CrossBatchMemory(losses.SupConLoss(temperature=0.07), DIM, MEMORY)
    fill, fill_labels = torch.randn(MEMORY, DIM, generator=rng), torch.arange(MEMORY) // INSTANCES
    ours_queue.queue.enqueue(fill, fill_labels)
    peer_queue.add_to_memory(fill, fill_labels, MEMORY)
    cases = {
        "image-to-text CE, C = 10000, cosine": {
            OURS: step(rows, lambda r: cosine(r, labels, texts)),
            "torch, texts normalised beforehand": step(
                rows,
                lambda r: functional.cross_entropy(
                    functional.normalize(r, dim=1) @ unit_texts.T / 0.01,
                    labels,
                    label_smoothing=0.1,
                ),
            ),
        },
        "image-to-text CE, C = 10000, raw": {
            OURS: step(rows, lambda r: raw(r, labels, texts)),
            "torch": step(
                rows, lambda r: functional.cross_entropy(r @ texts.T, labels, label_smoothing=0.1)
            ),
        },
        "prototype memory, C = 10000, hardest": {
            OURS: step(rows, lambda r: prototypes(r, labels)),
            "loop over identities": step(rows, lambda r: restated(r, labels)),
        },
    }
    if batch <= 512:  # the peer holds N x M pairs in several copies
        cases["cross-batch memory, M = 8192, SupCon"] = {
            OURS: step(rows, lambda r: ours_queue(r, labels)),
            "pytorch-metric-learning": step(rows, lambda r: peer_queue(r, labels)),
        }
    if batch > CHUNK:
        torch.manual_seed(0)
        image, text, loss = SmallViT(), SmallViT(), InfoNCELoss()
        images, captions = torch.randn(2, batch, 16, 48, generator=rng).unbind()
        cached = CachedContrastive(image, text, loss, chunk_size=CHUNK)
        cases["InfoNCE of two small ViTs, chunks of 64"] = {
            OURS: lambda: cached(images, captions).backward(),
            "one graph": lambda: loss(image(images), text(captions)).backward(),
        }
    return cases
