"""Fast similarities of a block stay within their bound, which is small for nearly equal rows."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from row_sources import KINDS, ArraySource, data

from clipreid_kit._similarity.exact_similarity import all_products, combine_products, split_rows
from clipreid_kit.retrieval.exact.float32_block import multiply_float32
from clipreid_kit.retrieval.exact.gallery_blocks import GalleryRows


def multiply(queries, rows, reference=None, allowed=None):
    gallery = GalleryRows([ArraySource(rows)], allowed)
    (block,) = gallery.blocks(len(rows))
    reference = gallery.reference if reference is None else reference
    out = torch.empty(len(queries), block.num_rows)
    norms = torch.linalg.vector_norm(queries.double(), dim=1)
    error = multiply_float32(queries, norms, block.load(), reference, out)
    return out.double().numpy() + reference, error


@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**31),
    dim=st.integers(1, 80),
    reference=st.sampled_from([None, 0.0, 0.5]),
    keep=st.sampled_from([1.0, 0.5]),
    num_others=st.sampled_from([1, 9]),
)
def test_values_are_within_the_bound(kind, seed, dim, reference, keep, num_others):
    rng = np.random.default_rng(seed)
    rows = torch.from_numpy(data(kind, rng, 40, dim))
    others = torch.from_numpy(data(kind, rng, num_others, dim))
    queries = torch.cat([rows[:2], others, torch.zeros(1, dim)])
    allowed = rng.random(40) < keep
    allowed[0] = True

    left, right = split_rows(queries, "cosine"), split_rows(rows[allowed], "cosine")
    exact = combine_products(all_products(left, right), left, right, "cosine").numpy()
    values, error = multiply(queries, rows, reference, allowed)
    assert (np.abs(values - exact) <= error).all()


def test_nearly_equal_rows_have_a_small_bound():
    rng = np.random.default_rng(0)
    collapsed = torch.from_numpy(data("collapsed", rng, 300, 128))
    spread = torch.from_numpy(data("noise", rng, 300, 128))
    of_spread = multiply(spread[:9], spread)[1]
    assert multiply(collapsed[:2], collapsed)[1] < of_spread / 50
    assert multiply(collapsed[:9], collapsed)[1] < of_spread / 5000
