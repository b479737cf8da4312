"""A calibration: probabilities and a threshold for similarities, and how good they are."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pairs with a similar predicted probability, one bar of a reliability diagram.

    Attributes:
        low: Lowest probability of the bin.
        high: Highest probability of the bin.
        share: Share of all pairs that fall into it.
        predicted: Their mean predicted probability.
        observed: The share of them that shows the same identity.
    """

    low: float
    high: float
    share: float
    predicted: float
    observed: float

    def line(self) -> str:
        """Return the bin as a line of :meth:`Calibration.table`."""
        shares = (self.predicted, self.observed, self.share)
        predicted, observed, pairs = (100 * share for share in shares)
        return f"{predicted:7.1f} % {observed:8.1f} % {pairs:7.2f} %"


@dataclass(frozen=True)
class CameraPair:
    """Two cameras, and the calibration of pairs of their images.

    Attributes:
        cameras: The cameras; twice the same one for pairs of its own images.
        num_same: Pairs of the same identity that were used.
        num_other: Pairs of different identities that were used.
        calibration: Their calibration; ``None`` if these pairs are too few, so that the common one
            is used.
    """

    cameras: tuple[int | str, int | str]
    num_same: int
    num_other: int
    calibration: "Calibration | None"

    def line(self) -> str:
        """Return the pair as a line of :meth:`Calibration.table`."""
        names = f"{self.cameras[0]} and {self.cameras[1]}"
        own = self.calibration
        if own is None:
            return f"{names:14} the common one: {self.num_same} pairs of one identity are too few"

        interval = f"{own.threshold_low:.4f} to {own.threshold_high:.4f}"
        rate, error = 100 * own.true_positive_rate, 100 * own.calibration_error
        return f"{names:14} {own.threshold:9.4f}   {interval}   {rate:7.1f} %   {error:6.2f} %"


@dataclass(frozen=True)
class Calibration:
    """Probabilities that two images show the same identity, by their cosine similarity.

    Made by :func:`calibrate`. The probability is that of a pair drawn at random from images like
    those of the calibration; where matches are rarer or more frequent, pass ``base_rate`` there.

    Attributes:
        method: ``"isotonic"`` or ``"logistic"``.
        base_rate: Share of pairs of the same identity that the probabilities assume.
        similarities: Knots of the isotonic curve, ascending; empty for a logistic one.
        probabilities: The probability at each knot; in between it is interpolated.
        slope: Of the logistic curve ``1 / (1 + exp(-(slope * s + intercept)))``.
        intercept: Of the logistic curve.
        threshold: The least similarity that is accepted as the same identity.
        threshold_low: Lower end of its 95 % interval over identities.
        threshold_high: Upper end of this interval.
        false_positive_rate: Share of pairs of different identities that may reach the threshold.
        true_positive_rate: Share of pairs of the same identity that reach it.
        calibration_error: Expected calibration error (ECE), on identities that were held out.
        reliability: The bins of the error, for a reliability diagram.
        num_same: Pairs of the same identity that were used.
        num_other: Pairs of different identities that were used.
        num_identities: Identities of the images.
        fingerprint: Names the encoder; ``None`` if unknown.
        camera_pairs: Calibrations of single pairs of cameras, if they were asked for; all values
            above are those of the common one.

    Example:
        >>> calibration = Calibration(
        ...     "logistic", 0.1, (), (), 10.0, -5.0, 0.6, 0.55, 0.65, 0.01, 0.9, 0.02, (), 9, 99, 5
        ... )
        >>> calibration.probability(np.array([0.5, 0.9])).round(3).tolist()
        [0.5, 0.982]
        >>> calibration.is_same(np.array([0.5, 0.9])).tolist()
        [False, True]
    """

    method: Literal["isotonic", "logistic"]
    base_rate: float
    similarities: tuple[float, ...]
    probabilities: tuple[float, ...]
    slope: float
    intercept: float
    threshold: float
    threshold_low: float
    threshold_high: float
    false_positive_rate: float
    true_positive_rate: float
    calibration_error: float
    reliability: tuple[ReliabilityBin, ...]
    num_same: int
    num_other: int
    num_identities: int
    fingerprint: str | None = None
    camera_pairs: tuple[CameraPair, ...] = ()

    def probability(self, similarity: FloatArray) -> FloatArray:
        """Return the probabilities that pairs show the same identity.

        Args:
            similarity: Cosine similarities, of any shape.

        Returns:
            Probabilities in [0, 1] of the same shape; NaN for NaN.
        """
        values = np.asarray(similarity, dtype=np.float64)
        if self.method == "logistic":
            return np.asarray(1 / (1 + np.exp(-(self.slope * values + self.intercept))))
        return np.asarray(np.interp(values, self.similarities, self.probabilities))

    def is_same(self, similarity: FloatArray) -> npt.NDArray[np.bool_]:
        """Return whether pairs reach the threshold; false for NaN."""
        return np.asarray(np.asarray(similarity) >= self.threshold)

    def of_cameras(self, first: int | str | None, second: int | str | None) -> "Calibration":
        """Return the calibration of two cameras: their own one, or this one if they have none.

        Args:
            first: A camera; ``None`` if unknown.
            second: Another one, or the same.
        """
        for pair in self.camera_pairs:
            is_own = pair.cameras in ((first, second), (second, first))
            if is_own and pair.calibration is not None:
                return pair.calibration
        return self

    def table(self) -> str:
        """Return thresholds and reliability as a table for a terminal."""
        lines = [
            f"threshold {self.threshold:.4f} (95 % of {self.threshold_low:.4f} to "
            f"{self.threshold_high:.4f}) for a false positive rate of {self.false_positive_rate:g}",
            f"true positive rate there {100 * self.true_positive_rate:.1f} %",
            f"calibration error {100 * self.calibration_error:.2f} % on held-out identities",
            "predicted   observed   pairs",
        ]
        lines += [part.line() for part in self.reliability]
        if self.camera_pairs:
            lines.append("cameras        threshold   95 % of            true positive   error")
            lines += [pair.line() for pair in self.camera_pairs]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the values in JSON's types."""
        values = asdict(self)
        if not self.camera_pairs:  # as versions wrote it that know none
            del values["camera_pairs"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """Build a calibration from the values that :meth:`as_dict` returned.

        Raises:
            ValueError: If they are damaged.
        """
        try:
            bins = tuple(ReliabilityBin(**part) for part in values["reliability"])
            knots = {
                name: tuple(map(float, values[name])) for name in ("similarities", "probabilities")
            }
            pairs = tuple(_camera_pair(pair) for pair in values.get("camera_pairs", ()))
            return cls(**{**values, **knots, "reliability": bins, "camera_pairs": pairs})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Calibration.from_dict: these are not the values of a calibration ({error})."
            ) from None


def _camera_pair(values: Mapping[str, Any]) -> CameraPair:
    """Build a pair of cameras from its values."""
    first, second = values["cameras"]
    own = values["calibration"]
    return CameraPair(
        cameras=(first, second),
        num_same=values["num_same"],
        num_other=values["num_other"],
        calibration=None if own is None else Calibration.from_dict(own),
    )
