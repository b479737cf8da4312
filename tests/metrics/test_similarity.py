import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics.similarity import FastSimilarity, exact_similarity, halving_sum, row_norms


@given(st.integers(1, 70), st.integers(1, 5), st.integers(0, 1000))
def test_halving_sum_does_not_depend_on_the_other_rows(width, rows, seed):
    values = torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, width)))
    before = values.clone()
    whole = halving_sum(values)
    for i in range(rows):
        assert torch.equal(halving_sum(values[i : i + 1]), whole[i : i + 1])
    torch.testing.assert_close(whole, values.sum(dim=1))
    assert torch.equal(values, before)


@given(
    st.integers(1, 600),
    st.integers(0, 1000),
    st.sampled_from([1e-12, 1e-3, 1.0, 1e6]),
    st.sampled_from(["cosine", "euclidean"]),
    st.booleans(),
)
def test_fast_similarity_stays_within_its_bound(dim, seed, scale, similarity, positive):
    rng = np.random.default_rng(seed)
    queries, gallery = (torch.from_numpy(rng.standard_normal((n, dim)) * scale).float() for n in (3, 20))
    if positive:  # no cancellation in the sum: the worst case for rounding
        queries, gallery = queries.abs(), gallery.abs()
    norms = row_norms(queries), row_norms(gallery)
    fast = FastSimilarity(queries, gallery, *norms, similarity)
    block = fast.block(0, 3, torch.empty(3, 20)).double()
    for i in range(3):
        exact = exact_similarity(
            queries[i : i + 1].expand(20, -1), gallery, norms[0][i : i + 1].expand(20), norms[1], similarity
        )
        if similarity == "euclidean":  # -d^2 / 2 + |q|^2 / 2, in the scale of the prepared rows
            factor = (fast.gallery[0].double().norm() / norms[1][0]) ** 2
            exact = factor * 0.5 * (exact + norms[0][i] ** 2)
            slack = 1e-6  # the factor itself is known to float32 only
        else:
            slack = 0.0
        assert (block[i] - exact).abs().max() <= fast.error + slack * block[i].abs().max()


def test_bound_is_not_so_wide_that_all_is_rescored():
    rows = torch.randn(4, 512)
    assert FastSimilarity(rows, rows, row_norms(rows), row_norms(rows), "cosine").error < 5e-5


def test_lower_global_precision_widens_the_bound():
    rows = torch.randn(4, 512)
    before = torch.get_float32_matmul_precision()
    try:
        errors = []
        for precision in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(precision)
            errors.append(FastSimilarity(rows, rows, row_norms(rows), row_norms(rows), "cosine").error)
    finally:
        torch.set_float32_matmul_precision(before)
    assert errors[0] < errors[1] < errors[2]
    assert errors[2] == pytest.approx(2 * 2.0**-7, rel=0.02)
