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


def random_negatives(labels, count=5, **options):
    return mine_hard_negatives(None, labels, count, strategy="random", **options)


@given(
    data=labelled_rows(max_rows=12),
    captions=st.one_of(st.none(), _captions),
    count=st.integers(1, 6),
    ceiling=st.sampled_from([None, 0.99, 0.5]),
    labelled=st.booleans(),
)
def test_semantic_negatives_agree_with_a_loop(data, captions, count, ceiling, labelled):
    features, labels = data
    labels = labels if labelled else None
    captions = None if captions is None else captions[: len(features)]
    rows = features.double().tolist()

    mined = mine_hard_negatives(features, labels, count, captions=captions, max_similarity=ceiling)
    expected = oracle.hard_negatives(
        rows,
        None if labels is None else labels.tolist(),
        count,
        captions,
        np.inf if ceiling is None else ceiling,
    )
    similarity = oracle.cosines(rows)

    assert mined.shape == (len(features), count)
    assert mined.dtype == torch.int64

    for i, (row, pairs) in enumerate(zip(mined.tolist(), expected, strict=True)):
        found = [j for j in row if j >= 0]
        assert len(found) == len(pairs) == len(set(found))
        assert row[len(found) :] == [-1] * (count - len(found))

        expected_similarity = [value for value, _ in pairs]
        assert [similarity[i][j] for j in found] == pytest.approx(expected_similarity, abs=1e-5)


@given(data=labelled_rows(max_rows=8), scale=st.sampled_from([1e-3, 7.0, 1e4]))
def test_the_lengths_of_the_features_do_not_matter(data, scale):
    features, labels = data
    lengths = torch.linspace(1, scale, len(features))[:, None]
    first = mine_hard_negatives(features, labels, 3, max_similarity=None)
    second = mine_hard_negatives(features * lengths, labels, 3, max_similarity=None)

    # Rounding may swap negatives that are equally similar.
    assert torch.equal(first < 0, second < 0)
    unit = torch.nn.functional.normalize(features, dim=1)
    similarity = unit @ unit.T
    for i in range(len(features)):
        found = first[i] >= 0
        assert torch.allclose(
            similarity[i, first[i, found]], similarity[i, second[i, found]], atol=1e-5
        )


@given(
    num_rows=st.integers(1, 40),
    num_identities=st.integers(1, 8),
    count=st.integers(1, 6),
    seed=st.integers(0, 3),
    captioned=st.booleans(),
)
def test_random_negatives_are_allowed_distinct_and_as_many_as_there_are(
    num_rows, num_identities, count, seed, captioned
):
    labels = torch.arange(num_rows) % num_identities
    captions = [f"text {row % 3}" for row in range(num_rows)] if captioned else None
    mined = random_negatives(labels, count, captions=captions, seed=seed)

    for i, row in enumerate(mined.tolist()):
        allowed = set()
        for j in range(num_rows):
            same_caption = captions is not None and captions[i] == captions[j]
            if labels[i] != labels[j] and not same_caption:
                allowed.add(j)

        found = [j for j in row if j >= 0]
        assert set(found) <= allowed
        assert len(set(found)) == len(found) == min(count, len(allowed))

    assert torch.equal(mined, random_negatives(labels, count, captions=captions, seed=seed))


def test_random_negatives_depend_on_seed_and_epoch():
    labels = torch.arange(60)

    assert not torch.equal(random_negatives(labels), random_negatives(labels, seed=1))
    assert not torch.equal(random_negatives(labels), random_negatives(labels, epoch=1))


def test_random_negatives_are_spread_evenly():
    drawn = torch.stack([random_negatives(torch.arange(60), epoch=epoch) for epoch in range(40)])
    counts = torch.bincount(drawn.flatten(), minlength=60)

    # 200 each on average
    assert counts.min() > 120
    assert counts.max() < 290


def test_random_negatives_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    random_negatives(torch.arange(60))

    assert torch.equal(before, torch.get_rng_state())


def test_random_negatives_need_no_features_but_may_have_them():
    assert mine_hard_negatives(torch.randn(9, 3), None, 2, strategy="random").shape == (9, 2)
    assert random_negatives(None, 2, captions=list("abcd")).shape == (4, 2)


def test_random_negatives_of_an_unknown_number_of_items_are_refused():
    with pytest.raises(ValueError, match="mine_hard_negatives: pass features, labels, captions or"):
        random_negatives(None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    features = torch.eye(4, dtype=dtype)
    features[3, 2] = 0.5

    assert mine_hard_negatives(features, None, 1)[2:].flatten().tolist() == [3, 2]


def test_no_items_have_no_negatives():
    no_labels = torch.zeros(0, dtype=torch.int64)

    assert mine_hard_negatives(torch.zeros(0, 4), no_labels).shape == (0, 3)
    assert random_negatives(no_labels, 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"num_negatives": 0}, "expected num_negatives as a whole number >= 1"),
        ({"seed": -1}, "expected seed as a whole number >= 0"),
        ({"epoch": -1}, "expected epoch as a whole number >= 0"),
        ({"max_similarity": 1.5}, r"expected max_similarity in \(-1, 1\] or None, got 1.5"),
        ({"captions": ["a"]}, "expected 3 captions, one for each row, got 1"),
        ({"features": None}, 'features are missing; only strategy="random" needs none'),
        (
            {"features": torch.tensor([[1.0], [float("nan")], [1.0]])},
            "got 1 rows with NaN or infinity, the first is 1",
        ),
    ],
)
def test_wrong_options_are_explained(options, problem):
    arguments = {"features": torch.eye(3), "labels": torch.arange(3), **options}

    with pytest.raises(ValueError, match=f"mine_hard_negatives: .*{problem}"):
        mine_hard_negatives(**arguments)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"strategy": "hard"}, "strategy to be one of semantic, random"),
        ({"search": "gpu"}, "search to be one of auto, exact, faiss"),
        ({"labels": torch.arange(4)}, "labels as 3 integers"),
        ({"features": torch.arange(3)}, "features as a floating-point matrix"),
        ({"max_similarity": "0.9"}, "max_similarity as a number, got '0.9'"),
        ({"num_negatives": "3"}, "num_negatives as a whole number >= 1, got '3'"),
    ],
)
def test_wrong_types_are_explained(options, problem):
    arguments = {"features": torch.eye(3), "labels": torch.arange(3), **options}

    with pytest.raises(ValueError, match=f"mine_hard_negatives: expected {problem}"):
        mine_hard_negatives(**arguments)


@pytest.mark.parametrize("strategy", ["semantic", "random"])
def test_a_copy_is_never_a_negative_of_its_own_image(strategy):
    images = torch.tensor([4, 4, 4, 9, 9, 1])
    features = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    mined = mine_hard_negatives(
        features, None, 5, strategy=strategy, images=images, max_similarity=None
    )
    for row, negatives in enumerate(mined.tolist()):
        expected = {other for other in range(6) if images[other] != images[row]}
        assert set(negatives) - {-1} == expected


@pytest.mark.parametrize("search", ["exact", "faiss"])
def test_fewer_negatives_are_the_first_of_more_also_among_ties(search):
    if search == "faiss":
        pytest.importorskip("faiss")
    # Each of 10 rows occurs 20 times, so that most negatives are ties.
    features = torch.eye(10).repeat(20, 1) + 0.5
    labels = torch.arange(200)

    most = mine_hard_negatives(features, labels, 6, max_similarity=None, search=search)
    for count in (1, 3, 5):
        fewer = mine_hard_negatives(features, labels, count, max_similarity=None, search=search)
        assert torch.equal(fewer, most[:, :count])


def test_of_equal_negatives_the_first_rows_are_taken():
    features = torch.eye(10).repeat(20, 1) + 0.5

    negatives = mine_hard_negatives(features, torch.arange(200), 3, max_similarity=None)
    assert negatives[7].tolist() == [17, 27, 37]
    assert negatives[27].tolist() == [7, 17, 37]
