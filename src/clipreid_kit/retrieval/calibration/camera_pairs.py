"""Calibrations of single pairs of cameras, and the judgement of hits by them."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.calibration.calibration import Calibration, CameraPair
from clipreid_kit.retrieval.calibration.labelled_pairs import LabelledPairs, labelled_pairs
from clipreid_kit.retrieval.calibration.pair_fit import (
    FitOptions,
    TooFewPairsError,
    fit_pairs,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Camera = int | str | None

# accepted pairs of different identities that a threshold rests on, at the least
_ACCEPTED = 10


def fit_camera_pairs(
    embeddings: Tensor,
    records: Sequence[ImageRecord],
    options: FitOptions,
    *,
    across_cameras: bool,
    max_pairs: int,
    min_pairs: int,
    fingerprint: str | None,
    texts: Tensor | None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[CameraPair, ...]:
    """Fit a calibration to each pair of cameras that has enough pairs of images.

    Args:
        embeddings: (N, D).
        records: Their N records, all with a camera.
        options: How pairs are calibrated.
        across_cameras: Leave out pairs of images of one camera.
        max_pairs: Largest number of pairs of images of the same identity, and of different ones,
            for each pair of cameras.
        min_pairs: Pairs of images of the same identity from which on two cameras have a
            calibration of their own.
        fingerprint: Names the encoder.
        texts: (N, D), embeddings of texts to compare with the images; ``None`` for the images.
        progress: Called with the number of pairs of cameras that are done, and that of all.
    """
    cameras, camera_of_row = number_cameras([record.camera for record in records])

    # A camera is also paired with itself, unless images of one camera are not compared.
    numbers = range(len(cameras))
    camera_pairs = list(itertools.combinations_with_replacement(numbers, 2))
    if across_cameras:
        camera_pairs = list(itertools.combinations(numbers, 2))
    if progress is not None:
        progress(0, len(camera_pairs))

    fitted = []
    for first, second in camera_pairs:
        rows = np.flatnonzero((camera_of_row == first) | (camera_of_row == second))
        pairs = labelled_pairs(
            embeddings[rows],
            [records[row] for row in rows.tolist()],
            across_cameras=first != second,
            max_pairs=max_pairs,
            seed=options.seed,
            texts=None if texts is None else texts[rows],
        )

        calibration = _fit_if_enough(pairs, options, min_pairs, fingerprint)
        num_same = int(pairs.is_same.sum())
        num_other = len(pairs.is_same) - num_same
        names = (cameras[first], cameras[second])
        fitted.append(CameraPair(names, num_same, num_other, calibration))

        if progress is not None:
            progress(len(fitted), len(camera_pairs))

    return tuple(fitted)


def number_cameras(cameras: Sequence[Camera]) -> tuple[list[int | str], IntArray]:
    """Return the distinct cameras in order, and the number of each one; -1 where it is unknown."""
    known = {camera for camera in cameras if camera is not None}
    distinct = sorted(known, key=_camera_order)
    number_of: dict[Camera, int] = {camera: number for number, camera in enumerate(distinct)}
    number_of[None] = -1
    return distinct, np.array([number_of[camera] for camera in cameras], dtype=np.int64)


def judge_pairs(
    calibration: Calibration,
    similarity: FloatArray,
    cameras: Sequence[int | str],
    first: IntArray,
    second: IntArray,
    *,
    base_rate: float | None = None,
) -> tuple[FloatArray, BoolArray]:
    """Judge pairs of images, by the calibration of their two cameras where it has one.

    Args:
        calibration: A calibration.
        similarity: Cosine similarities, of any shape.
        cameras: Distinct cameras.
        first: Number of the camera of the first image of each pair, of the same shape; -1 if
            unknown.
        second: That of the second image.
        base_rate: Share of pairs of the same identity that probabilities are to assume; ``None``
            for that of each calibration.

    Returns:
        Probabilities that pairs show the same identity, and whether they are accepted.
    """
    probability = _probability(calibration, similarity, base_rate)
    is_same = calibration.is_same(similarity)

    for pair in calibration.camera_pairs:
        if pair.calibration is None or not all(camera in cameras for camera in pair.cameras):
            continue

        one, other = (cameras.index(camera) for camera in pair.cameras)
        is_own = ((first == one) & (second == other)) | ((first == other) & (second == one))
        probability[is_own] = _probability(pair.calibration, similarity[is_own], base_rate)
        is_same[is_own] = pair.calibration.is_same(similarity[is_own])
    return probability, is_same


def judge_hits(
    calibration: Calibration,
    similarity: FloatArray,
    records: Sequence[Sequence[ImageRecord | None]],
    query_cameras: Sequence[Camera] | None,
) -> tuple[FloatArray, BoolArray]:
    """Judge the hits of queries, by the calibration of their two cameras where these are known.

    Args:
        calibration: A calibration.
        similarity: (Q, K), NaN where there is no hit.
        records: For each query the records of its hits.
        query_cameras: Camera of each query; ``None`` if unknown.

    Returns:
        Probabilities (Q, K) that query and hit show the same identity, and for each query whether
        no hit is accepted.
    """
    if query_cameras is None or not calibration.camera_pairs:
        is_same = calibration.is_same(similarity)
        return calibration.probability(similarity), _without_any(is_same)

    of_hits = np.full(similarity.shape, None, dtype=object)
    for number, found in enumerate(records):
        for place, record in enumerate(found):
            of_hits[number, place] = None if record is None else record.camera

    flat = of_hits.ravel().tolist()
    cameras, numbers = number_cameras([*query_cameras, *flat])
    num_queries = len(query_cameras)
    first = np.broadcast_to(numbers[:num_queries, None], similarity.shape)
    second = numbers[num_queries:].reshape(similarity.shape)
    probability, is_same = judge_pairs(calibration, similarity, cameras, first, second)
    return probability, _without_any(is_same)


def _without_any(is_same: BoolArray) -> BoolArray:
    return np.asarray(np.logical_not(is_same.any(axis=1)))


def _probability(
    calibration: Calibration, similarity: FloatArray, base_rate: float | None
) -> FloatArray:
    """Return probabilities at a base rate."""
    probability = calibration.probability(similarity)
    if base_rate is None:
        return probability

    # Bayes' rule: the odds change by a factor
    own_odds = calibration.base_rate / (1 - calibration.base_rate)
    scaled = base_rate / (1 - base_rate) / own_odds * probability
    return scaled / (scaled + 1 - probability)


def _fit_if_enough(
    pairs: LabelledPairs, options: FitOptions, min_pairs: int, fingerprint: str | None
) -> Calibration | None:
    """Fit a calibration; ``None`` if there are too few pairs for it."""
    num_same = int(pairs.is_same.sum())
    num_other = len(pairs.is_same) - num_same
    if num_same < min_pairs or num_other * options.false_positive_rate < _ACCEPTED:
        return None

    try:
        return fit_pairs(pairs, options, fingerprint)
    except TooFewPairsError:  # of too few identities
        return None


def _camera_order(camera: int | str) -> tuple[bool, int, str]:
    """Numbers come before names."""
    if isinstance(camera, int):
        return False, camera, ""
    return True, 0, camera
