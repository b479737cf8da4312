import numpy as np
import pytest
import torch

from clipreid_kit._similarity import nearest_by_codes as by_codes
from clipreid_kit._similarity.code_product import OFFSET, CodeProduct, Levels, largest_number
from clipreid_kit._similarity.float32_pass import product_error_bound
from clipreid_kit._similarity.nearest_by_codes import codes_are_exact, nearest_by_codes
from clipreid_kit._threads import own_threads

needs_codes = pytest.mark.skipif(
    not codes_are_exact(16), reason="this processor, or this torch, has no fast 8-bit product"
)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(by_codes, "BLOCK", 64)


def features(kind):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 32, generator=generator)
    if kind == "clustered":
        rows = rows[:50].repeat_interleave(10, dim=0) + 0.4 * rows
    if kind == "heavy tails":
        rows = rows**5
    if kind == "copies":
        rows[100:] = rows[:400].clone()
    if kind == "crowd":
        rows[:400] = rows[0] + 1e-4 * rows[:400]
    if kind == "one-sided":
        rows = rows.clamp(min=0)
    if kind == "zero rows":
        rows[::100] = 0
    return torch.nn.functional.normalize(rows, dim=1)


KINDS = ["random", "clustered", "heavy tails", "copies", "crowd", "one-sided", "zero rows"]


@needs_codes
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num_threads", "crowded"), [(1, 1), (2, 1), (1, 10**9)])
def test_lists_hold_the_nearest_rows(small_tiles, monkeypatch, kind, num_threads, crowded):
    # all tiles by codes, however many pairs may matter, or all but a few in float32
    monkeypatch.setattr(by_codes, "_CROWDED", crowded)
    rows = features(kind)
    with own_threads(num_threads) as threads:
        found = nearest_by_codes(rows, 9, threads)

    products = rows.double() @ rows.double().T
    least = products.amin(dim=1)
    of_farthest = products.gather(1, found.farthest[:, None])[:, 0]
    products.fill_diagonal_(-np.inf)
    best = products.topk(9, dim=1).values
    error = 2 * product_error_bound(32)
    torch.testing.assert_close(found.nearness.double(), best, atol=error, rtol=0)
    of_items = products.gather(1, found.items)
    torch.testing.assert_close(of_items, found.nearness.double(), atol=error, rtol=0)
    assert all(len(set(items)) == 9 for items in found.items.tolist())

    torch.testing.assert_close(of_farthest, least, atol=error, rtol=0)


@needs_codes
def test_few_pairs_are_multiplied_in_float32(monkeypatch):
    numbers = []
    multiply = by_codes._multiply_pairs

    def count(rows, columns, flat):
        numbers.append(len(flat) / (len(rows) * len(columns)))
        return multiply(rows, columns, flat)

    monkeypatch.setattr(by_codes, "_multiply_pairs", count)
    monkeypatch.setattr(by_codes, "BLOCK", 500)
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(1500, 64, generator=generator), dim=1)
    with own_threads(1) as threads:
        nearest_by_codes(rows, 2, threads)

    assert len(numbers) == 3
    assert 0 < max(numbers) < 0.05


@needs_codes
def test_crowds_are_multiplied_in_float32(small_tiles, monkeypatch):
    tried = []
    find = by_codes._CodeSearch._find

    def count(self, *args):
        tried.append(args)
        return find(self, *args)

    monkeypatch.setattr(by_codes._CodeSearch, "_find", count)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(32, generator=generator) + 1e-4 * torch.randn(500, 32, generator=generator)
    with own_threads(1) as threads:
        nearest_by_codes(torch.nn.functional.normalize(rows, dim=1), 3, threads)

    num_tiles = 28  # pairs of 8 blocks
    assert len(tried) <= num_tiles / 8 + 2


@needs_codes
@pytest.mark.parametrize("dim", [2, 31, 64, 512])
def test_levels_of_the_largest_numbers(dim):
    largest = largest_number(dim)
    codes = np.array([[127] * dim, [-127] * dim, [127, -127] * (dim // 2) + [127] * (dim % 2)])
    numbers = np.array([[largest] * dim, [-largest] * dim])
    exact = codes @ numbers.T / (127 * largest * dim)

    levels = Levels(1 / (127 * largest * dim), 1 / 120, 125)
    product = CodeProduct(numbers.astype(np.float32))
    found = product.levels((codes + OFFSET).astype(np.uint8), levels)
    expected = exact * 120 + 125
    assert np.abs(found.numpy() - expected.clip(0, 255)).max() <= by_codes._ROUNDED


@needs_codes
@pytest.mark.parametrize("zero", [-40, 0, 125, 300])
def test_first_and_last_levels_leave_nothing_out(zero):
    rng = np.random.default_rng(0)
    levels = Levels(1e-4, 0.004, zero)
    exact = rng.uniform(-1.2, 1.2, 2000)
    exact_level = np.rint(exact / levels.step + zero).clip(0, 255)

    assert (exact_level >= by_codes._first_level(exact, levels)).all()
    assert (exact_level <= by_codes._last_level(exact, levels)).all()


def test_a_product_that_saturates_is_not_used(monkeypatch):
    class Saturating(CodeProduct):
        def levels(self, codes, levels):
            return super().levels(codes, levels).clamp(max=250)

    monkeypatch.setattr(by_codes, "CodeProduct", Saturating)
    assert not codes_are_exact.__wrapped__(16)
    monkeypatch.setattr(by_codes, "largest_number", lambda dim: 0)
    assert not codes_are_exact.__wrapped__(16)
