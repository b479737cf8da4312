"""Blocks change nothing but memory: every loss of all pairs, at every block size, against plain autograd."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from clipreid_kit.distances import l2_normalize
from clipreid_kit.losses import (
    InfoNCELoss,
    SupConLoss,
    _blocks,
    hard_negative_contrastive_loss,
    info_nce_loss,
    siglip_loss,
    supcon_loss,
)

ROWS, DIM = 13, 5
LABELS = torch.tensor([0, 1, 0, 2, 2, 3, 1, 0, 4, 4, 5, 2, 0])


def plain_supcon(a, c, labels, other, tau, positives, among):
    logits = a @ c.T / tau
    same = labels[:, None] == other[None, :]
    if among:
        itself = torch.eye(len(a), dtype=torch.bool)
        logits, same = logits.masked_fill(itself, -torch.inf), same & ~itself
    count = same.sum(dim=1)
    loss = -torch.where(same, logits.log_softmax(dim=1), 0.0).sum(dim=1)
    loss = loss / count.clamp(min=1) if positives == "mean" else loss
    return loss.sum() / (count > 0).sum()


def plain_info_nce(images, texts, tau, siblings=None):
    logits, true = images @ texts.T / tau, torch.arange(len(images))
    if siblings is not None:
        same = (siblings[:, None] == siblings) & ~torch.eye(len(images), dtype=torch.bool)
        logits = logits.masked_fill(same, -torch.inf)
    return (F.cross_entropy(logits, true) + F.cross_entropy(logits.T, true)) / 2


def plain_siglip(images, texts, labels, other, tau, bias):
    sign = torch.where(labels[:, None] == other[None, :], 1.0, -1.0).to(images.dtype)
    return -F.logsigmoid(sign * (images @ texts.T / tau + bias)).sum() / len(images)


def plain_hard(images, texts, labels, tau, margin, k):
    negative = (images @ texts.T).masked_fill(labels[:, None] == labels, -torch.inf)
    hinges = [(negative.topk(k, dim=dim).values - margin).relu().mean() for dim in (0, 1)]
    return plain_info_nce(images, texts, tau, labels) + sum(hinges) / 2


TEXT_LABELS = LABELS.roll(3)
# name: (ours with a block size, plain autograd on unit rows); both of (images, texts, temperature, bias)
CASES = {
    "supcon": (
        lambda v, t, tau, b, size: supcon_loss(v, LABELS, temperature=0.2, block_size=size),
        lambda v, t, tau, b: plain_supcon(v, v, LABELS, LABELS, 0.2, "mean", True),
    ),
    "supcon-sum": (
        lambda v, t, tau, b, size: supcon_loss(
            v, LABELS, temperature=0.2, positives="sum", block_size=size
        ),
        lambda v, t, tau, b: plain_supcon(v, v, LABELS, LABELS, 0.2, "sum", True),
    ),
    "supcon-text": (
        lambda v, t, tau, b, size: supcon_loss(
            v, LABELS, t, TEXT_LABELS, temperature=0.2, block_size=size
        ),
        lambda v, t, tau, b: plain_supcon(v, t, LABELS, TEXT_LABELS, 0.2, "mean", False),
    ),
    "supcon-text-sum": (
        lambda v, t, tau, b, size: supcon_loss(
            v, LABELS, t[:4], TEXT_LABELS[:4], temperature=0.2, positives="sum", block_size=size
        ),
        lambda v, t, tau, b: plain_supcon(v, t[:4], LABELS, TEXT_LABELS[:4], 0.2, "sum", False),
    ),
    "info_nce": (
        lambda v, t, tau, b, size: info_nce_loss(v, t, temperature=tau, block_size=size),
        lambda v, t, tau, b: plain_info_nce(v, t, tau),
    ),
    "siglip": (
        lambda v, t, tau, b, size: siglip_loss(v, t, temperature=tau, bias=b, block_size=size),
        lambda v, t, tau, b: plain_siglip(v, t, torch.arange(ROWS), torch.arange(ROWS), tau, b),
    ),
    "siglip-labels": (
        lambda v, t, tau, b, size: siglip_loss(
            v, t[:4], LABELS, TEXT_LABELS[:4], temperature=tau, bias=b, block_size=size
        ),
        lambda v, t, tau, b: plain_siglip(v, t[:4], LABELS, TEXT_LABELS[:4], tau, b),
    ),
    "hard_negative": (
        lambda v, t, tau, b, size: hard_negative_contrastive_loss(
            v, t, LABELS, temperature=0.2, margin=-0.1, block_size=size
        ),
        lambda v, t, tau, b: plain_hard(v, t, LABELS, 0.2, -0.1, 3),
    ),
}


def inputs(dtype=torch.float64):
    rng = torch.Generator().manual_seed(4)
    images = 3 * torch.randn(ROWS, DIM, generator=rng)
    texts = 0.2 * torch.randn(ROWS, DIM, generator=rng)
    values = [images, texts, torch.tensor(0.2), torch.tensor(-1.5)]
    return [value.to(dtype).requires_grad_() for value in values]


def gradients(loss, leaves, scale=1.0):
    found = torch.autograd.grad(scale * loss, leaves, allow_unused=True)
    return [
        torch.zeros_like(leaf) if one is None else one
        for one, leaf in zip(found, leaves, strict=True)
    ]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return CASES[request.param]


@pytest.mark.parametrize("size", [None, 1, 3, ROWS - 1, ROWS, 100])
def test_value_and_gradient_are_those_of_plain_autograd(case, size):
    ours, plain = case
    leaves = inputs()
    want = plain(l2_normalize(leaves[0]), l2_normalize(leaves[1]), *leaves[2:])
    got = ours(*leaves, size)
    torch.testing.assert_close(got, want)
    for one, other in zip(gradients(got, leaves, 3.0), gradients(want, leaves, 3.0), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kept", [0, 10_000])
def test_the_automatic_choice_gives_the_same(case, kept, monkeypatch):
    leaves = inputs(torch.float32)
    want = gradients(case[0](*leaves, None), leaves)
    monkeypatch.setattr(_blocks, "CACHED", 3 * ROWS)
    monkeypatch.setattr(_blocks, "KEPT", kept)
    assert len(_blocks.spans(None, ROWS, ROWS, torch.device("cpu"))) == 5
    for one, other in zip(gradients(case[0](*leaves, None), leaves), want, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("asked", [(0,), (1,), (2,), (3,), (1, 3)], ids=str)
def test_only_what_is_asked_for_gets_a_gradient(case, asked):
    leaves = inputs()
    for number, leaf in enumerate(leaves):
        leaf.requires_grad_(number in asked)
    got = case[0](*leaves, 4)
    want = case[1](l2_normalize(leaves[0]), l2_normalize(leaves[1]), *leaves[2:])
    assert got.requires_grad == want.requires_grad
    if want.requires_grad:
        chosen = [leaves[number] for number in asked]
        for one, other in zip(gradients(got, chosen), gradients(want, chosen), strict=True):
            torch.testing.assert_close(one, other)


def test_without_gradient_the_value_is_the_same(case):
    leaves = inputs()
    want = case[0](*leaves, 4)
    with torch.no_grad():
        got = case[0](*leaves, 4)
    assert torch.equal(got, want)
    assert not got.requires_grad
    with torch.inference_mode():
        assert torch.equal(case[0](*leaves, 4), want)


def test_backward_may_run_twice(case):
    leaves = inputs()
    loss = case[0](*leaves, 4)
    first = torch.autograd.grad(loss, leaves[0], retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(loss, leaves[0])[0], first)


def test_a_second_derivative_is_an_error_and_not_a_zero(case):
    leaves = inputs()
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(case[0](*leaves, None), leaves[0], create_graph=True)


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that any operation returned."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for part in tree_iter(result):
            if isinstance(part, torch.Tensor):
                self.numbers = max(self.numbers, part.untyped_storage().nbytes() // 4)
        return result


@pytest.mark.unhooked
@pytest.mark.parametrize(
    "name", ["supcon", "supcon-text", "info_nce", "siglip", "siglip-labels", "hard_negative"]
)
def test_the_matrix_is_never_held(name):
    rows, labels = torch.randn(256, 4, requires_grad=True), torch.arange(256) // 4
    texts = torch.randn(256, 4, requires_grad=True)
    call = {
        "supcon": lambda: supcon_loss(rows, labels, block_size=8),
        "supcon-text": lambda: supcon_loss(rows, labels, texts, labels, block_size=8),
        "info_nce": lambda: info_nce_loss(rows, texts, block_size=8),
        "siglip": lambda: siglip_loss(rows, texts, block_size=8),
        "siglip-labels": lambda: siglip_loss(rows, texts, labels, block_size=8),
        "hard_negative": lambda: hard_negative_contrastive_loss(rows, texts, labels, block_size=8),
    }[name]
    with Largest() as seen:
        call().backward()
    assert 0 < seen.numbers <= 2 * 8 * 256  # int64 and bool count by bytes
    assert torch.isfinite(rows.grad).all()


def test_two_runs_keep_or_compute_again():
    calls = []

    def compute(start, stop):
        calls.append((start, stop))
        return torch.arange(start, stop)

    def run(size, rows, columns):
        calls.clear()
        runs = _blocks.TwoRuns(compute, size, rows, columns, torch.device("cpu"))
        first = [(start, stop, block.tolist()) for start, stop, block in runs.read()]
        assert [(start, stop, block.tolist()) for start, stop, block in runs.overwrite()] == first
        return list(calls)

    assert run(None, 5, 5) == [(0, 5)]
    assert run(5, 5, 5) == [(0, 5)]
    assert run(2, 5, 5) == [(0, 2), (2, 4), (4, 5)] * 2  # a size that the caller set is a promise
    wide = _blocks.CACHED // 2
    assert run(None, 5, wide) == [(0, 2), (2, 4), (4, 5)]
    assert run(None, 50, wide) == run(2, 50, wide)


def test_automatic_blocks_are_larger_off_the_cpu():
    assert _blocks.spans(None, 4096, 4096, torch.device("cpu"))[0] == (0, 256)
    assert _blocks.spans(None, 4096, 4096, torch.device("meta")) == [(0, 4096)]
    assert _blocks.spans(None, 2, 2**30, torch.device("cpu")) == [(0, 1), (1, 2)]


@pytest.mark.parametrize("first", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("second", [torch.float16, torch.float64])
def test_two_precisions(first, second):
    images, texts = (
        torch.randn(4, 3).to(first).requires_grad_(),
        torch.randn(4, 3).to(second).requires_grad_(),
    )
    labels = torch.tensor([0, 0, 1, 1])
    for loss in (
        info_nce_loss(images, texts),
        siglip_loss(images, texts),
        supcon_loss(images, labels, texts, labels),
    ):
        assert loss.dtype == (torch.float64 if torch.float64 in (first, second) else torch.float32)
        loss.backward()
    assert images.grad.dtype == first
    assert texts.grad.dtype == second


@pytest.mark.unhooked
@pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning"
)  # torch 2.6, of its own making
@pytest.mark.parametrize("size", [None, 7])
@pytest.mark.parametrize(
    "name", ["supcon", "supcon-text", "info_nce", "siglip-labels", "hard_negative"]
)
def test_compiles_with_its_gradient(name, size):
    torch._dynamo.reset()
    ours = CASES[name][0]
    leaves = inputs(torch.float32)
    compiled = torch.compile(lambda *four: ours(*four, size), fullgraph=True, backend="aot_eager")
    got, want = compiled(*leaves), ours(*leaves, size)
    assert got.item() == pytest.approx(want.item(), rel=1e-5)
    for one, other in zip(gradients(got, leaves), gradients(want, leaves), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("module", [SupConLoss, InfoNCELoss])
def test_wrong_block_size(module):
    for wrong in (0, -1, True):
        with pytest.raises(ValueError, match="block_size as a whole number >= 1"):
            module(block_size=wrong)
    assert "block_size=7" in repr(module(block_size=7))
