"""Calibrate similarities on images with known identities."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer, check_number, check_seed
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.calibration.calibration import Calibration, ReliabilityBin
from clipreid_kit.retrieval.calibration.labelled_pairs import LabelledPairs, labelled_pairs
from clipreid_kit.retrieval.encoding.encoder import Encoder

FloatArray = npt.NDArray[np.float64]

_OWNER = "calibrate"
_FOLDS = 5
_BINS = 10


def calibrate(
    embeddings: Encoder | Float[Tensor, "n d"] | Float[np.ndarray, "n d"],
    records: Sequence[ImageRecord],
    *,
    method: Literal["isotonic", "logistic"] = "isotonic",
    false_positive_rate: float = 0.01,
    base_rate: float | None = None,
    across_cameras: bool = False,
    max_pairs: int = 200_000,
    num_resamples: int = 200,
    seed: int = 0,
) -> Calibration:
    """Learn which similarity means "the same identity", from images whose identities are known.

    Use it for scores that mean something, and for an answer "unknown": on identities that the model
    was not trained on, with images like those that will be searched. All pairs of the images are
    compared, or a sample of them; the probability of a similarity is fitted by scikit-learn, and
    judged on identities that were held out from the fit, in five folds. Needs the extra
    ``calibrate``.

    Args:
        embeddings: An :class:`Encoder`, or embeddings (N, D).
        records: N records.
        method: ``"isotonic"``: any rising curve, for some thousand pairs and more; ``"logistic"``:
            a curve of two parameters, for few.
        false_positive_rate: Share of pairs of different identities that may be accepted, which
            decides about the threshold.
        base_rate: Share of pairs of the same identity where the probabilities will be used.
            ``None`` for that of these images.
        across_cameras: Use pairs of different cameras only, as in a search that leaves out the
            query's camera.
        max_pairs: Pairs of the same identity, and of different ones, above which a sample is drawn.
        num_resamples: Resamples of the identities for the interval of the threshold.
        seed: Of samples and folds.

    Returns:
        The calibration; :meth:`GalleryIndex.set_calibration` saves it with an index.

    Raises:
        ValueError: If scikit-learn is not installed, there are fewer than four identities or no two
            images of one in two folds, or too few pairs for the false positive rate.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> centres = rng.standard_normal((20, 8)).repeat(5, axis=0)
        >>> rows = centres + 0.3 * rng.standard_normal((100, 8))
        >>> records = [ImageRecord(f"{n}.jpg", n // 5) for n in range(100)]
        >>> calibration = calibrate(rows, records, method="logistic")
        >>> 0.5 < calibration.threshold < 0.9, calibration.true_positive_rate > 0.9
        (True, True)
    """
    _check_options(method, false_positive_rate, base_rate, max_pairs, num_resamples, seed)
    fingerprint = embeddings.fingerprint if isinstance(embeddings, Encoder) else None
    rows = _rows(embeddings, records)
    if across_cameras and any(record.camera is None for record in records):
        raise ValueError(f"{_OWNER}: across_cameras needs the camera of every record.")

    pairs = labelled_pairs(
        rows, records, across_cameras=across_cameras, max_pairs=max_pairs, seed=seed
    )
    _check_pairs(pairs, false_positive_rate)
    rate = pairs.base_rate if base_rate is None else base_rate

    curve = _fit(method, pairs, rate)
    error, bins = _reliability(method, pairs, rate, seed)
    threshold, low, high = _threshold(pairs, false_positive_rate, num_resamples, seed)
    return Calibration(
        method=method,
        base_rate=rate,
        similarities=curve.similarities,
        probabilities=curve.probabilities,
        slope=curve.slope,
        intercept=curve.intercept,
        threshold=threshold,
        threshold_low=low,
        threshold_high=high,
        false_positive_rate=false_positive_rate,
        true_positive_rate=float((pairs.similarity[pairs.is_same] >= threshold).mean()),
        calibration_error=error,
        reliability=bins,
        num_same=int(pairs.is_same.sum()),
        num_other=int((~pairs.is_same).sum()),
        num_identities=pairs.num_identities,
        fingerprint=fingerprint,
    )


class _Curve(NamedTuple):
    """A fitted curve: knots of an isotonic one, or the parameters of a logistic one."""

    similarities: tuple[float, ...]
    probabilities: tuple[float, ...]
    slope: float
    intercept: float

    def __call__(self, similarity: FloatArray) -> FloatArray:
        if self.similarities:
            return np.interp(similarity, self.similarities, self.probabilities)
        return 1 / (1 + np.exp(-(self.slope * similarity + self.intercept)))


def _check_options(
    method: str,
    false_positive_rate: float,
    base_rate: float | None,
    max_pairs: int,
    num_resamples: int,
    seed: int,
) -> None:
    check_choice(_OWNER, "method", method, ("isotonic", "logistic"))
    check_integer(_OWNER, "max_pairs", max_pairs, 1)
    check_integer(_OWNER, "num_resamples", num_resamples, 1)
    check_seed(_OWNER, seed)
    for name, value in (("false_positive_rate", false_positive_rate), ("base_rate", base_rate)):
        if value is None:
            continue
        check_number(_OWNER, name, value)
        if not 0 < value < 1:
            raise ValueError(f"{_OWNER}: {name} is {value}; it has to be between 0 and 1.")


def _rows(
    embeddings: Encoder | Tensor | npt.NDArray[Any], records: Sequence[ImageRecord]
) -> Tensor:
    """Return embeddings (N, D) on the CPU, checked to be as many as the records."""
    if isinstance(embeddings, Encoder):
        return embeddings.encode_images(list(records))

    rows = torch.as_tensor(embeddings).detach().cpu()
    if rows.ndim != 2 or len(rows) != len(records):
        raise ValueError(
            f"{_OWNER}: got embeddings {tuple(rows.shape)} for {len(records)} records; pass one "
            "row for each."
        )
    if not bool(rows.isfinite().all()):
        raise ValueError(f"{_OWNER}: the embeddings hold NaN or infinity.")
    return rows


def _check_pairs(pairs: LabelledPairs, false_positive_rate: float) -> None:
    """Raise ValueError if there are too few pairs to learn from."""
    num_other = int((~pairs.is_same).sum())
    if pairs.num_identities < 4 or not pairs.is_same.any():
        raise ValueError(
            f"{_OWNER}: there are {pairs.num_identities} identities and "
            f"{int(pairs.is_same.sum())} pairs of the same one; it takes four identities at least, "
            "with two images each."
        )
    if num_other * false_positive_rate < 1:
        raise ValueError(
            f"{_OWNER}: {num_other} pairs of different identities are too few for a false positive "
            f"rate of {false_positive_rate:g}; it takes {int(np.ceil(1 / false_positive_rate))}. "
            "Add images, or allow a larger rate."
        )


def _fit(method: str, pairs: LabelledPairs, base_rate: float) -> _Curve:
    """Fit the probability of the same identity to the similarities of pairs."""
    try:
        from sklearn.isotonic import IsotonicRegression
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise ValueError(
            f"{_OWNER}: scikit-learn is needed. Run pip install clipreid_kit[calibrate]."
        ) from None

    weights = pairs.weights(base_rate)
    if method == "isotonic":
        isotonic = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        isotonic.fit(pairs.similarity, pairs.is_same.astype(np.float64), sample_weight=weights)
        knots = tuple(map(float, isotonic.X_thresholds_))
        return _Curve(knots, tuple(map(float, isotonic.y_thresholds_)), 0.0, 0.0)

    # next to no regularisation: two parameters need none, but separable pairs must not diverge
    logistic = LogisticRegression(C=1e4)
    logistic.fit(pairs.similarity[:, None], pairs.is_same, sample_weight=weights)
    return _Curve((), (), float(logistic.coef_[0, 0]), float(logistic.intercept_[0]))


def _reliability(
    method: str, pairs: LabelledPairs, base_rate: float, seed: int
) -> tuple[float, tuple[ReliabilityBin, ...]]:
    """Compare probabilities with what is observed, on identities that were held out.

    Returns:
        The expected calibration error, and its bins.
    """
    num_folds = min(_FOLDS, pairs.num_identities // 2)
    order = np.random.default_rng(seed).permutation(pairs.num_identities)
    fold_of_pair = (order % num_folds)[pairs.identities]

    held_out, predictions = [], []
    for fold in range(num_folds):
        in_fold = fold_of_pair == fold
        fitted = pairs.chosen(~in_fold.any(axis=1))
        tested = pairs.chosen(in_fold.all(axis=1))
        if not fitted.is_same.any() or fitted.is_same.all() or not len(tested.is_same):
            continue
        held_out.append(tested)
        predictions.append(_fit(method, fitted, base_rate)(tested.similarity))

    if not held_out or not any(part.is_same.any() for part in held_out):
        raise ValueError(
            f"{_OWNER}: too few identities have two images to hold some of them out. Add images."
        )
    similarity = np.concatenate([part.similarity for part in held_out])
    is_same = np.concatenate([part.is_same for part in held_out])
    identities = np.concatenate([part.identities for part in held_out])
    tested = LabelledPairs(similarity, is_same, identities, pairs.base_rate, pairs.num_identities)
    return _bins(np.concatenate(predictions), is_same, tested.weights(base_rate))


def _bins(
    predicted: FloatArray, is_same: npt.NDArray[np.bool_], weights: FloatArray
) -> tuple[float, tuple[ReliabilityBin, ...]]:
    """Gather predictions into bins of equal width."""
    edges = np.linspace(0, 1, _BINS + 1)
    number = np.minimum((predicted * _BINS).astype(int), _BINS - 1)
    total = weights.sum()

    bins = []
    for position in range(_BINS):
        own = number == position
        weight = weights[own].sum()
        if weight == 0:
            continue
        bins.append(
            ReliabilityBin(
                low=float(edges[position]),
                high=float(edges[position + 1]),
                share=float(weight / total),
                predicted=float((weights[own] * predicted[own]).sum() / weight),
                observed=float((weights[own] * is_same[own]).sum() / weight),
            )
        )
    error = sum(part.share * abs(part.predicted - part.observed) for part in bins)
    return float(error), tuple(bins)


def _threshold(
    pairs: LabelledPairs, rate: float, num_resamples: int, seed: int
) -> tuple[float, float, float]:
    """Return the threshold for a false positive rate, and its interval over identities.

    Images of one identity are alike, so pairs are not independent: identities are drawn again, with
    replacement, and a pair counts as often as both of its identities were drawn.
    """
    others = pairs.chosen(~pairs.is_same)
    order = np.argsort(-others.similarity, kind="stable")
    similarity, identities = others.similarity[order], others.identities[order]

    generator = np.random.default_rng(seed)
    found = []
    for _ in range(num_resamples):
        drawn = generator.integers(0, pairs.num_identities, pairs.num_identities)
        times = np.bincount(drawn, minlength=pairs.num_identities)
        found.append(_above(similarity, times[identities].prod(axis=1).astype(float), rate))

    low, high = np.quantile(found, [0.025, 0.975])
    whole = _above(similarity, np.ones(len(similarity)), rate)
    return whole, float(low), float(high)


def _above(similarity: FloatArray, weights: FloatArray, rate: float) -> float:
    """Return the least threshold that at most a share of weighted, descending values reaches."""
    allowed = rate * weights.sum()
    position = int(np.searchsorted(np.cumsum(weights), allowed, side="right"))
    first_refused = similarity[min(position, len(similarity) - 1)]
    return float(np.nextafter(first_refused, np.inf))
