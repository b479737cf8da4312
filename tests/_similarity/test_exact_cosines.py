import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit._similarity.exact_cosines import exact_cosines
from clipreid_kit._similarity.exact_similarity import combine_products, pair_products, split_rows


def defined_cosines(queries, query, gallery, rows):
    left = split_rows(queries[torch.from_numpy(query)], "cosine")
    right = split_rows(gallery[torch.from_numpy(rows)], "cosine")
    return combine_products(pair_products(left, right), left, right, "cosine").numpy()


@given(
    st.sampled_from([1, 2, 3, 64, 65, 1000]),
    st.integers(0, 1000),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.sampled_from([0.0, 2.0]),
)
def test_it_has_the_bits_of_the_definition(dim, seed, dtype, spread):
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.uniform(-spread, spread, (40, 1))
    gallery = torch.from_numpy(rng.standard_normal((40, dim)) * scales).to(dtype)
    queries = gallery[rng.integers(0, 40, 5)] + torch.from_numpy(rng.random((5, dim))).to(dtype)
    gallery[3] = 0
    query, rows = rng.integers(0, 5, 60), rng.integers(0, 40, 60)

    found = exact_cosines(queries, query, gallery, rows)
    assert found.tobytes() == defined_cosines(queries, query, gallery, rows).tobytes()
    assert (found[rows == 3] == 0).all()


@pytest.mark.parametrize("count", [1, 30, 3000])
def test_its_norms_are_rounded_correctly(count):
    rows = torch.from_numpy(np.random.default_rng(0).random((count, 1)) * 500)
    norms = split_rows(rows, "cosine").norm.numpy()
    # of a width of 1 the norm is the number itself, scaled
    assert (norms == np.frexp(rows.numpy()[:, 0])[0]).all()


def test_nothing_to_score():
    nothing = np.empty(0, dtype=np.int64)
    assert exact_cosines(torch.ones(2, 3), nothing, torch.ones(2, 3), nothing).shape == (0,)
