import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit._similarity import float32_pass
from clipreid_kit._similarity.exact_similarity import all_products, combine_products, split_rows
from clipreid_kit._similarity.float32_pass import Float32Tile
from clipreid_kit._similarity.rescore import (
    Float32Scorer,
    Float64Scorer,
    ignore_sparse_warning,
)
from clipreid_kit.metrics._engine.bfloat16_pass import BFloat16Tile, BFloat16Windows


def sides(dim, seed, scale, positive, normalise=False):
    rng = np.random.default_rng(seed)
    queries, gallery = (
        torch.from_numpy(rng.standard_normal((n, dim)) * scale).float() for n in (3, 20)
    )

    if positive:  # no cancellation in the sum: the worst case for rounding
        queries, gallery = queries.abs(), gallery.abs()

    if normalise:
        queries, gallery = (torch.nn.functional.normalize(x, eps=1e-30) for x in (queries, gallery))

    norms = [torch.linalg.vector_norm(x.double(), dim=1) for x in (queries, gallery)]
    return queries, gallery, norms


def exact(queries, gallery, distance):
    q, g = split_rows(queries, distance), split_rows(gallery, distance)
    return combine_products(all_products(q, g), q, g, distance).numpy()


settings = given(
    st.integers(1, 600),
    st.integers(0, 1000),
    st.sampled_from([1e-12, 1e-3, 1.0, 1e6]),
    st.sampled_from(["cosine", "euclidean"]),
    st.booleans(),
    st.booleans(),
)


@settings
def test_float32_values_lie_in_their_windows(dim, seed, scale, distance, positive, normalise):
    queries, gallery, norms = sides(dim, seed, scale, positive, normalise)
    tile = Float32Tile(gallery, norms[1], distance, float(norms[0].max()))
    out = torch.empty(3, 20)
    tile.multiply(queries, norms[0], out)
    truth = exact(queries, gallery, distance)
    low, beyond = tile.windows(tile.unrounded_values(truth, norms[0].numpy()[:, None]))

    assert (out.numpy() >= low).all()
    assert (out.numpy() < beyond).all()


@settings
def test_bfloat16_values_lie_in_their_windows(dim, seed, scale, distance, positive, normalise):
    queries, gallery, norms = sides(dim, seed, scale, positive, normalise)
    tile = BFloat16Tile(gallery, norms[1])
    out = torch.empty(3, 20, dtype=torch.bfloat16)
    found = tile.multiply(queries, norms[0], out)
    truth = exact(queries, gallery, "cosine").ravel()
    low, beyond = found.windows(truth, np.repeat(np.arange(3), 20))
    values = out.float().numpy().ravel()

    assert (values >= low).all()
    assert (values < beyond).all()
    assert (beyond - low).max() < 0.05


@settings
def test_chosen_pairs_are_within_their_errors(dim, seed, scale, distance, positive, normalise):
    queries, gallery, norms = sides(dim, seed, scale, positive, normalise)
    rng = np.random.default_rng(seed)
    query, rows = np.sort(rng.integers(0, 3, 30)), rng.integers(0, 20, 30)
    truth = exact(queries, gallery, distance)[query, rows]
    values, errors = Float64Scorer(queries, norms[0], gallery, norms[1], distance)(query, rows)

    assert (np.abs(values - truth) <= errors).all()
    if distance == "cosine":
        assert (errors < 1e-11).all()
        with ignore_sparse_warning():
            values, errors = Float32Scorer(queries, norms[0], gallery, norms[1])(query, rows)
        assert (np.abs(values - truth) <= errors).all()


def one_after_the_other(rows, columns, out):
    """The worst matrix product that IEEE 754 allows for the rows below: one sequential sum."""
    first, second = rows.float(), columns.float()
    total = torch.zeros(first.shape[0], second.shape[1])

    for k in range(first.shape[1]):
        total += first[:, k : k + 1] * second[k : k + 1]

    return out.copy_(total)


def lost_terms(dim, distance):
    """Make a row whose first product is so large that a float32 sum loses all further ones."""
    row = torch.full(
        (1, dim),
        2.0**-12 if distance == "cosine" else 2.0**-12.5 * (1 - 2.0**-9),
        dtype=torch.float64,
    )
    # divided by its norm, the product is above 1; or below it
    row[0, 0] = 1.01 if distance == "cosine" else 0.9

    return row


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("rounded_as", [torch.float32, torch.float64])
def test_the_worst_order_of_summation_stays_in_its_window(monkeypatch, distance, rounded_as):
    monkeypatch.setattr(torch, "mm", one_after_the_other)
    rows = lost_terms(1 << 14, distance).to(rounded_as)
    norms = torch.linalg.vector_norm(rows.double(), dim=1)
    tile = Float32Tile(rows, norms, distance, float(norms.max()))
    out = torch.empty(1, 1)
    tile.multiply(rows, norms, out)
    want = tile.unrounded_values(exact(rows, rows, distance), norms.numpy())
    lost = float(want[0, 0]) - float(out)

    assert 0 < lost <= tile.error
    assert lost > (0.9 if distance == "cosine" else 0.45) * tile.error


@pytest.mark.parametrize("scale", [1.0, 1 + 3.9e-6, 3.7])
def test_norms_that_are_nearly_one_widen_the_bound(scale):
    rows = torch.zeros(1, 4, dtype=torch.float64)
    rows[0, :2] = torch.tensor([0.6, 0.8]) * scale
    rows = rows.float()
    norms = torch.linalg.vector_norm(rows.double(), dim=1)
    tile, out = Float32Tile(rows, norms, "cosine", 1.0), torch.empty(1, 1)
    tile.multiply(rows, norms, out)
    lost = abs(float(out) - 1)

    assert lost <= tile.error
    if 1 < scale < 2:
        assert lost > 0.6 * tile.error


@pytest.mark.parametrize(("precision", "bits", "dim"), [("high", 10, 4089), ("medium", 7, 4033)])
def test_a_product_that_truncates_its_inputs_stays_in_its_window(monkeypatch, precision, bits, dim):
    def rounding(rows, columns, out):
        first, second = (
            (x.view(torch.int32) & -(1 << (23 - bits))).view(torch.float32)
            for x in (rows, columns.T.contiguous())
        )

        return out.copy_((first.double() @ second.double().T).float())

    rows = torch.full((1, dim), dim**-0.5)  # truncated, it loses almost one unit in the last place
    norms = torch.linalg.vector_norm(rows.double(), dim=1)
    before = torch.get_float32_matmul_precision()

    try:
        torch.set_float32_matmul_precision(precision)
        tile, out = Float32Tile(rows, norms, "cosine", 1.0), torch.empty(1, 1)
        monkeypatch.setattr(torch, "mm", rounding)
        tile.multiply(rows, norms, out)
    finally:
        torch.set_float32_matmul_precision(before)

    assert 1.5 * 2.0**-bits < 1 - float(out) <= tile.error


# 1 / sqrt(dim) is nearly half way between two bfloat16 numbers
@pytest.mark.parametrize("dim", [1017, 4065])
def test_bfloat16_rows_that_all_lose_stay_in_their_window(monkeypatch, dim):
    monkeypatch.setattr(torch, "mm", one_after_the_other)
    rows = torch.full((1, dim), 1.0)
    norms = torch.linalg.vector_norm(rows.double(), dim=1)
    tile, out = BFloat16Tile(rows, norms), torch.empty(1, 1, dtype=torch.bfloat16)
    found = tile.multiply(rows, norms, out)
    low, _ = found.windows(np.ones(1), np.zeros(1, dtype=np.int64))

    assert low[0] <= float(out) < 1 - 0.006

    low, _ = BFloat16Windows(0.5 * found.errors).windows(np.ones(1), np.zeros(1, dtype=np.int64))

    assert float(out) < low[0]


@pytest.mark.parametrize("dim", [17, 65, 1025])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_float64_bound_if_all_coordinates_lose_when_they_are_split(dim, distance):
    grid = 52 - math.ceil(math.log2(dim) / 2)
    value = (math.floor(0.5001 / math.sqrt(dim) * 2.0**grid) + 0.49) * 2.0**-grid
    rows = torch.full((1, dim), value, dtype=torch.float64)
    other = rows if distance == "cosine" else -rows
    norms = torch.linalg.vector_norm(rows, dim=1)
    values, errors = Float64Scorer(rows, norms, other, norms, distance)(
        np.zeros(1, int), np.zeros(1, int)
    )
    lost = abs(values[0] - exact(rows, other, distance)[0, 0])

    assert 0.5 * errors[0] < lost <= errors[0]


@pytest.mark.parametrize("scale", [1e-44, 1e-39, 1e-30, 1e30, 1e38])
def test_queries_of_extreme_norms_in_bfloat16(scale):
    rng = np.random.default_rng(0)
    queries, gallery = (torch.from_numpy(rng.standard_normal((n, 16))) for n in (5, 30))
    queries, gallery = (queries * scale).float(), gallery.float()
    norms = [torch.linalg.vector_norm(x.double(), dim=1) for x in (queries, gallery)]
    tile, out = BFloat16Tile(gallery, norms[1]), torch.empty(5, 30, dtype=torch.bfloat16)
    found = tile.multiply(queries, norms[0], out)
    low, beyond = found.windows(
        exact(queries, gallery, "cosine").ravel(), np.repeat(np.arange(5), 30)
    )
    values = out.float().numpy().ravel()

    assert (values >= low).all()
    assert (values < beyond).all()


def test_the_bound_is_tight():
    rows = torch.randn(4, 512)
    norms = torch.linalg.vector_norm(rows.double(), dim=1)
    assert Float32Tile(rows, norms, "cosine", 1.0).error < 5e-5


def test_lower_global_precision_widens_the_bound():
    rows = torch.randn(4, 512)
    norms = torch.linalg.vector_norm(rows.double(), dim=1)
    before = torch.get_float32_matmul_precision()

    try:
        errors = []
        for precision in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(precision)
            errors.append(Float32Tile(rows, norms, "cosine", 1.0).error)
    finally:
        torch.set_float32_matmul_precision(before)

    assert errors[0] < errors[1] < errors[2]
    assert errors[2] == pytest.approx(2 * 2.0**-7, rel=0.02)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_divided_product_covers_all_rows(monkeypatch, count):
    monkeypatch.setattr(float32_pass, "_PANEL", 7)
    monkeypatch.setattr(float32_pass, "_FLAT", 4)
    rng = np.random.default_rng(count)
    rows, gallery = (torch.from_numpy(rng.integers(-9, 9, (n, 5))).float() for n in (count, 23))
    out = torch.full((count, 32), torch.nan)

    float32_pass.multiply_rows(rows, gallery, out[:, :23])
    assert torch.equal(out[:, :23], rows @ gallery.T)  # small whole numbers: exact
    assert out[:, 23:].isnan().all()
