"""Values of centred rows lie in their windows, and the windows are narrow where rows are close."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit._similarity.centred_pass import CentredTile
from clipreid_kit._similarity.exact_similarity import all_products, combine_products, split_rows
from clipreid_kit._similarity.rescore import float64_error_bound


def sides(dim, seed, spread, scale, dtype=torch.float32):
    """Rows about one direction, some of them equal, one of the queries zero."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(dim)
    rows = (common + spread * rng.standard_normal((24, dim))) * scale
    rows[7] = rows[8]
    rows[2] = 0
    rows = torch.from_numpy(rows).to(dtype)
    norms = torch.linalg.vector_norm(rows.double(), dim=1)
    return (rows[:4], norms[:4]), (rows[4:], norms[4:])


def exact(queries, gallery):
    q, g = split_rows(queries, "cosine"), split_rows(gallery, "cosine")
    return combine_products(all_products(q, g), q, g, "cosine").numpy().ravel()


@given(
    dim=st.integers(1, 200),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.0, 1e-7, 1e-4, 1e-2, 0.3, 10.0]),
    scale=st.sampled_from([1e-42, 1e-12, 1.0, 1e6, 1e30]),
    has_zero_row=st.booleans(),
)
def test_values_lie_in_their_windows(dim, seed, spread, scale, has_zero_row):
    (queries, query_norms), (gallery, norms) = sides(dim, seed, spread, scale)
    if has_zero_row:
        gallery[3], norms[3] = 0, 0

    tile = CentredTile(gallery, norms)
    out = torch.empty(4, 20)
    values = tile.multiply(queries, query_norms, out)
    truth = exact(queries, gallery)
    query = np.repeat(np.arange(4), 20)

    # the score of a match in float64 may be wrong, too
    for moved in (0, float64_error_bound(dim), -float64_error_bound(dim)):
        low, beyond = values.windows(truth + moved, query)
        assert (out.numpy().ravel() >= low).all()
        assert (out.numpy().ravel() < beyond).all()


@pytest.mark.parametrize(("spread", "narrower"), [(1e-2, 2e3), (1e-3, 2e5), (1.0, 0.9)])
def test_windows_narrow_with_the_spread(spread, narrower):
    (queries, query_norms), (gallery, norms) = sides(64, 0, spread, 1.0)
    tile = CentredTile(gallery, norms)
    values = tile.multiply(queries[:2], query_norms[:2], torch.empty(2, 20))
    near = exact(queries[:2], gallery)[[0, 20]]  # where float32 has small steps
    low, beyond = values.windows(near, np.arange(2))

    assert tile.is_centred == (spread < 1)
    assert ((beyond - low) * narrower < 2 * 66 * 2.0**-24 * 1.1).all()


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_windows_hold_inputs_of_reduced_precision(precision):
    (queries, query_norms), (gallery, norms) = sides(64, 0, 1e-2, 1.0)
    tile = CentredTile(gallery, norms)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        values = tile.multiply(queries, query_norms, torch.empty(4, 20))
        low, beyond = values.windows(np.zeros(4), np.arange(4))
    finally:
        torch.set_float32_matmul_precision(before)

    # inputs cut to bfloat16, as a device may do
    dim = queries.shape[1]
    centre = torch.nn.functional.normalize(gallery.double(), dim=1).mean(0)
    left = (torch.nn.functional.normalize(queries.double(), dim=1) - centre).float()
    cut = (left.bfloat16() if precision == "medium" else left).double()
    right = tile._gallery[:, :dim].bfloat16() if precision == "medium" else tile._gallery[:, :dim]
    wrong_by = (cut @ right.double().T - left.double() @ tile._gallery[:, :dim].double().T).abs()
    assert (wrong_by.amax(dim=1).numpy() < (beyond - low) / 2).all()


@pytest.mark.parametrize("far", [None, 1, 3])
def test_one_far_row_prevents_centring_whether_it_is_in_the_sample_or_not(far):
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(1 + 1e-3 * rng.standard_normal((600, 16))).float()
    if far is not None:  # every third row is in the sample
        rows[far] *= -1

    tile = CentredTile(rows, torch.linalg.vector_norm(rows.double(), dim=1))
    assert tile.is_centred == (far is None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_spread_rows_of_other_types_lie_in_their_windows(dtype):
    (queries, query_norms), (gallery, norms) = sides(100, 0, 10.0, 3.0, dtype)
    tile = CentredTile(gallery, norms)
    out = torch.empty(4, 20)
    values = tile.multiply(queries, query_norms, out)
    low, beyond = values.windows(exact(queries, gallery), np.repeat(np.arange(4), 20))

    assert not tile.is_centred
    assert (out.numpy().ravel() >= low).all()
    assert (out.numpy().ravel() < beyond).all()
