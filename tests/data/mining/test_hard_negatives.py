import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import mining as oracle
from strategies import labelled_rows

from clipreid_kit.data import mine_hard_negatives

_captions = st.lists(
    st.sampled_from(["a", " A ", "b", None, "c  d", "C d"]), min_size=12, max_size=12
)


@given(
    data=labelled_rows(max_rows=12),
    captions=st.one_of(st.none(), _captions),
    count=st.integers(1, 6),
    ceiling=st.sampled_from([None, 0.99, 0.5]),
    labelled=st.booleans(),
)
def test_semantic_negatives_are_the_most_similar_that_are_allowed(
    data, captions, count, ceiling, labelled
):
    features, labels = data
    captions = None if captions is None else captions[: len(labels)]
    mined = mine_hard_negatives(
        features, labels if labelled else None, count, captions=captions, max_similarity=ceiling
    )
    limit = np.inf if ceiling is None else ceiling
    rows = features.double().tolist()
    expected = oracle.hard_negatives(
        rows, labels.tolist() if labelled else None, count, captions, limit
    )
    near = oracle.cosines(rows)
    assert mined.shape == (len(labels), count)
    assert mined.dtype == torch.int64
    for i, (row, pairs) in enumerate(zip(mined.tolist(), expected, strict=True)):
        found = [j for j in row if j >= 0]
        assert len(found) == len(pairs) == len(set(found))
        assert row[len(found) :] == [-1] * (count - len(found))
        assert [near[i][j] for j in found] == pytest.approx([value for value, _ in pairs], abs=1e-5)


@given(data=labelled_rows(max_rows=8), scale=st.sampled_from([1e-3, 7.0, 1e4]))
def test_lengths_of_features_do_not_matter(data, scale):
    features, labels = data
    factors = torch.linspace(1, scale, len(features))[:, None]
    first = mine_hard_negatives(features, labels, 3, max_similarity=None)
    second = mine_hard_negatives(features * factors, labels, 3, max_similarity=None)
    near = (
        torch.nn.functional.normalize(features, dim=1)
        @ torch.nn.functional.normalize(features, dim=1).T
    )
    for i in range(len(features)):
        for a, b in zip(first[i].tolist(), second[i].tolist(), strict=True):
            assert (a < 0) == (b < 0)
            assert a < 0 or float(near[i, a]) == pytest.approx(float(near[i, b]), abs=1e-5)


@given(
    rows=st.integers(1, 40),
    kinds=st.integers(1, 8),
    count=st.integers(1, 6),
    seed=st.integers(0, 3),
    captions=st.booleans(),
)
def test_random_negatives_are_allowed_different_and_as_many_as_there_are(
    rows, kinds, count, seed, captions
):
    labels = torch.arange(rows) % kinds
    texts = [f"text {n % 3}" for n in range(rows)] if captions else None
    mined = mine_hard_negatives(None, labels, count, strategy="random", captions=texts, seed=seed)
    for i, row in enumerate(mined.tolist()):
        allowed = {
            j
            for j in range(rows)
            if labels[i] != labels[j] and (texts is None or texts[i] != texts[j])
        }
        found = [j for j in row if j >= 0]
        assert set(found) <= allowed
        assert len(set(found)) == len(found) == min(count, len(allowed))
    assert torch.equal(
        mined,
        mine_hard_negatives(None, labels, count, strategy="random", captions=texts, seed=seed),
    )


def test_random_negatives_change_with_seed_and_epoch_and_are_even():
    labels = torch.arange(60)

    def drawn(**options):
        return mine_hard_negatives(None, labels, 5, strategy="random", **options)

    assert not torch.equal(drawn(), drawn(seed=1))
    assert not torch.equal(drawn(), drawn(epoch=1))
    counts = torch.stack(
        [torch.bincount(drawn(epoch=e).flatten(), minlength=60) for e in range(40)]
    ).sum(0)
    assert counts.min() > 120
    assert counts.max() < 290  # 200 each on average
    before = torch.get_rng_state()
    drawn()
    assert torch.equal(before, torch.get_rng_state())


def test_what_is_random_needs_no_features_but_may_have_them():
    features = torch.randn(9, 3)
    assert mine_hard_negatives(features, None, 2, strategy="random").shape == (9, 2)
    assert mine_hard_negatives(None, None, 2, strategy="random", captions=list("abcd")).shape == (
        4,
        2,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    features = torch.eye(4, dtype=dtype)
    features[3, 2] = 0.5
    assert mine_hard_negatives(features, None, 1)[2:].flatten().tolist() == [3, 2]


def test_no_items_have_no_negatives():
    assert mine_hard_negatives(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).shape == (0, 3)
    assert mine_hard_negatives(
        None, torch.zeros(0, dtype=torch.int64), strategy="random"
    ).shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"num_negatives": 0}, "num_negatives as a whole number >= 1"),
        ({"seed": -1}, "seed as a whole number >= 0"),
        ({"max_similarity": 1.5}, r"max_similarity in \(-1, 1\] or None, got 1.5"),
        ({"captions": ["a"]}, "3 captions, one for each row, got 1"),
        ({"features": None}, 'features, got none. Only strategy="random" needs none'),
        (
            {"features": torch.tensor([[1.0], [float("nan")], [1.0]])},
            "got 1 rows with NaN or infinity, the first is 1",
        ),
    ],
)
def test_wrong_options_are_explained(options, problem):
    arguments = {"features": torch.eye(3), "labels": torch.arange(3), **options}
    with pytest.raises(ValueError, match=rf"mine_hard_negatives: expected .*{problem}"):
        mine_hard_negatives(**arguments)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"strategy": "hard"}, "strategy to be one of semantic, random"),
        ({"search": "gpu"}, "search to be one of auto, exact, faiss"),
        ({"labels": torch.arange(4)}, "labels as 3 integers"),
        ({"features": torch.arange(3)}, "features as a floating-point matrix"),
    ],
)
def test_wrong_types_are_explained(options, problem):
    arguments = {"features": torch.eye(3), "labels": torch.arange(3), **options}
    with pytest.raises(ValueError, match=rf"mine_hard_negatives: expected {problem}"):
        mine_hard_negatives(**arguments)
