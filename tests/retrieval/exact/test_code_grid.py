"""The bound of 8-bit codes holds, and is not far above what it bounds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit._similarity.code_product import OFFSET
from clipreid_kit.retrieval.exact.code_grid import encode_query, encode_rows, fit_grid
from clipreid_kit.retrieval.exact.code_scan import MAX_DIM, scan_codes, scan_is_exact


def unit_rows(count, dim, offset, seed):
    rows = np.random.default_rng(seed).standard_normal((count, dim)) + offset
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@given(
    seed=st.integers(0, 2**31),
    dim=st.integers(1, 80),
    offset=st.sampled_from([0.0, 1.0, 1e3]),
)
def test_fast_similarities_are_within_the_bound(seed, dim, offset):
    exact_rows = unit_rows(30, dim, offset, seed)
    query = unit_rows(1, dim, 0.0, seed + 1)[0]
    rows = exact_rows.float()
    grid = fit_grid(rows.amin(0), rows.amax(0))
    encoded = encode_rows(rows, grid)
    coded = encode_query(query, grid)

    products = (encoded.codes.astype(np.float64) - OFFSET) @ coded.numbers.astype(np.float64)
    wrong_by = np.abs(
        coded.similarities(products.astype(np.float32)) - (exact_rows @ query).numpy()
    )
    errors = [
        coded.error(*bounds) for bounds in zip(encoded.residuals, encoded.code_norms, strict=True)
    ]
    assert (wrong_by <= errors).all()


def test_the_bound_is_reached():
    # every coordinate lies half way between two codes, on the side of the query
    rows = torch.full((3, 64), 0.5 / 127)
    rows[0], rows[1] = -1, 1
    grid = fit_grid(rows.amin(0), rows.amax(0))
    encoded = encode_rows(rows, grid)
    query = torch.full((64,), 0.125, dtype=torch.float64)
    coded = encode_query(query, grid)

    product = (encoded.codes[2].astype(np.float64) - OFFSET) @ coded.numbers.astype(np.float64)
    wrong_by = abs(
        float(coded.similarities(np.array([product], dtype=np.float32))[0])
        - float(rows[2].double() @ query)
    )
    error = coded.error(encoded.residuals[2], encoded.code_norms[2])
    assert 0.95 * error < wrong_by <= error


@pytest.mark.parametrize("dim", [1, 3, 16, 128, 512, 1024, MAX_DIM])
def test_the_installed_scanner_is_exact(dim):
    assert scan_is_exact(dim)


def test_wide_rows_are_not_scanned():
    assert MAX_DIM == 1040
    assert not scan_is_exact(MAX_DIM + 1)


def test_scan_returns_the_largest_products_and_a_floor():
    codes = np.array([[5], [-3], [100], [7]]) + OFFSET
    found = scan_codes(codes.astype(np.uint8), np.array([2.0], dtype=np.float32), 2)
    assert sorted(found.products.tolist()) == [14, 200]
    assert sorted(found.rows.tolist()) == [2, 3]
    assert found.floor == 14

    whole = scan_codes(codes.astype(np.uint8), np.array([2.0], dtype=np.float32), 9)
    assert sorted(whole.rows.tolist()) == [0, 1, 2, 3]
    assert whole.floor == -np.inf

    chosen = scan_codes(
        codes.astype(np.uint8), np.array([2.0], dtype=np.float32), 1, np.array([0, 1])
    )
    assert (chosen.products.tolist(), chosen.rows.tolist(), chosen.floor) == ([10], [0], 10)
