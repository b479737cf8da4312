"""Rules that combine several probabilities of the same pair."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

Rule = Literal["log_odds", "independent", "mean"]

# Probabilities are kept this far from 0 and 1: a curve of finitely many pairs is never certain.
_EDGE = 1e-4


def fuse_probabilities(
    probabilities: FloatArray,
    weights: Sequence[float],
    rule: Rule,
    base_rates: Sequence[float],
) -> FloatArray:
    """Combine the probabilities of several scores.

    Each rule is rising in every probability.

    Args:
        probabilities: (S, ...), one slice for each score.
        weights: S weights, positive.
        rule: ``"log_odds"``: the weighted mean of the log-odds. ``"independent"``: the log-odds of
            the mean base rate, plus the weighted evidence of each score, which is its log-odds
            minus those of its base rate: Bayes' rule for scores that err independently. ``"mean"``:
            the weighted mean of the probabilities.
        base_rates: Base rates of the S calibrations.

    Returns:
        (...), in (0, 1); NaN where a probability is.
    """
    shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    if rule == "mean":
        return np.asarray(np.tensordot(shares, probabilities, axes=1))

    log_odds = _log_odds(np.clip(probabilities, _EDGE, 1 - _EDGE))
    if rule == "log_odds":
        return _sigmoid(np.tensordot(shares, log_odds, axes=1))

    priors = _log_odds(np.asarray(base_rates, dtype=np.float64))
    shape = (len(priors), *[1] * (probabilities.ndim - 1))
    evidence = np.tensordot(np.asarray(weights), log_odds - priors.reshape(shape), axes=1)
    return _sigmoid(shares @ priors + evidence)


def _log_odds(probability: FloatArray) -> FloatArray:
    odds: FloatArray = np.log(probability) - np.log1p(-probability)
    return odds


def _sigmoid(values: npt.NDArray[np.float64]) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-values)))
