"""The same parts and the same evaluation on a real GPU, with torch's own engine."""

import copy

import numpy as np
import pytest
import torch
from gpu.parts import PARTS, run
from gpu.test_evaluation import CAMERAS, LABELS, WORK, embeddings, plain
from torch.testing import assert_close

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


# Their similarities are float32 and rounded as the product of the device rounds them.
OF_MATRIX_PRODUCTS = {
    "evaluate_open_set",
    "evaluate_verification",
    "k_reciprocal_rerank",
    "query_expansion",
}


def on_cuda(value):
    return copy.deepcopy(value).to("cuda")


@pytest.fixture(autouse=True)
def _full_precision():
    """Products as on the CPU; TF32 rounds to 10 bits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("name", PARTS)
def test_values_and_gradients(name):
    part = PARTS[name]
    torch.manual_seed(0)
    module = part.build()

    expected, leaves = run(part, copy.deepcopy, module)
    expected_gradients = torch.autograd.grad(expected, list(leaves.values()), allow_unused=True)
    value, moved = run(part, on_cuda, module)
    gradients = torch.autograd.grad(value, list(moved.values()), allow_unused=True)

    assert_close(value.cpu(), expected, atol=1e-4, rtol=1e-4)
    for leaf_name, found, gradient in zip(leaves, gradients, expected_gradients, strict=True):
        assert (found is None) == (gradient is None), leaf_name
        if gradient is not None:
            assert_close(found.cpu(), gradient, atol=1e-3, rtol=1e-3, msg=leaf_name)


@pytest.mark.parametrize("name", [name for name in PARTS if name.startswith("method")])
def test_a_step_in_float16_is_finite(name):
    part = PARTS[name]
    torch.manual_seed(0)

    with torch.autocast("cuda", torch.float16):
        value, leaves = run(part, on_cuda, part.build())
    gradients = torch.autograd.grad(value * 128.0, list(leaves.values()), allow_unused=True)

    assert value.isfinite()
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("name", WORK)
def test_evaluation_equals_the_cpu(name, dtype):
    inputs = embeddings(dtype), LABELS, CAMERAS
    expected = plain(WORK[name](*inputs))
    found = WORK[name](*(tensor.cuda() for tensor in inputs))
    found = plain(found.cpu() if isinstance(found, torch.Tensor) else found)

    if name in OF_MATRIX_PRODUCTS:
        assert_close(found, expected, rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_equal(found, expected)
