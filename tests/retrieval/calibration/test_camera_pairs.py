"""Calibrations of pairs of cameras against those of their images alone, and hits judged by them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import Calibration, CameraPair, GalleryIndex, calibrate
from clipreid_kit.retrieval.calibration.camera_pairs import (
    judge_hits,
    judge_pairs,
    number_cameras,
)

LOGISTIC = Calibration(
    "logistic", 0.1, (), (), 10.0, -5.0, 0.6, 0.55, 0.65, 0.01, 0.9, 0.02, (), 9, 99, 5
)
STRICT = replace(LOGISTIC, intercept=-9.0, threshold=0.95)


def two_cameras(num_identities=16, images=8, shift=1.5, seed=0):
    """Embeddings of two cameras, of which the second one adds the same to all its images."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((num_identities, 8)).repeat(images, axis=0)
    rows = centres + 0.4 * rng.standard_normal(centres.shape)
    cameras = np.arange(len(rows)) % 2
    rows[cameras == 1, 0] += shift
    records = [
        ImageRecord(f"{n}.jpg", n // images, camera=("door", 7)[cameras[n]])
        for n in range(len(rows))
    ]
    return rows, records


def chosen(rows, records, camera):
    own = [n for n, record in enumerate(records) if record.camera == camera]
    return rows[own], [records[n] for n in own]


def test_each_pair_is_calibrated_as_by_itself():
    rows, records = two_cameras()
    options = {"min_pairs": 90, "num_resamples": 20}
    found = calibrate(rows, records, per_camera_pair=True, **options)
    assert replace(found, camera_pairs=()) == calibrate(rows, records, num_resamples=20)
    assert [pair.cameras for pair in found.camera_pairs] == [(7, 7), (7, "door"), ("door", "door")]
    assert [pair.num_same for pair in found.camera_pairs] == [16 * 6, 16 * 16, 16 * 6]
    assert [pair.num_other for pair in found.camera_pairs] == [
        64 * 63 // 2 - 16 * 6,
        64 * 64 - 16 * 16,
        64 * 63 // 2 - 16 * 6,
    ]

    assert found.of_cameras(7, 7) == calibrate(*chosen(rows, records, 7), num_resamples=20)
    across = calibrate(rows, records, across_cameras=True, num_resamples=20)
    assert found.of_cameras("door", 7) == found.of_cameras(7, "door") == across
    assert found.of_cameras("door", 7).threshold < found.of_cameras(7, 7).threshold
    assert found.of_cameras(7, 8) is found.of_cameras(None, 7) is found

    text = json.dumps(found.as_dict())
    assert Calibration.from_dict(json.loads(text)) == found
    assert found.table().splitlines()[-2].startswith("7 and door ")


def test_too_few_pairs_use_the_common_one():
    rows, records = two_cameras()
    found = calibrate(rows, records, per_camera_pair=True, min_pairs=97, num_resamples=20)
    assert [pair.calibration is None for pair in found.camera_pairs] == [True, False, True]
    assert found.of_cameras(7, 7) is found
    last = found.table().splitlines()[-1]
    assert last == "door and door  the common one: 96 pairs of one identity are too few"
    assert Calibration.from_dict(json.loads(json.dumps(found.as_dict()))) == found

    # ten pairs of different identities have to be above the threshold
    rare = calibrate(rows, records, per_camera_pair=True, min_pairs=1, false_positive_rate=0.003)
    assert [pair.calibration is None for pair in rare.camera_pairs] == [True, False, True]


def test_a_camera_with_one_identity_uses_the_common_one():
    rows, records = two_cameras()
    records[:8] = [replace(record, camera="only") for record in records[:8]]
    found = calibrate(rows, records, per_camera_pair=True, min_pairs=1, num_resamples=5)
    own = {pair.cameras: pair.calibration for pair in found.camera_pairs}
    assert own["only", "only"] is None
    assert own["door", "only"] is None
    assert own[7, "door"] is not None


def test_across_cameras_leaves_out_pairs_of_one_camera():
    rows, records = two_cameras()
    options = {"per_camera_pair": True, "across_cameras": True, "num_resamples": 5}
    found = calibrate(rows, records, **options)
    assert [pair.cameras for pair in found.camera_pairs] == [(7, "door")]
    assert found.camera_pairs[0].calibration == replace(found, camera_pairs=())


def test_pairs_are_judged_by_hand():
    calibration = replace(LOGISTIC, camera_pairs=(CameraPair((2, 1), 9, 99, STRICT),))
    similarity = np.array([0.9, 0.9, 0.9, 0.9, np.nan])
    first, second = np.array([0, 1, 0, -1, 1]), np.array([1, 0, 0, 1, 0])
    probability, is_same = judge_pairs(calibration, similarity, [1, 2], first, second)
    own, common = STRICT.probability(np.array(0.9)), LOGISTIC.probability(np.array(0.9))
    np.testing.assert_array_equal(probability, [own, own, common, common, np.nan])
    assert is_same.tolist() == [False, False, True, True, False]

    unknown, _ = judge_pairs(calibration, similarity, [1, 3], first, second)
    np.testing.assert_array_equal(unknown[:4], [common] * 4)


def test_each_pair_is_moved_from_its_own_base_rate():
    strict = replace(STRICT, base_rate=0.02)
    calibration = replace(LOGISTIC, camera_pairs=(CameraPair((2, 1), 9, 99, strict),))
    similarity, first = np.array([0.9, 0.9]), np.array([0, 0])
    found, _ = judge_pairs(calibration, similarity, [1, 2], first, np.array([1, 0]), base_rate=0.3)
    for value, own in zip(found, (strict, LOGISTIC), strict=True):
        p = float(own.probability(similarity)[0])
        odds = p / (1 - p) * (0.3 / 0.7) / (own.base_rate / (1 - own.base_rate))
        assert value == pytest.approx(odds / (1 + odds))


def test_numbers_come_before_names():
    cameras, numbers = number_cameras(["b", 10, None, 2, "b"])
    assert cameras == [2, 10, "b"]
    assert numbers.tolist() == [2, 1, -1, 0, 2]


def test_hits_without_records_are_judged_by_the_common_one():
    calibration = replace(LOGISTIC, camera_pairs=(CameraPair((1, 2), 9, 99, STRICT),))
    similarity = np.array([[0.9, 0.7], [0.9, np.nan]])
    records = [[ImageRecord("a.jpg", 1, camera=2), None], [ImageRecord("b.jpg", 1, camera=2)]]
    probability, is_unknown = judge_hits(calibration, similarity, records, [1, 3])
    common = LOGISTIC.probability(similarity)
    np.testing.assert_array_equal(probability[0], [STRICT.probability(np.array(0.9)), common[0, 1]])
    np.testing.assert_array_equal(probability[1], common[1])
    assert is_unknown.tolist() == [False, False]
    assert judge_hits(calibration, similarity[:, :1], [[r[0]] for r in records], [1, 3])[
        1
    ].tolist() == [True, False]


def test_a_search_that_knows_cameras_uses_their_calibration(tmp_path):
    rows, records = two_cameras()
    calibration = calibrate(rows, records, per_camera_pair=True, num_resamples=5)
    index = GalleryIndex.build(rows, records, store=tmp_path / "i")
    index.set_calibration(calibration)
    opened = GalleryIndex.open(tmp_path / "i")
    assert opened.calibration == calibration

    result = opened.search(rows[:2], k=3, query_cameras=["door", 7])
    own = calibration.of_cameras("door", 7)
    np.testing.assert_array_equal(result.probabilities, own.probability(result.similarities))
    common = opened.search(rows[:2], k=3)
    np.testing.assert_array_equal(
        common.probabilities, calibration.probability(common.similarities)
    )


def test_records_without_cameras():
    rows, records = two_cameras()
    records[3] = ImageRecord("gone.jpg", 0)
    with pytest.raises(
        ValueError, match=r"per_camera_pair needs the camera of every record, and g"
    ):
        calibrate(rows, records, per_camera_pair=True)
    same = [replace(record, camera=1) for record in records]
    with pytest.raises(ValueError, match="across_cameras needs images of two cameras"):
        calibrate(rows, same, across_cameras=True)
    with pytest.raises(ValueError, match="not the values of a calibration"):
        Calibration.from_dict({**LOGISTIC.as_dict(), "camera_pairs": [{}]})


@pytest.mark.parametrize(("across_cameras", "num_pairs"), [(False, 3), (True, 1)])
def test_resamples_and_pairs_of_cameras_are_reported(across_cameras, num_pairs):
    rows, records = two_cameras()
    reported = []
    calibrate(
        rows,
        records,
        per_camera_pair=True,
        across_cameras=across_cameras,
        num_resamples=4,
        method="logistic",
        progress=lambda done, total: reported.append((done, total)),
    )

    expected = [(done, 4) for done in range(5)]
    assert reported == [*expected, *((done, num_pairs) for done in range(num_pairs + 1))]
