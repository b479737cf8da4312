"""Scores of found identities, by hand and by loops over pairs."""

import numpy as np
import pytest

from clipreid_kit.retrieval.discovery.discovery_scores import own_identities, score_identities


def test_scores_by_hand():
    found = np.array([0, 0, 0, 1, 1, -1])
    scores = score_identities("test", found, ["a", "a", "b", "b", "b", "b"])
    # pairs found: 01 02 12 34, of which 01 and 34 are right; known: 01 and six of b
    assert (scores.pair_precision, scores.pair_recall) == (2 / 4, 2 / 7)
    assert (scores.num_known, scores.num_found) == (2, 3)
    by_chance = 4 * 7 / 15
    assert scores.ari == pytest.approx((2 - by_chance) / ((4 + 7) / 2 - by_chance))
    assert "pair precision     50.00 %" in scores.table()
    assert scores.to_dict()["pair_recall"] == 2 / 7


def test_equal_partitions_are_perfect():
    scores = score_identities("test", np.array([1, 1, 0, 0, -1]), [5, 5, "x", "x", 7])
    assert (scores.ari, scores.ami) == (1, pytest.approx(1))
    assert (scores.pair_precision, scores.pair_recall) == (1, 1)


def test_nothing_found():
    scores = score_identities("test", np.array([-1, -1, -1]), [1, 1, 2])
    assert np.isnan(scores.pair_precision)
    assert scores.pair_recall == 0
    alone = score_identities("test", np.array([0, 0, -1]), [1, 2, 3])
    assert np.isnan(alone.pair_recall)


def test_unmatched_images_are_their_own_identities():
    assert own_identities(np.array([-1, 0, 1, -1])).tolist() == [2, 0, 1, 3]
    assert own_identities(np.array([], dtype=np.int64)).tolist() == []


def test_labels_that_say_nothing():
    with pytest.raises(ValueError, match=r"all images have the identity '\.', so there is nothing"):
        score_identities("evaluate", np.array([0, 0]), [".", "."])
    with pytest.raises(ValueError, match="there are 1 identities for 2 images"):
        score_identities("evaluate", np.array([0, 0]), [1])
