"""The calibration of one set of labelled pairs: curve, reliability and threshold."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from clipreid_kit.retrieval.calibration.calibration import Calibration, ReliabilityBin
from clipreid_kit.retrieval.calibration.labelled_pairs import LabelledPairs

FloatArray = npt.NDArray[np.float64]

_OWNER = "calibrate"
_FOLDS = 5
_BINS = 10


class TooFewPairsError(ValueError):
    """There are too few pairs to learn from."""


class FitOptions(NamedTuple):
    """Options of a calibration; see :func:`calibrate`."""

    method: Literal["isotonic", "logistic"]
    false_positive_rate: float
    base_rate: float | None
    num_resamples: int
    seed: int


def fit_pairs(
    pairs: LabelledPairs,
    options: FitOptions,
    fingerprint: str | None,
    advance: Callable[[], None] | None = None,
) -> Calibration:
    """Fit a calibration to labelled pairs.

    Args:
        pairs: The pairs.
        options: How they are calibrated.
        fingerprint: Names the encoder.
        advance: Called after each resample of the identities.

    Raises:
        TooFewPairsError: If the pairs are too few.
        ValueError: If scikit-learn is not installed.
    """
    _check_pairs(pairs, options.false_positive_rate)
    rate = pairs.base_rate if options.base_rate is None else options.base_rate

    curve = _fit(options.method, pairs, rate)
    error, bins = _reliability(options.method, pairs, rate, options.seed)
    threshold, low, high = _threshold(
        pairs, options.false_positive_rate, options.num_resamples, options.seed, advance
    )
    return Calibration(
        method=options.method,
        base_rate=rate,
        similarities=curve.similarities,
        probabilities=curve.probabilities,
        slope=curve.slope,
        intercept=curve.intercept,
        threshold=threshold,
        threshold_low=low,
        threshold_high=high,
        false_positive_rate=options.false_positive_rate,
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


def _check_pairs(pairs: LabelledPairs, false_positive_rate: float) -> None:
    """Raise TooFewPairsError if there are too few pairs to learn from."""
    num_other = int((~pairs.is_same).sum())
    if pairs.num_identities < 4 or not pairs.is_same.any():
        raise TooFewPairsError(
            f"{_OWNER}: there are {pairs.num_identities} identities and "
            f"{int(pairs.is_same.sum())} pairs of the same one; it takes four identities at least, "
            "with two images each."
        )
    if num_other * false_positive_rate < 1:
        raise TooFewPairsError(
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
    held_out, probabilities = _predict_held_out(method, pairs, base_rate, seed)
    return _bins(probabilities, held_out.is_same, held_out.weights(base_rate))


def _predict_held_out(
    method: str, pairs: LabelledPairs, base_rate: float, seed: int
) -> tuple[LabelledPairs, FloatArray]:
    """Pairs of identities that were held out in turn, and the probabilities predicted for them."""
    num_folds = min(_FOLDS, pairs.num_identities // 2)
    order = np.random.default_rng(seed).permutation(pairs.num_identities)
    fold_of_pair = (order % num_folds)[pairs.identities]

    held_out: list[LabelledPairs] = []
    probabilities: list[FloatArray] = []
    for fold in range(num_folds):
        in_fold = fold_of_pair == fold
        fitted = pairs.chosen(~in_fold.any(axis=1))
        tested = pairs.chosen(in_fold.all(axis=1))
        has_both_kinds = fitted.is_same.any() and not fitted.is_same.all()
        if has_both_kinds and len(tested.is_same):
            curve = _fit(method, fitted, base_rate)
            held_out.append(tested)
            probabilities.append(curve(tested.similarity))

    if not any(part.is_same.any() for part in held_out):
        raise TooFewPairsError(
            f"{_OWNER}: too few identities have two images to hold some of them out. Add images."
        )

    joined = LabelledPairs(
        np.concatenate([part.similarity for part in held_out]),
        np.concatenate([part.is_same for part in held_out]),
        np.concatenate([part.identities for part in held_out]),
        pairs.base_rate,
        pairs.num_identities,
    )
    return joined, np.concatenate(probabilities)


def _bins(
    predicted: FloatArray, is_same: npt.NDArray[np.bool_], weights: FloatArray
) -> tuple[float, tuple[ReliabilityBin, ...]]:
    """Gather predictions into bins of equal width; return the calibration error and the bins."""
    edges = np.linspace(0, 1, _BINS + 1)
    bin_of_pair = np.minimum((predicted * _BINS).astype(int), _BINS - 1)
    total = weights.sum()

    bins = []
    for number in range(_BINS):
        is_inside = bin_of_pair == number
        own = weights[is_inside]
        weight = own.sum()
        if weight == 0:
            continue

        found = ReliabilityBin(
            low=float(edges[number]),
            high=float(edges[number + 1]),
            share=float(weight / total),
            predicted=float((own * predicted[is_inside]).sum() / weight),
            observed=float((own * is_same[is_inside]).sum() / weight),
        )
        bins.append(found)

    error = sum(part.share * abs(part.predicted - part.observed) for part in bins)
    return float(error), tuple(bins)


def _threshold(
    pairs: LabelledPairs,
    rate: float,
    num_resamples: int,
    seed: int,
    advance: Callable[[], None] | None,
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
        weights = times[identities].prod(axis=1).astype(float)
        found.append(_above(similarity, weights, rate))

        if advance is not None:
            advance()

    low, high = np.quantile(found, [0.025, 0.975])
    whole = _above(similarity, np.ones(len(similarity)), rate)
    return whole, float(low), float(high)


def _above(similarity: FloatArray, weights: FloatArray, rate: float) -> float:
    """Return the least threshold that at most a share of weighted, descending values reaches."""
    allowed = rate * weights.sum()
    position = int(np.searchsorted(np.cumsum(weights), allowed, side="right"))
    first_refused = similarity[min(position, len(similarity) - 1)]
    return float(np.nextafter(first_refused, np.inf))
