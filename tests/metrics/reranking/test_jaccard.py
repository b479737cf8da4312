import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import rerank as oracle

from clipreid_kit.metrics import JaccardDistances
from clipreid_kit.metrics.reranking import jaccard


def clusters(seed, rows=40, dim=8, identities=6):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((identities, dim))
    noise = 0.5 * rng.standard_normal((rows, dim))
    return (centres[rng.integers(0, identities, rows)] + noise).astype(np.float32)


@st.composite
def cases(draw):
    rows = clusters(draw(st.integers(0, 2**31)), draw(st.integers(2, 30)), draw(st.integers(1, 8)))
    if draw(st.booleans()):  # every row twice: exact ties
        half = len(rows) // 2
        rows[half:] = rows[: len(rows) - half]
    if draw(st.booleans()):
        rows[0] = 0
    options = {
        "k1": draw(st.integers(1, 35)),  # also more than there are
        "k2": draw(st.integers(1, 35)),
        "distance": draw(st.sampled_from(["cosine", "euclidean"])),
    }
    return rows, options


@given(cases(), st.sampled_from([0.2, 0.5, 0.9]))
@settings(max_examples=60)
def test_equals_the_dense_definition(case, max_distance):
    rows, options = case
    want = oracle.jaccard(rows, options["k1"], options["k2"], options["distance"])
    distances = JaccardDistances(torch.from_numpy(rows), **options)

    every = torch.arange(len(rows))
    between = distances.between(every, every)
    np.testing.assert_allclose(between.numpy(), want, atol=1e-6, rtol=0)
    assert torch.equal(between, between.T)

    near = distances.within(max_distance)
    is_near = between <= max_distance
    is_near.fill_diagonal_(False)
    assert torch.equal(torch.stack(near[:2]), is_near.nonzero().T)
    assert torch.equal(near.distance, between[is_near])


def test_some_rows_of_many_blocks(monkeypatch):
    rows = torch.from_numpy(clusters(1))
    whole = JaccardDistances(rows, k1=8, k2=3)
    every = torch.arange(40)
    want, pairs = whole.between(every, every), whole.within(0.6)

    monkeypatch.setattr(jaccard, "_BLOCK", 90)
    monkeypatch.setattr(jaccard, "_MAX_MEETINGS", 50)
    some, others = torch.tensor([3, 39, 3]), torch.tensor([7, 3, 0, 39])
    assert torch.equal(whole.between(some, others), want[some][:, others])
    for got, expected in zip(whole.within(0.6), pairs, strict=True):
        assert torch.equal(got, expected)

    assert whole.between(some[:0], others).shape == (0, 4)
    assert whole.between(some, others[:0]).shape == (3, 0)


def test_pairs_take_memory_of_the_order_of_neighbours():
    rows = torch.randn(3000, 16, generator=torch.Generator().manual_seed(0))
    distances = JaccardDistances(rows, k1=5, k2=2)
    assert len(distances._weights.column) < 3000 * 5 * 6
    assert 0 < len(distances.within(0.7).first) < 3000 * 5 * 6


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (torch.eye(2)[:1], {}, "a single image has no neighbours; pass embeddings of two or more"),
        (torch.tensor([[1.0, 0.0], [torch.nan, 0.0]]), {}, "NaN"),
        (torch.eye(2), {"k1": 0}, "k1 as a whole number >= 1"),
        (torch.eye(2), {"k2": 0}, "k2 as a whole number >= 1"),
        (torch.eye(2), {"distance": "dot"}, "distance to be one of cosine, euclidean"),
    ],
)
def test_bad_input(rows, options, message):
    with pytest.raises(ValueError, match=f"JaccardDistances.*{message}"):
        JaccardDistances(rows, **options)


def test_numbers_and_limits_out_of_range():
    distances = JaccardDistances(torch.eye(3), k1=1)
    for limit in (0.0, 1.0, torch.nan):
        with pytest.raises(ValueError, match="max_distance"):
            distances.within(limit)
    with pytest.raises(ValueError, match="columns has numbers from 0 to 3; there are 3 images"):
        distances.between(torch.arange(3), torch.arange(4))


def test_repr():
    assert repr(JaccardDistances(torch.eye(3))) == (
        "JaccardDistances(num_images=3, k1=30, k2=6, distance='cosine')"
    )
