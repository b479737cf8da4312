import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import mining as oracle
from strategies import labelled_rows

from clipreid_kit.data import mine_triplets
from clipreid_kit.data.mining import triplets as triplets_module

_strategies = st.sampled_from(["hardest", "semi_hard"])
_NEAR = 1e-4  # decisions nearer than this to a threshold may fall either way


def _distances(features, triplets):
    near = oracle.cosines(features.double().tolist())
    return [
        (a, math.sqrt(max(0, 2 - 2 * near[a][p])), math.sqrt(max(0, 2 - 2 * near[a][n])))
        for a, p, n in triplets.tolist()
    ]


def _agree(found, expected, margin):
    found, expected = {t[0]: t for t in found}, {t[0]: t for t in expected}
    for anchor in found.keys() | expected.keys():
        if anchor in found and anchor in expected:
            assert found[anchor] == pytest.approx(expected[anchor], abs=2e-3)
        else:  # only one of both keeps it: it is at the edge
            _, to_positive, to_negative = found.get(anchor) or expected[anchor]
            edges = (abs(to_positive + margin - to_negative), abs(to_positive - to_negative))
            assert min(edges) < 5e-3


@given(
    data=labelled_rows(max_rows=12), strategy=_strategies, margin=st.sampled_from([0.1, 0.5, 1.5])
)
def test_triplets_by_identity_agree_with_a_loop(data, strategy, margin):
    features, labels = data
    mined = mine_triplets(features, labels, strategy=strategy, margin=margin)
    names = labels.tolist()
    expected = oracle.triplets(
        features.double().tolist(),
        lambda i, j: names[i] == names[j],
        strategy,
        margin,
        ceiling=0.99,
    )
    _agree(_distances(features, mined), expected, margin)
    assert mined[:, 0].tolist() == sorted(set(mined[:, 0].tolist()))
    assert torch.equal(labels[mined[:, 0]], labels[mined[:, 1]])
    assert not (labels[mined[:, 0]] == labels[mined[:, 2]]).any()
    assert not (mined[:, 0] == mined[:, 1]).any()


@given(
    data=labelled_rows(max_rows=10),
    strategy=_strategies,
    seed=st.integers(0, 99),
    alike=st.sampled_from([0.0, 0.6]),
    tile=st.sampled_from([1, 1 << 22]),
)
def test_triplets_by_captions_agree_with_a_loop(data, strategy, seed, alike, tile):
    features, _ = data
    texts = torch.randn(len(features), 3, generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triplets_module, "_TILE", tile)
        mined = mine_triplets(
            features, caption_features=texts, caption_similarity=alike, strategy=strategy
        )
    near = oracle.cosines(texts.double().tolist())
    expected = oracle.triplets(
        features.double().tolist(), lambda i, j: near[i][j] >= alike, strategy, 0.5, ceiling=0.99
    )
    _agree(_distances(features, mined), expected, 0.5)


def test_triplets_that_need_no_training_are_not_kept():
    """The mistake of known code is to keep exactly these."""
    apart = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]])
    assert mine_triplets(apart, torch.tensor([0, 0, 1, 1])).shape == (0, 3)
    mixed = torch.tensor([0, 1, 1, 0])
    assert len(mine_triplets(apart, mixed, max_similarity=None)) == 4


def test_a_hand_computed_case():
    angles = torch.tensor([0.0, 40.0, 21.0, 60.0, 100.0]).deg2rad()
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels = torch.tensor([0, 0, 1, 1, 2])
    assert mine_triplets(features, labels, margin=0.1).tolist() == [
        [0, 1, 2],
        [1, 0, 2],
        [2, 3, 1],
        [3, 2, 1],
    ]
    # anchor 0: p at 40 degrees, the next farther negative at 60; d = 0.68 and 1.0
    semi_hard = mine_triplets(features, labels, strategy="semi_hard", margin=0.4)
    assert semi_hard.tolist()[0] == [0, 1, 3]
    assert 0 not in mine_triplets(features, labels, strategy="semi_hard", margin=0.3)[:, 0].tolist()


def test_negatives_with_the_same_caption_and_near_duplicates_are_left_out():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.999, 0.02], [0.9, 0.3], [0.8, 0.6]])
    labels = torch.tensor([0, 0, 1, 2, 3])

    def negative(**options):
        return mine_triplets(features, labels, **options)[0, 2].item()

    assert negative(max_similarity=None) == 2
    assert negative() == 3
    assert negative(captions=["a coat", "b", "c", "A  Coat", "d"]) == 4


def test_no_items_or_one_identity_have_no_triplets():
    assert mine_triplets(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).shape == (0, 3)
    assert mine_triplets(torch.eye(3), torch.zeros(3, dtype=torch.int64)).shape == (0, 3)
    assert mine_triplets(torch.eye(3), torch.arange(3)).shape == (0, 3)
    assert mine_triplets(torch.zeros(0, 3), caption_features=torch.zeros(0, 2)).shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"margin": 0.0}, "margin > 0, a distance, got 0.0"),
        (
            {"labels": None},
            "either labels or caption_features, which say what a positive is, got neither",
        ),
        ({"caption_features": torch.eye(3)}, "either labels or caption_features.*got both"),
        (
            {"labels": None, "caption_features": torch.eye(3), "caption_similarity": 2.0},
            r"caption_similarity in \(-1, 1\]",
        ),
        ({"max_similarity": -1.0}, r"max_similarity in \(-1, 1\]"),
    ],
)
def test_wrong_options_are_explained(options, problem):
    arguments = {"features": torch.eye(3), "labels": torch.arange(3), **options}
    with pytest.raises(ValueError, match=rf"mine_triplets: expected {problem}"):
        mine_triplets(**arguments)


@pytest.mark.unhooked
def test_wrong_types_are_explained():
    with pytest.raises(
        ValueError, match="mine_triplets: expected strategy to be one of hardest, semi_hard"
    ):
        mine_triplets(torch.eye(3), torch.arange(3), strategy="all")
    with pytest.raises(
        ValueError, match="expected caption_features with 3 rows, as features, got 4"
    ):
        mine_triplets(torch.eye(3), caption_features=torch.eye(4))
