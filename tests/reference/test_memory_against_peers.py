"""Cross-batch memory against pytorch-metric-learning, for its term of batch against memory."""

import pytest
import torch

from clipreid_kit import CrossBatchMemory, SupConLoss

pytestmark = pytest.mark.reference


def test_cross_batch_memory_equals_pytorch_metric_learning():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    rng = torch.Generator().manual_seed(5)
    ours = CrossBatchMemory(SupConLoss(0.1), 16, 20)
    pairs = losses.SupConLoss(temperature=0.1)
    peer = losses.CrossBatchMemory(pairs, 16, 20)
    labels = torch.arange(8) // 2

    for step in range(5):  # the memory of 20 is full after two and a half batches
        rows = torch.randn(8, 16, generator=rng)
        alone = SupConLoss(0.1)(rows, labels)
        value = ours(rows, labels)

        if step > 0:
            held = slice(None) if peer.has_been_filled else slice(peer.queue_idx)
            want = pairs(
                rows,
                labels,
                ref_emb=peer.embedding_memory[held],
                ref_labels=peer.label_memory[held],
            )
            assert (value - alone).item() == pytest.approx(want.item(), rel=1e-5)

        peer.add_to_memory(rows, labels, 8)
