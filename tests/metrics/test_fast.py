import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics.exact import all_products, similarity, split_rows
from clipreid_kit.metrics.fast import Float32Tile
from clipreid_kit.metrics.low import BFloat16Tile
from clipreid_kit.metrics.rescore import PreciseScorer, SingleScorer


def sides(dim, seed, scale, positive, normalise=False):
    rng = np.random.default_rng(seed)
    queries, gallery = (torch.from_numpy(rng.standard_normal((n, dim)) * scale).float() for n in (3, 20))
    if positive:  # no cancellation in the sum: the worst case for rounding
        queries, gallery = queries.abs(), gallery.abs()
    if normalise:
        queries, gallery = (torch.nn.functional.normalize(x, eps=1e-30) for x in (queries, gallery))
    norms = [torch.linalg.vector_norm(x.double(), dim=1) for x in (queries, gallery)]
    return queries, gallery, norms


def exact(queries, gallery, distance):
    q, g = split_rows(queries, distance), split_rows(gallery, distance)
    return similarity(all_products(q, g), q, g, distance).numpy()


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
    tile.block(queries, norms[0], out)
    truth = exact(queries, gallery, distance)
    low, beyond = tile.windows(tile.of_exact(truth, norms[0].numpy()[:, None]), 0.0)
    assert (out.numpy() >= low).all()
    assert (out.numpy() < beyond).all()


@settings
def test_bfloat16_values_lie_in_their_windows(dim, seed, scale, distance, positive, normalise):
    queries, gallery, norms = sides(dim, seed, scale, positive, normalise)
    tile = BFloat16Tile(gallery, norms[1])
    out = torch.empty(3, 20, dtype=torch.bfloat16)
    tile.block(queries, norms[0], out)
    truth = exact(queries, gallery, "cosine").ravel()
    low, beyond = tile.windows(truth, 0.0, np.repeat(np.arange(3), 20))
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
    values, errors = PreciseScorer(queries, norms[0], gallery, norms[1], distance)(query, rows)
    assert (np.abs(values - truth) <= errors).all()
    if distance == "cosine":
        assert (errors < 1e-11).all()
        values, errors = SingleScorer(queries, norms[0], gallery, norms[1])(query, rows)
        assert (np.abs(values - truth) <= errors).all()


def test_bound_is_not_so_wide_that_all_is_scored_again():
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
