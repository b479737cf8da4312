"""Blocks change only the memory: every loss of all pairs, in any blocks, equals its definition."""

from typing import NamedTuple

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from clipreid_kit.losses import (
    InfoNCELoss,
    SupConLoss,
    hard_negative_contrastive_loss,
    info_nce_loss,
    siglip_loss,
    supcon_loss,
)
from clipreid_kit.losses._engine import row_blocks
from clipreid_kit.losses.hard_negative import hard_negative_contrastive_definition
from clipreid_kit.losses.info_nce import info_nce_definition
from clipreid_kit.losses.siglip import siglip_definition
from clipreid_kit.losses.supcon import supcon_definition

NUM_ROWS, DIM = 13, 5
LABELS = torch.tensor([0, 1, 0, 2, 2, 3, 1, 0, 4, 4, 5, 2, 0])
TEXT_LABELS = LABELS.roll(3)

CPU = torch.device("cpu")


class Inputs(NamedTuple):
    images: torch.Tensor
    texts: torch.Tensor
    temperature: torch.Tensor
    bias: torch.Tensor


# Each calls an engine or a definition with the inputs, and with a block size for the engine.


def supcon(loss, inputs, **block_size):
    return loss(inputs.images, LABELS, temperature=0.2, **block_size)


def supcon_sum(loss, inputs, **block_size):
    return loss(inputs.images, LABELS, temperature=0.2, positives="sum", **block_size)


def supcon_text(loss, inputs, **block_size):
    return loss(inputs.images, LABELS, inputs.texts, TEXT_LABELS, temperature=0.2, **block_size)


def supcon_text_sum(loss, inputs, **block_size):
    return loss(
        inputs.images,
        LABELS,
        inputs.texts[:4],
        TEXT_LABELS[:4],
        temperature=0.2,
        positives="sum",
        **block_size,
    )


def info_nce(loss, inputs, **block_size):
    return loss(inputs.images, inputs.texts, temperature=inputs.temperature, **block_size)


def siglip(loss, inputs, **block_size):
    return loss(
        inputs.images,
        inputs.texts,
        temperature=inputs.temperature,
        bias=inputs.bias,
        **block_size,
    )


def siglip_labels(loss, inputs, **block_size):
    return loss(
        inputs.images,
        inputs.texts[:4],
        LABELS,
        TEXT_LABELS[:4],
        temperature=inputs.temperature,
        bias=inputs.bias,
        **block_size,
    )


def hard_negative(loss, inputs, **block_size):
    return loss(inputs.images, inputs.texts, LABELS, temperature=0.2, margin=-0.1, **block_size)


# name: (how it is called, engine, definition)
CASES = {
    "supcon": (supcon, supcon_loss, supcon_definition),
    "supcon-sum": (supcon_sum, supcon_loss, supcon_definition),
    "supcon-text": (supcon_text, supcon_loss, supcon_definition),
    "supcon-text-sum": (supcon_text_sum, supcon_loss, supcon_definition),
    "info_nce": (info_nce, info_nce_loss, info_nce_definition),
    "siglip": (siglip, siglip_loss, siglip_definition),
    "siglip-labels": (siglip_labels, siglip_loss, siglip_definition),
    "hard_negative": (
        hard_negative,
        hard_negative_contrastive_loss,
        hard_negative_contrastive_definition,
    ),
}


class Case:
    def __init__(self, name):
        self._call, self._engine, self._definition = CASES[name]

    def engine(self, inputs, block_size):
        return self._call(self._engine, inputs, block_size=block_size)

    def definition(self, inputs):
        return self._call(self._definition, inputs)


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return Case(request.param)


def new_inputs(dtype=torch.float64):
    rng = torch.Generator().manual_seed(4)
    images = 3 * torch.randn(NUM_ROWS, DIM, generator=rng)
    texts = 0.2 * torch.randn(NUM_ROWS, DIM, generator=rng)
    values = [images, texts, torch.tensor(0.2), torch.tensor(-1.5)]

    return Inputs(*(value.to(dtype).requires_grad_() for value in values))


def gradients(loss, leaves, scale=1.0):
    """Gradient by each leaf, zero where the loss does not depend on it."""
    found = torch.autograd.grad(scale * loss, leaves, allow_unused=True)

    return [
        torch.zeros_like(leaf) if gradient is None else gradient
        for gradient, leaf in zip(found, leaves, strict=True)
    ]


@pytest.mark.parametrize("block_size", [None, 1, 3, NUM_ROWS - 1, NUM_ROWS, 100])
def test_value_and_gradient_are_those_of_the_definition(case, block_size):
    inputs = new_inputs()

    want = case.definition(inputs)
    got = case.engine(inputs, block_size)

    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs, 3.0), gradients(want, inputs, 3.0))


@pytest.mark.parametrize("kept", [0, 10_000])
def test_the_automatic_choice_gives_the_same(case, kept, monkeypatch):
    inputs = new_inputs(torch.float32)
    want = gradients(case.engine(inputs, None), inputs)

    monkeypatch.setattr(row_blocks, "CPU_BLOCK_ELEMENTS", 3 * NUM_ROWS)
    monkeypatch.setattr(row_blocks, "KEPT_ELEMENTS", kept)
    assert len(row_blocks.row_blocks(None, NUM_ROWS, NUM_ROWS, CPU)) == 5
    got = gradients(case.engine(inputs, None), inputs)

    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("trained", [(0,), (1,), (2,), (3,), (1, 3)], ids=str)
def test_only_what_is_trained_gets_a_gradient(case, trained):
    inputs = new_inputs()
    for number, leaf in enumerate(inputs):
        leaf.requires_grad_(number in trained)

    got = case.engine(inputs, 4)
    want = case.definition(inputs)

    assert got.requires_grad == want.requires_grad
    if want.requires_grad:
        leaves = [inputs[number] for number in trained]
        torch.testing.assert_close(gradients(got, leaves), gradients(want, leaves))


def test_without_gradient_the_value_is_the_same(case):
    inputs = new_inputs()
    want = case.engine(inputs, 4)

    with torch.no_grad():
        got = case.engine(inputs, 4)
    assert torch.equal(got, want)
    assert not got.requires_grad

    with torch.inference_mode():
        assert torch.equal(case.engine(inputs, 4), want)


def test_backward_may_run_twice(case):
    inputs = new_inputs()
    loss = case.engine(inputs, 4)

    (first,) = torch.autograd.grad(loss, inputs.images, retain_graph=True)
    (second,) = torch.autograd.grad(loss, inputs.images)

    assert torch.equal(first, second)


def test_a_second_derivative_is_an_error_and_not_a_zero(case):
    inputs = new_inputs()
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(case.engine(inputs, None), inputs.images, create_graph=True)


class LargestTensor(TorchDispatchMode):
    """Size of the largest tensor that any operation returned, in float32 elements."""

    def __init__(self):
        super().__init__()
        self.num_elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))

        for part in tree_iter(result):
            if isinstance(part, torch.Tensor):
                num_elements = part.untyped_storage().nbytes() // 4
                self.num_elements = max(self.num_elements, num_elements)

        return result


@pytest.mark.unhooked
@pytest.mark.parametrize(
    "name", ["supcon", "supcon-text", "info_nce", "siglip", "siglip-labels", "hard_negative"]
)
def test_the_matrix_is_never_held(name):
    rows = torch.randn(256, 4, requires_grad=True)
    texts = torch.randn(256, 4, requires_grad=True)
    labels = torch.arange(256) // 4
    calls = {
        "supcon": lambda: supcon_loss(rows, labels, block_size=8),
        "supcon-text": lambda: supcon_loss(rows, labels, texts, labels, block_size=8),
        "info_nce": lambda: info_nce_loss(rows, texts, block_size=8),
        "siglip": lambda: siglip_loss(rows, texts, block_size=8),
        "siglip-labels": lambda: siglip_loss(rows, texts, labels, block_size=8),
        "hard_negative": lambda: hard_negative_contrastive_loss(rows, texts, labels, block_size=8),
    }

    with LargestTensor() as largest:
        calls[name]().backward()

    # int64 and bool count by their bytes.
    assert 0 < largest.num_elements <= 2 * 8 * 256
    assert torch.isfinite(rows.grad).all()


def computed_blocks(block_size, num_rows, num_columns):
    """Which blocks two passes compute, after a check that both see the same."""
    computed = []

    def compute(start, stop):
        computed.append((start, stop))
        return torch.arange(start, stop)

    blocks = row_blocks.TwoPassBlocks(compute, block_size, num_rows, num_columns, CPU)
    first = [(start, stop, block.tolist()) for start, stop, block in blocks.first_pass()]
    second = [(start, stop, block.tolist()) for start, stop, block in blocks.second_pass()]
    assert first == second

    return computed


def test_a_single_block_is_kept_for_the_second_pass():
    assert computed_blocks(None, 5, 5) == [(0, 5)]
    assert computed_blocks(5, 5, 5) == [(0, 5)]


def test_blocks_of_a_given_size_are_computed_twice():
    assert computed_blocks(2, 5, 5) == [(0, 2), (2, 4), (4, 5)] * 2


def test_automatic_blocks_are_kept_if_they_are_few():
    num_columns = row_blocks.CPU_BLOCK_ELEMENTS // 2
    assert computed_blocks(None, 5, num_columns) == [(0, 2), (2, 4), (4, 5)]
    assert computed_blocks(None, 50, num_columns) == computed_blocks(2, 50, num_columns)


def test_automatic_blocks_are_larger_off_the_cpu():
    assert row_blocks.row_blocks(None, 4096, 4096, CPU)[0] == (0, 256)
    assert row_blocks.row_blocks(None, 4096, 4096, torch.device("meta")) == [(0, 4096)]


def test_a_block_has_at_least_one_row():
    assert row_blocks.row_blocks(None, 2, 2**30, CPU) == [(0, 1), (1, 2)]


@pytest.mark.parametrize("first", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("second", [torch.float16, torch.float64])
def test_two_precisions(first, second):
    images = torch.randn(4, 3).to(first).requires_grad_()
    texts = torch.randn(4, 3).to(second).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1])
    want = torch.float64 if torch.float64 in (first, second) else torch.float32

    losses = [
        info_nce_loss(images, texts),
        siglip_loss(images, texts),
        supcon_loss(images, labels, texts, labels),
    ]
    for loss in losses:
        assert loss.dtype == want
        loss.backward()

    assert images.grad.dtype == first
    assert texts.grad.dtype == second


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize(
    ("name", "block_size"),
    [
        ("supcon", 7),
        ("supcon-text", None),
        ("info_nce", None),
        ("info_nce", 7),
        ("siglip-labels", 7),
        ("hard_negative", None),
        pytest.param("supcon", None, marks=pytest.mark.slow),
        pytest.param("supcon-text", 7, marks=pytest.mark.slow),
        pytest.param("siglip-labels", None, marks=pytest.mark.slow),
        pytest.param("hard_negative", 7, marks=pytest.mark.slow),
    ],
)
def test_compiles_with_its_gradient(name, block_size):
    torch._dynamo.reset()
    inputs = new_inputs(torch.float32)

    def loss(*leaves):
        return Case(name).engine(Inputs(*leaves), block_size)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    got = compiled(*inputs)
    want = loss(*inputs)

    assert got.item() == pytest.approx(want.item(), rel=1e-5)
    torch.testing.assert_close(
        gradients(got, inputs), gradients(want, inputs), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("module", [SupConLoss, InfoNCELoss])
@pytest.mark.parametrize("block_size", [0, -1, True])
def test_wrong_block_size(module, block_size):
    with pytest.raises(ValueError, match="block_size as a whole number >= 1"):
        module(block_size=block_size)


@pytest.mark.parametrize("module", [SupConLoss, InfoNCELoss])
def test_the_block_size_shows_in_the_repr(module):
    assert "block_size=7" in repr(module(block_size=7))
