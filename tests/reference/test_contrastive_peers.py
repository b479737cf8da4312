"""Contrastive losses equal the installed peers, in value and gradient."""

import pytest
import torch
import torch.nn.functional as F

from clipreid_kit import InfoNCELoss, SigLIPLoss, SupConLoss

pytestmark = pytest.mark.reference


@pytest.fixture
def leaves():
    rng = torch.Generator().manual_seed(5)
    images, texts = torch.randn(24, 16, generator=rng), torch.randn(24, 16, generator=rng)
    return images.requires_grad_(), texts.requires_grad_(), torch.arange(24) // 4


def compare(got, want, leaves):
    torch.testing.assert_close(got, want, rtol=1e-5, atol=0)

    got_gradients = torch.autograd.grad(got, leaves)
    want_gradients = torch.autograd.grad(want, leaves)
    torch.testing.assert_close(got_gradients, want_gradients, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("block_size", [None, 5])
def test_supcon_across_modalities_equals_pytorch_metric_learning(leaves, block_size):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    images, texts, labels = leaves
    peer = losses.SupConLoss(temperature=0.1)
    ours = SupConLoss(0.1, block_size=block_size)
    compare(ours(images, labels), peer(images, labels), [images])

    # a clone: where both labels are one tensor, the peer takes the rows for the same ones and drops
    # the true pairs
    want = peer(images, labels, ref_emb=texts, ref_labels=labels.clone())
    compare(ours(images, labels, texts, labels), want, [images, texts])


@pytest.mark.parametrize("block_size", [None, 5])
def test_info_nce_equals_open_clip_with_a_learned_scale(leaves, block_size):
    from open_clip.loss import ClipLoss

    images, texts, _ = leaves
    loss = InfoNCELoss(0.07, learnable=True, block_size=block_size)
    want = ClipLoss()(F.normalize(images, dim=1), F.normalize(texts, dim=1), loss.log_scale.exp())
    compare(loss(images, texts), want, [images, texts, loss.log_scale])


@pytest.mark.parametrize("block_size", [None, 5])
def test_siglip_equals_open_clip(leaves, block_size):
    from open_clip.loss import SigLipLoss

    images, texts, _ = leaves
    loss = SigLIPLoss(block_size=block_size)
    units = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    want = SigLipLoss()(*units, loss.log_scale.exp(), loss.bias)
    compare(loss(images, texts), want, [images, texts, loss.log_scale, loss.bias])
