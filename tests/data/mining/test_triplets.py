import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from oracles import mining as oracle
from strategies import labelled_rows

from clipreid_kit.data import mine_triplets
from clipreid_kit.data.mining import triplets as triplets_module

_strategies = st.sampled_from(["hardest", "semi_hard"])


def distances(features, triplets):
    """Anchor, distance to the positive and distance to the negative of each triplet, in float64."""
    similarity = oracle.cosines(features.double().tolist())

    found = {}
    for anchor, positive, negative in triplets.tolist():
        to_positive = math.sqrt(max(0, 2 - 2 * similarity[anchor][positive]))
        to_negative = math.sqrt(max(0, 2 - 2 * similarity[anchor][negative]))
        found[anchor] = (to_positive, to_negative)
    return found


def assert_equal_up_to_rounding(found, expected, margin):
    """Compare triplets; a triplet at the very edge of a condition may be kept or not."""
    expected = {anchor: (positive, negative) for anchor, positive, negative in expected}

    for anchor in found.keys() & expected.keys():
        assert found[anchor] == pytest.approx(expected[anchor], abs=2e-3)

    for anchor in found.keys() ^ expected.keys():
        to_positive, to_negative = found.get(anchor) or expected[anchor]
        from_margin = abs(to_positive + margin - to_negative)
        from_positive = abs(to_positive - to_negative)
        assert min(from_margin, from_positive) < 5e-3


def are_distinct(features):
    """Whether no features coincide: else rounding decides which is farther than the positive."""
    return len(features.unique(dim=0)) == len(features)


@given(
    data=labelled_rows(max_rows=12), strategy=_strategies, margin=st.sampled_from([0.1, 0.5, 1.5])
)
def test_triplets_by_identity_agree_with_a_loop(data, strategy, margin):
    features, labels = data
    assume(strategy != "semi_hard" or are_distinct(features))
    mined = mine_triplets(features, labels, strategy=strategy, margin=margin)

    expected = oracle.triplets(
        features.double().tolist(),
        lambda i, j: labels[i] == labels[j],
        strategy,
        margin,
        ceiling=0.99,
    )
    assert_equal_up_to_rounding(distances(features, mined), expected, margin)


@given(data=labelled_rows(max_rows=12), strategy=_strategies)
def test_triplets_by_identity_are_well_formed(data, strategy):
    features, labels = data
    anchor, positive, negative = mine_triplets(features, labels, strategy=strategy).unbind(1)

    assert anchor.tolist() == sorted(set(anchor.tolist()))
    assert torch.equal(labels[anchor], labels[positive])
    assert (labels[anchor] != labels[negative]).all()
    assert (anchor != positive).all()


@given(
    data=labelled_rows(max_rows=10),
    strategy=_strategies,
    seed=st.integers(0, 99),
    caption_similarity=st.sampled_from([0.0, 0.6]),
    tile=st.sampled_from([1, 1 << 22]),
)
def test_triplets_by_captions_agree_with_a_loop(data, strategy, seed, caption_similarity, tile):
    features, _ = data
    assume(strategy != "semi_hard" or are_distinct(features))
    texts = torch.randn(len(features), 3, generator=torch.Generator().manual_seed(seed))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triplets_module, "_TILE", tile)
        mined = mine_triplets(
            features,
            caption_features=texts,
            caption_similarity=caption_similarity,
            strategy=strategy,
        )

    of_captions = oracle.cosines(texts.double().tolist())
    expected = oracle.triplets(
        features.double().tolist(),
        lambda i, j: of_captions[i][j] >= caption_similarity,
        strategy,
        0.5,
        ceiling=0.99,
    )
    assert_equal_up_to_rounding(distances(features, mined), expected, 0.5)


def test_triplets_that_need_no_training_are_left_out():
    """Other implementations keep exactly these."""
    features = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]])
    separated, mixed = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 0])

    assert mine_triplets(features, separated).shape == (0, 3)
    assert len(mine_triplets(features, mixed, max_similarity=None)) == 4


@pytest.fixture
def on_a_circle():
    angles = torch.tensor([0.0, 40.0, 21.0, 60.0, 100.0]).deg2rad()
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    return features, torch.tensor([0, 0, 1, 1, 2])


def test_hardest_triplets_by_hand(on_a_circle):
    mined = mine_triplets(*on_a_circle, margin=0.1)

    assert mined.tolist() == [[0, 1, 2], [1, 0, 2], [2, 3, 1], [3, 2, 1]]


def test_a_semi_hard_negative_is_farther_than_the_positive(on_a_circle):
    # Anchor 0 has its positive at 40 degrees and the next farther negative at 60: 0.68 and 1.0.
    wide = mine_triplets(*on_a_circle, strategy="semi_hard", margin=0.4)
    narrow = mine_triplets(*on_a_circle, strategy="semi_hard", margin=0.3)

    assert wide.tolist()[0] == [0, 1, 3]
    assert 0 not in narrow[:, 0].tolist()


def test_negatives_with_the_same_caption_and_near_duplicates_are_left_out():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.999, 0.02], [0.9, 0.3], [0.8, 0.6]])
    labels = torch.tensor([0, 0, 1, 2, 3])

    def negative(**options):
        return mine_triplets(features, labels, **options)[0, 2].item()

    assert negative(max_similarity=None) == 2
    assert negative() == 3
    assert negative(captions=["a coat", "b", "c", "A  Coat", "d"]) == 4


def test_no_items_have_no_triplets():
    no_labels = torch.zeros(0, dtype=torch.int64)

    assert mine_triplets(torch.zeros(0, 3), no_labels).shape == (0, 3)
    assert mine_triplets(torch.zeros(0, 3), caption_features=torch.zeros(0, 2)).shape == (0, 3)


def test_one_identity_or_single_images_have_no_triplets():
    assert mine_triplets(torch.eye(3), torch.zeros(3, dtype=torch.int64)).shape == (0, 3)
    assert mine_triplets(torch.eye(3), torch.arange(3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"margin": 0.0}, "expected margin > 0, a distance, got 0.0"),
        ({"labels": None}, "pass either labels or caption_features.*; neither was given"),
        (
            {"caption_features": torch.eye(3)},
            "pass either labels or caption_features.*; both were given",
        ),
        (
            {"labels": None, "caption_features": torch.eye(3), "caption_similarity": 2.0},
            r"expected caption_similarity in \(-1, 1\]",
        ),
        ({"max_similarity": -1.0}, r"expected max_similarity in \(-1, 1\]"),
    ],
)
def test_wrong_options_are_explained(options, problem):
    arguments = {"features": torch.eye(3), "labels": torch.arange(3), **options}

    with pytest.raises(ValueError, match=f"mine_triplets: {problem}"):
        mine_triplets(**arguments)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"strategy": "all"}, "strategy to be one of hardest, semi_hard"),
        ({"margin": "0.5"}, "margin as a number, got '0.5'"),
        (
            {"labels": None, "caption_features": torch.eye(4)},
            "caption_features with 3 rows, like features, got 4",
        ),
        (
            {"labels": None, "caption_features": torch.eye(3), "caption_similarity": None},
            "caption_similarity as a number, got None",
        ),
    ],
)
def test_wrong_types_are_explained(options, problem):
    arguments = {"features": torch.eye(3), "labels": torch.arange(3), **options}

    with pytest.raises(ValueError, match=f"mine_triplets: expected {problem}"):
        mine_triplets(**arguments)


@pytest.mark.parametrize("strategy", ["hardest", "semi_hard"])
@pytest.mark.parametrize("by", ["labels", "captions"])
def test_a_copy_is_never_a_positive_of_its_own_image(strategy, by):
    """Rows 0 to 3 show one image of identity 0, row 4 another; rows 5 and 6 one of identity 1."""
    angles = torch.tensor([0.0, 0.0, 5.0, 0.0, 40.0, 130.0, 130.0]).deg2rad()
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    images = torch.tensor([7, 7, 7, 7, 2, 3, 3])
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1])
    texts = torch.nn.functional.one_hot(labels).float()
    options = {"labels": labels} if by == "labels" else {"caption_features": texts}

    with pytest.warns(UserWarning, match="mine_triplets: 2 of 7 items have no positives but cop"):
        mined = mine_triplets(
            features, images=images, strategy=strategy, margin=1.5, max_similarity=None, **options
        )
    assert {anchor for anchor, *_ in mined.tolist()} == {0, 1, 2, 3, 4}
    assert (images[mined[:, 0]] != images[mined[:, 1]]).all()
    assert (images[mined[:, 0]] != images[mined[:, 2]]).all()


def test_copies_alone_give_no_triplet():
    features = torch.eye(4)
    labels, images = torch.tensor([0, 0, 1, 1]), torch.tensor([5, 5, 6, 6])
    assert len(mine_triplets(features, labels)) == 4
    with pytest.warns(UserWarning, match="4 of 4 items have no positives but copies"):
        assert mine_triplets(features, labels, images=images).shape == (0, 3)
