"""Every part of a training step on a GPU, without one: devices, waits, values, gradients."""

import copy

import pytest
import torch
from gpu import fake_cuda, pretend_cuda
from gpu.parts import PARTS, WAITS, run, words_masked_by_rule
from gpu.walk_graph import backward
from torch.testing import assert_close

# A shape in them depends on values, also in a compiled graph: the number of masked words.
NEEDS_VALUES = ("method text_to_person", "MaskedLanguageHead")

# In the tests of the losses and of these two methods.
COMPILED_ELSEWHERE = ("loss", "method clip_reid", "method prompt_sg")


def build(part):
    torch.manual_seed(0)
    return part.build()


@pytest.fixture(params=PARTS, ids=str)
def name(request):
    return request.param


def test_no_tensor_is_made_on_another_device(name, monkeypatch):
    """By torch's own rules. What waits for the GPU takes the way of a compiled graph, without."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    part = PARTS[name]._replace(on_cpu=())
    module = build(part)

    with fake_cuda.fake_cuda():
        if name in NEEDS_VALUES:
            with pytest.raises(fake_cuda.HOST_READS):
                run(part, fake_cuda.to_cuda, module)
            return
        value, leaves = run(part, fake_cuda.to_cuda, module)
        gradients = backward(value)

    assert value.device.type == "cuda"
    reached = [leaf for leaf in leaves.values() if leaf in gradients]
    assert reached
    for leaf in reached:
        assert gradients[leaf].device.type == "cuda"
        assert gradients[leaf].shape == leaf.shape


def test_values_gradients_and_waits(name):
    """The same as on the CPU, and the GPU is waited for where it is documented, nowhere else."""
    part = PARTS[name]
    module = build(part)
    expected, leaves = run(part, copy.deepcopy, module)
    expected_gradients = torch.autograd.grad(expected, list(leaves.values()), allow_unused=True)

    with pretend_cuda.pretend_cuda() as mode:
        value, moved = run(part, pretend_cuda.to_cuda, module)
        gradients = backward(value)

    assert mode.reads == WAITS.get(name, [])
    assert_close(value.values_on_cpu, expected.detach(), atol=1e-5, rtol=1e-5)
    for (leaf_name, leaf), gradient in zip(moved.items(), expected_gradients, strict=True):
        if gradient is not None:
            found = gradients[leaf].values_on_cpu
            assert_close(found, gradient, atol=1e-4, rtol=1e-4, msg=leaf_name)


@pytest.mark.slow
@pytest.mark.unhooked
# warnings of torch about itself
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    "name", [name for name in PARTS if not name.startswith(COMPILED_ELSEWHERE)]
)
def test_compiles_without_a_graph_break(name):
    part = PARTS[name]
    module = build(part)
    leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in part.inputs]

    torch.compiler.reset()
    step = torch.compile(part.call, fullgraph=True, backend="eager")
    with words_masked_by_rule():
        expected = part.call(copy.deepcopy(module), *leaves)
        value = step(module, *leaves)
    value.backward()

    assert_close(value, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pretend", [fake_cuda.fake_cuda, pretend_cuda.pretend_cuda])
def test_a_tensor_on_the_wrong_device_is_noticed(pretend):
    to_cuda = fake_cuda.to_cuda if pretend is fake_cuda.fake_cuda else pretend_cuda.to_cuda
    with pretend():
        rows = to_cuda(torch.ones(4, 8))
        with pytest.raises(RuntimeError, match=r"(?i)cpu"):
            rows + torch.ones(4, 8)


def test_a_wait_is_noticed():
    with pretend_cuda.pretend_cuda() as mode:
        rows = pretend_cuda.to_cuda(torch.ones(4))
        assert float(rows.sum()) == 4.0
        assert len(rows[rows > 0]) == 4
        assert rows.cpu().tolist() == [1.0] * 4
    assert len(mode.reads) == 3
