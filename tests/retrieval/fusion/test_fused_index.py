"""Fused searches against brute force over all pairs, by hand, and with what is missing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import Calibration, CameraPair, FusedIndex, GalleryIndex, calibrate
from clipreid_kit.retrieval.fusion.fusion_rule import fuse_probabilities

CURVE = Calibration(
    "logistic", 0.1, (), (), 4.0, -2.0, 0.6, 0.55, 0.65, 0.01, 0.9, 0.02, (), 9, 99, 5
)
STEEP = replace(CURVE, slope=6.0, intercept=-3.0, base_rate=0.05)  # from 0.0001 on


def cosines(queries, rows):
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return queries.astype(np.float64) @ rows.astype(np.float64).T


def by_loop(similarities, calibrations, weights, rule):
    """Combined probability of every query and image, one at a time."""
    total = sum(weights)
    fused = np.empty(similarities[0].shape)
    for q, g in np.ndindex(fused.shape):
        values = [
            float(c.probability(np.array(s[q, g])))
            for s, c in zip(similarities, calibrations, strict=True)
        ]
        if rule == "mean":
            fused[q, g] = sum(w * p for w, p in zip(weights, values, strict=True)) / total
            continue
        values = [min(max(p, 1e-4), 1 - 1e-4) for p in values]
        odds = [np.log(p / (1 - p)) for p in values]
        priors = [np.log(c.base_rate / (1 - c.base_rate)) for c in calibrations]
        if rule == "log_odds":
            log_odds = sum(w * o for w, o in zip(weights, odds, strict=True)) / total
        else:
            log_odds = sum(w * p for w, p in zip(weights, priors, strict=True)) / total
            log_odds += sum(w * (o - p) for w, o, p in zip(weights, odds, priors, strict=True))
        fused[q, g] = 1 / (1 + np.exp(-log_odds))
    return fused


@pytest.fixture(scope="module")
def galleries(tmp_path_factory):
    """Two indexes over the same 60 images, in different order and of different width."""
    folder = tmp_path_factory.mktemp("indexes")
    rng = np.random.default_rng(0)
    records = [ImageRecord(f"{n}.jpg", n // 5, camera=n % 3) for n in range(60)]
    first = rng.standard_normal((60, 6))
    second = rng.standard_normal((60, 9))
    order = rng.permutation(60)
    one = GalleryIndex.build(first, records, store=folder / "one")
    other = GalleryIndex.build(second[order], [records[n] for n in order], store=folder / "other")
    one.set_calibration(CURVE)
    other.set_calibration(STEEP)
    return one, other, first, second


@pytest.fixture(scope="module")
def queries():
    rng = np.random.default_rng(1)
    return rng.standard_normal((4, 6)), rng.standard_normal((4, 9))


@pytest.mark.parametrize("rule", ["log_odds", "independent", "mean"])
@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_all_candidates_give_the_answer_of_all_pairs(galleries, queries, rule, weights):
    one, other, first, second = galleries
    similarities = [cosines(queries[0], first), cosines(queries[1], second)]
    expected = by_loop(similarities, [CURVE, STEEP], weights or [1, 1], rule)

    fused = FusedIndex([one, other], rule=rule, weights=weights)
    for budget in (60, None, 1000):
        found = fused.search(queries, k=60, budget=budget)
        np.testing.assert_array_equal(found.rows, np.argsort(-expected, axis=1, kind="stable"))
        np.testing.assert_allclose(found.probabilities, -np.sort(-expected, axis=1), rtol=1e-9)
        assert found.is_unknown.tolist() == (expected.max(axis=1) < 0.5).tolist()

    share = np.array(weights or [1, 1]) / sum(weights or [1, 1])
    mean = share[0] * similarities[0] + share[1] * similarities[1]
    np.testing.assert_allclose(
        found.similarities, np.take_along_axis(mean, found.rows, axis=1), atol=1e-9
    )


@settings(max_examples=8, deadline=None)
@given(budget=st.integers(1, 20), k=st.integers(1, 5))
def test_candidates_are_the_shortlists_of_all_indexes(galleries, queries, budget, k):
    one, other, first, second = galleries
    budget = max(budget, k)
    similarities = [cosines(queries[0], first), cosines(queries[1], second)]
    expected = by_loop(similarities, [CURVE, STEEP], [1, 1], "log_odds")
    found = FusedIndex([one, other]).search(queries, k=k, budget=budget)
    for number in range(4):
        listed = {row for s in similarities for row in np.argsort(-s[number])[:budget].tolist()}
        best = sorted(listed, key=lambda row, n=number: -expected[n, row])[:k]
        assert found.rows[number].tolist() == best


def test_conditions_and_cameras(galleries, queries):
    one, other, _first, _second = galleries
    fused = FusedIndex([one, other])
    found = fused.search(queries, k=9, where={"identity": [1, 2]}, query_cameras=[0, 1, 2, 0])
    for number, camera in enumerate([0, 1, 2, 0]):
        allowed = [n for n in range(5, 15) if n % 3 != camera]
        assert sorted(row for row in found.rows[number].tolist() if row >= 0) == allowed
        assert len(found[number]) == len(allowed)

    nothing = fused.search(queries, k=3, where={"identity": 99})
    assert nothing.keys.shape == (4, 0)
    assert nothing.is_unknown.all()


def test_pairs_of_cameras_have_their_own_probabilities(galleries, queries):
    one, other, first, second = galleries
    pairs = (CameraPair((0, 1), 9, 99, STEEP),)
    calibrations = [replace(CURVE, camera_pairs=pairs), STEEP]
    fused = FusedIndex([one, other], calibrations=calibrations, rule="mean")
    found = fused.search([q[:1] for q in queries], k=40, budget=None, query_cameras=[0])
    similarities = cosines(queries[0][:1], first)[0], cosines(queries[1][:1], second)[0]
    for hit in found[0]:
        curve = STEEP if hit.record.camera == 1 else CURVE
        values = curve.probability(similarities[0][hit.row : hit.row + 1])
        expected = (values[0] + STEEP.probability(similarities[1])[hit.row]) / 2
        assert hit.probability == pytest.approx(expected)


def test_equal_probabilities_are_ordered_by_similarity(galleries, queries):
    one, other, first, second = galleries
    flat = Calibration(
        "isotonic", 0.1, (-1.0, 1.0), (0.0, 0.0), 0, 0, 0.6, 0.5, 0.7, 0.01, 0.9, 0.0, (), 9, 9, 5
    )
    found = FusedIndex([one, other], calibrations=[flat, flat]).search(queries, k=5, budget=None)
    mean = (cosines(queries[0], first) + cosines(queries[1], second)) / 2
    np.testing.assert_array_equal(found.rows, np.argsort(-mean, axis=1)[:, :5])
    np.testing.assert_allclose(found.probabilities, 1e-4)


def test_one_index_alone_and_twice(galleries, queries):
    one = galleries[0]
    alone = FusedIndex([one]).search([queries[0]], k=7)
    plain = one.search(queries[0], k=7)
    np.testing.assert_array_equal(alone.keys, plain.keys)
    np.testing.assert_allclose(alone.probabilities, plain.probabilities)
    np.testing.assert_allclose(alone.similarities, plain.similarities, rtol=1e-15)

    twice = FusedIndex([one, one], calibrations=[CURVE, CURVE])
    found = twice.search([queries[0], queries[0]], k=7)
    np.testing.assert_array_equal(found.keys, plain.keys)
    single = twice.search([queries[0][0], queries[0][0].tolist()], k=7)
    np.testing.assert_array_equal(single.keys, plain.keys[:1])


def test_similarities_do_not_leave_their_range(tmp_path):
    rows = np.random.default_rng(0).standard_normal((40, 96)).astype(np.float32)
    records = [ImageRecord(f"{number}.jpg", number) for number in range(40)]
    index = GalleryIndex.build(rows, records, store=tmp_path / "index")
    index.set_calibration(CURVE)
    assert FusedIndex([index]).search([rows], k=1).similarities.max() == 1


def test_rules_by_hand():
    half, likely = np.array([0.5]), np.array([0.9])
    both = np.stack([half, likely])
    assert fuse_probabilities(both, [1, 1], "log_odds", [0.5, 0.5]) == pytest.approx(0.75)
    assert fuse_probabilities(both, [1, 1], "mean", [0.5, 0.5]) == pytest.approx(0.7)
    assert fuse_probabilities(both, [1, 1], "independent", [0.5, 0.5]) == pytest.approx(0.9)
    # odds 9 twice against a base rate with odds 1 / 9: 1 / 9 * 81 * 81
    twice = np.stack([likely, likely])
    odds = 729.0
    found = fuse_probabilities(twice, [1, 1], "independent", [0.1, 0.1])
    assert found == pytest.approx(odds / (1 + odds))
    certain = fuse_probabilities(np.array([[1.0], [0.5]]), [1, 1], "log_odds", [0.1, 0.1])
    assert 0.98 < certain[0] < 1
    nothing = fuse_probabilities(np.array([[np.nan], [0.5]]), [1, 1], "log_odds", [0.1, 0.1])
    assert np.isnan(nothing).all()


def test_image_and_text_of_one_query(tmp_path):
    """Texts have their own calibration; both together find more than each alone."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, 16)).repeat(4, axis=0)
    images = centres + 1.3 * rng.standard_normal(centres.shape)
    texts = centres + 1.6 * rng.standard_normal(centres.shape)
    records = [ImageRecord(f"{n}.jpg", n // 4) for n in range(240)]
    held_out, gallery = slice(0, 120), slice(120, 240)

    of_images = calibrate(images[held_out], records[held_out], num_resamples=5)
    of_texts = calibrate(
        images[held_out], records[held_out], text_embeddings=texts[held_out], num_resamples=5
    )
    first, second = np.triu_indices(120, 1)
    pairs = cosines(texts[held_out], images[held_out])[first, second]
    assert of_texts.num_same + of_texts.num_other == len(pairs)
    asked = pairs[:50]
    is_same = first // 4 == second // 4
    assert of_texts.probability(pairs).mean() == pytest.approx(is_same.mean())
    assert not np.allclose(of_texts.probability(asked), of_images.probability(asked))

    own = np.arange(120) % 4 == 0
    index = GalleryIndex.build(
        images[gallery][~own],
        [r for r, q in zip(records[gallery], own, strict=True) if not q],
        store=tmp_path / "i",
    )
    fused = FusedIndex([index, index], calibrations=[of_images, of_texts])
    queries = [images[gallery][own], texts[gallery][own]]
    right = {}
    for name, result in {
        "fused": fused.search(queries, k=1),
        "image": index.search(queries[0], k=1),
        "text": index.search(queries[1], k=1),
    }.items():
        found = [hits[0].record.identity for hits in result]
        right[name] = sum(f == i for f, i in zip(found, range(30, 60), strict=True))
    assert right["fused"] > max(right["image"], right["text"])


def test_what_is_missing_is_said(galleries, queries, tmp_path):
    one, other, first, second = galleries
    records = one.records(one.keys())
    with pytest.raises(ValueError, match="pass at least one index"):
        FusedIndex([])
    with pytest.raises(ValueError, match="there are 1 weights for 2 indexes"):
        FusedIndex([one, other], weights=[1.0])
    with pytest.raises(ValueError, match=r"a weight is 0\.0; all have to be positive"):
        FusedIndex([one, other], weights=[1.0, 0.0])
    with pytest.raises(ValueError, match="there are 1 calibrations for 2 indexes"):
        FusedIndex([one, other], calibrations=[CURVE])
    with pytest.raises(ValueError, match="got 1 arrays of vectors for 2 indexes"):
        FusedIndex([one, other]).search([queries[0]])
    with pytest.raises(ValueError, match="hold different numbers of queries"):
        FusedIndex([one, other]).search([queries[0], queries[1][:2]])
    with pytest.raises(ValueError, match="budget"):
        FusedIndex([one, other]).search(queries, k=5, budget=3)

    bare = GalleryIndex.build(first, None, store=tmp_path / "bare")
    with pytest.raises(ValueError, match=r"bare has no calibration\..*`clipreid calibrate`"):
        FusedIndex([one, bare])
    with pytest.raises(ValueError, match="bare has no records to match images by"):
        FusedIndex([one, bare], calibrations=[CURVE, CURVE])

    fewer = GalleryIndex.build(first[:58], records[:58], store=tmp_path / "fewer")
    with pytest.raises(ValueError, match=r"different images: 58\.jpg and 1 more are in one of"):
        FusedIndex([one, fewer], calibrations=[CURVE, CURVE])
    twice = GalleryIndex.build(first[:2], [records[0], records[0]], store=tmp_path / "twice")
    with pytest.raises(ValueError, match=r"holds 0\.jpg twice"):
        FusedIndex([twice], calibrations=[CURVE])

    twice.remove([0, 1])
    assert len(FusedIndex([twice], calibrations=[CURVE])) == 0
    with pytest.raises(ValueError, match="text_embeddings are"):
        calibrate(first, records, text_embeddings=second)
