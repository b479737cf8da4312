"""Calibration against cases computed by hand, and on embeddings whose probabilities are known."""

import json

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import Calibration, GalleryIndex, calibrate
from clipreid_kit.retrieval.calibration.labelled_pairs import labelled_pairs
from clipreid_kit.retrieval.calibration.pair_fit import _above, _bins


def clusters(num_identities=20, images=5, noise=0.5, dim=8, seed=0):
    """Embeddings around a centre of each identity, and their records; two cameras in turn."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((num_identities, dim)).repeat(images, axis=0)
    rows = centres + noise * rng.standard_normal(centres.shape)
    records = [ImageRecord(f"{n}.jpg", n // images, camera=n % 2) for n in range(len(rows))]
    return rows, records


def all_pairs(rows, records, *, across_cameras=False):
    """Similarity and label of every pair, by a loop."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = []
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            if across_cameras and records[i].camera == records[j].camera:
                continue
            found.append((unit[i] @ unit[j], records[i].identity == records[j].identity))
    return np.array([s for s, _ in found]), np.array([same for _, same in found])


@pytest.mark.parametrize("across_cameras", [False, True])
def test_pairs_are_those_of_a_loop(across_cameras):
    import torch

    rows, records = clusters(6, 4)
    options = {"across_cameras": across_cameras, "seed": 0}
    pairs = labelled_pairs(torch.from_numpy(rows), records, max_pairs=10**6, **options)
    similarity, is_same = all_pairs(rows, records, across_cameras=across_cameras)
    for label in (False, True):
        np.testing.assert_allclose(
            np.sort(pairs.similarity[pairs.is_same == label]), np.sort(similarity[is_same == label])
        )
    assert pairs.base_rate == is_same.mean()

    sample = labelled_pairs(torch.from_numpy(rows), records, max_pairs=10, **options)
    assert (sample.is_same.sum(), (~sample.is_same).sum()) == (10, 10)
    assert sample.base_rate == is_same.mean()
    assert set(sample.similarity.round(9)) <= set(similarity.round(9))


def test_the_isotonic_curve_is_that_of_scikit_learn():
    rows, records = clusters()
    similarity, is_same = all_pairs(rows, records)
    expected = IsotonicRegression(out_of_bounds="clip").fit(similarity, is_same)

    calibration = calibrate(rows, records)
    asked = np.linspace(-1, 1, 50)
    np.testing.assert_allclose(calibration.probability(asked), expected.predict(asked), atol=1e-9)
    assert calibration.base_rate == is_same.mean()
    assert (calibration.num_same, calibration.num_other) == (is_same.sum(), (~is_same).sum())


def test_the_threshold_keeps_the_rate():
    rows, records = clusters()
    similarity, is_same = all_pairs(rows, records)
    calibration = calibrate(rows, records, false_positive_rate=0.01)
    accepted = similarity >= calibration.threshold
    assert accepted[~is_same].mean() <= 0.01 < accepted[~is_same].mean() + 2 / (~is_same).sum()
    assert calibration.true_positive_rate == pytest.approx(accepted[is_same].mean())
    assert calibration.threshold_low <= calibration.threshold <= calibration.threshold_high
    assert calibration.threshold_low < calibration.threshold_high


def test_thresholds_by_hand():
    values = np.array([0.9, 0.8, 0.8, 0.5])
    assert _above(values, np.ones(4), 0.25) == np.nextafter(0.8, 1)
    assert _above(values, np.ones(4), 0.2) == np.nextafter(0.9, 1)
    assert _above(values, np.ones(4), 0.75) == np.nextafter(0.5, 1)
    assert _above(values, np.array([0.0, 1, 1, 2]), 0.5) == np.nextafter(0.5, 1)


def test_bins_by_hand():
    predicted = np.array([0.05, 0.05, 0.95, 1.0])
    is_same = np.array([False, True, True, True])
    error, bins = _bins(predicted, is_same, np.array([1.0, 1, 1, 1]))
    assert [(part.low, part.share) for part in bins] == [(0.0, 0.5), (0.9, 0.5)]
    assert bins[0].observed == 0.5
    assert bins[1].predicted == pytest.approx(0.975)
    assert error == pytest.approx(0.5 * 0.45 + 0.5 * 0.025)


@pytest.mark.parametrize("method", ["isotonic", "logistic"])
def test_probabilities_hold_for_other_identities(method):
    calibration = calibrate(*clusters(60, 5), method=method)
    similarity, is_same = all_pairs(*clusters(60, 5, seed=1))
    assert calibration.probability(similarity).mean() == pytest.approx(is_same.mean(), abs=0.01)
    assert calibration.calibration_error < 0.03
    assert sum(part.share for part in calibration.reliability) == pytest.approx(1)
    likely = calibration.probability(similarity) > 0.8
    assert is_same[likely].mean() > 0.7


def test_the_base_rate_moves_probabilities():
    rows, records = clusters()
    rare = calibrate(rows, records, method="logistic", base_rate=0.001)
    frequent = calibrate(rows, records, method="logistic", base_rate=0.5)
    assert rare.probability(np.array(0.8)) < frequent.probability(np.array(0.8))
    assert rare.threshold == frequent.threshold


def test_the_same_seed_gives_the_same():
    rows, records = clusters()
    first = calibrate(rows, records, max_pairs=500, seed=3)
    assert first == calibrate(rows, records, max_pairs=500, seed=3)
    assert first != calibrate(rows, records, max_pairs=500, seed=4)
    assert Calibration.from_dict(json.loads(json.dumps(first.as_dict()))) == first
    assert "95 % of" in first.table()


def test_an_index_says_unknown(tmp_path):
    rows, records = clusters(noise=0.2)
    index = GalleryIndex.build(rows.astype(np.float32), records, store=tmp_path / "i")
    assert index.search(rows[0], k=2).is_unknown is None
    assert index.search(rows[0], k=2)[0][0].probability is None

    calibration = calibrate(rows, records, false_positive_rate=0.001)
    index.set_calibration(calibration)
    index.add(rows[:1].astype(np.float32), records[:1])
    opened = GalleryIndex.open(tmp_path / "i")
    assert opened.calibration == calibration
    assert opened.info().is_calibrated

    stranger = np.zeros(8)
    result = opened.search(np.stack([rows[0], stranger]), k=2)
    assert result.is_unknown.tolist() == [False, True]
    assert result[0][0].probability == calibration.probability(result.similarities)[0, 0] > 0.9

    empty = opened.search(rows[0], k=2, where={"identity": 99})
    assert empty.is_unknown.tolist() == [True]
    assert np.isnan(empty.probabilities).all()

    opened.set_calibration(None)
    assert opened.search(rows[0], k=2).probabilities is None


def test_a_calibration_of_another_model_is_refused(tmp_path):
    from dataclasses import replace

    rows, records = clusters()
    index = GalleryIndex.build(rows, records, store=tmp_path / "i", fingerprint="a")
    calibration = replace(calibrate(rows, records), fingerprint="b")
    with pytest.raises(
        ValueError, match=r"of another model \(fingerprint b\) than the index \(a\)"
    ):
        index.set_calibration(calibration)
    assert GalleryIndex.open(tmp_path / "i").calibration is None


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"false_positive_rate": 0.0}, "false_positive_rate is 0.0; it has to be between 0 and 1"),
        ({"base_rate": 1.0}, "base_rate is 1.0"),
        ({"false_positive_rate": 1e-5}, "are too few for a false positive rate of 1e-05; it takes"),
        ({"method": "platt"}, "method"),
    ],
)
def test_options_out_of_range(change, words):
    with pytest.raises(ValueError, match=words):
        calibrate(*clusters(), **change)


def test_images_that_do_not_suffice():
    rows, records = clusters()
    with pytest.raises(ValueError, match=r"got embeddings \(5, 8\) for 100 records"):
        calibrate(rows[:5], records)
    with pytest.raises(ValueError, match=r"there are 2 identities .* it takes four identities"):
        calibrate(rows[:10], records[:10])
    with pytest.raises(ValueError, match="and 0 pairs of the same one"):
        calibrate(rows[::5], records[::5])
    with pytest.raises(ValueError, match="the embeddings hold NaN or infinity"):
        calibrate(rows * np.nan, records)
    unknown = [ImageRecord(record.path, record.identity) for record in records]
    with pytest.raises(ValueError, match="across_cameras needs the camera of every record"):
        calibrate(rows, unknown, across_cameras=True)
    with pytest.raises(ValueError, match="these are not the values of a calibration"):
        Calibration.from_dict({"method": "isotonic"})
