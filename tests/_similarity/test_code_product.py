"""Products of codes with many queries are exact, or not used."""

import numpy as np
import pytest
import torch

from clipreid_kit._similarity import code_product
from clipreid_kit._similarity.code_product import OFFSET, CodeProduct, largest_number

needs_product = pytest.mark.skipif(
    largest_number(16) == 0, reason="this processor, or this torch, has no fast 8-bit product"
)


@needs_product
@pytest.mark.parametrize("dim", [1, 3, 64, 512, 1024])
@pytest.mark.parametrize("num_queries", [1, 7, 64])
def test_equals_products_of_integers(dim, num_queries):
    rng = np.random.default_rng(dim)
    largest = largest_number(dim)
    numbers = rng.integers(-largest, largest + 1, (num_queries, dim))
    numbers[0] = largest
    codes = rng.integers(-127, 128, (50, dim))
    codes[0] = 127

    found = CodeProduct(numbers.astype(np.float32))((codes + OFFSET).astype(np.uint8))
    np.testing.assert_array_equal(found.numpy(), codes @ numbers.T)


@needs_product
def test_numbers_of_wide_rows_could_be_rounded():
    assert largest_number(1024) > 0
    assert largest_number(1025) == 0


@pytest.mark.parametrize("capability", ["DEFAULT", "NEON", "SVE256"])
def test_other_processors(capability, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert largest_number.__wrapped__(16) == 0


def test_sums_of_pairs_that_saturate(monkeypatch):
    # a processor that adds two products in 16 bits
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(code_product, "CodeProduct", SaturatingProduct)
    assert largest_number.__wrapped__(16) == 64


def test_a_torch_without_the_product(monkeypatch):
    def missing(numbers):
        raise AttributeError("'_OpNamespace' 'onednn' object has no attribute 'qlinear_prepack'")

    monkeypatch.setattr(code_product, "CodeProduct", missing)
    assert largest_number.__wrapped__(16) == 0


class SaturatingProduct:
    def __init__(self, numbers):
        self.numbers = numbers.astype(np.int64)

    def __call__(self, codes):
        products = codes.astype(np.int64)[:, None] * self.numbers[None]
        pairs = products.reshape(*products.shape[:2], -1, 2).sum(-1).clip(-(2**15), 2**15 - 1)
        sums = pairs.sum(-1) - OFFSET * self.numbers.sum(-1)
        return torch.from_numpy(sums.astype(np.float32))
