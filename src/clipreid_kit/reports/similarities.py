"""Similarities and camera pairs of an evaluation, as a page shows them."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from clipreid_kit.data import evaluation_ids
from clipreid_kit.reports.evaluation import Evaluation
from clipreid_kit.viz import (
    CameraPairRates,
    SimilarityHistogram,
    camera_pair_rates,
    similarity_histogram,
)

FALSE_POSITIVE_RATE = 0.01  # of the threshold that is shown where none was calibrated

_NUM_BINS = 72
_MOST_CAMERAS = 12  # of the table


@runtime_checkable
class Threshold(Protocol):
    """A calibrated threshold, as a ``Calibration`` has it."""

    @property
    def threshold(self) -> float:
        """The least similarity that is accepted as the same identity."""
        ...


class Tick(NamedTuple):
    """A number below a chart, at a distance from its left edge in percent."""

    text: str
    left: float


class SimilarityChart(NamedTuple):
    """A histogram as outlines in a square of 100 by 100, the origin at its top left.

    Attributes:
        positives: Path of the outline of the pairs of one identity.
        negatives: Path of those of two identities.
        ticks: Similarities below the chart.
        threshold: The threshold, with its distance from the left edge.
        note: Sentences on the threshold.
        num_positives: Number of pairs of one identity.
        num_negatives: Number of pairs of two identities.
    """

    positives: str
    negatives: str
    ticks: list[Tick]
    threshold: Tick
    note: str
    num_positives: int
    num_negatives: int


class CameraTable(NamedTuple):
    """Rates of camera pairs, with a note on what the table leaves out."""

    rates: CameraPairRates
    note: str


def similarity_chart(
    evaluation: Evaluation, calibration: Threshold | None = None
) -> SimilarityChart | None:
    """Make the chart of an evaluation's similarities.

    Args:
        evaluation: What was evaluated, with image queries.
        calibration: Its threshold is shown; ``None`` for the one that accepts 1 % of the negatives.

    Returns:
        The chart; ``None`` if there are no pairs of both kinds.
    """
    histogram = evaluation_histogram(evaluation)
    if 0 in (histogram.positives.sum(), histogram.negatives.sum()):
        return None

    if calibration is None:
        threshold = histogram.threshold(FALSE_POSITIVE_RATE)
        origin = f"The threshold is the lowest that accepts {FALSE_POSITIVE_RATE:.0%} of the pairs "
        origin += "of two identities here: measured on these images, not calibrated on others."
    else:
        threshold = calibration.threshold
        origin = "The threshold is the calibrated one."

    true_rate, false_rate = histogram.rates(threshold)
    note = (
        f"{origin} It is reached by {true_rate:.1%} of the pairs of one identity and by "
        f"{false_rate:.1%} of those of two."
    )

    drawn = histogram.merged(_NUM_BINS)
    low = min(float(drawn.edges[0]), threshold)
    high = max(float(drawn.edges[-1]), threshold)
    lefts = 100 * (drawn.edges - low) / (high - low)
    positives = drawn.positives / drawn.positives.sum()
    negatives = drawn.negatives / drawn.negatives.sum()
    scale = 100 / max(positives.max(), negatives.max())
    return SimilarityChart(
        positives=_outline(lefts, scale * positives),
        negatives=_outline(lefts, scale * negatives),
        ticks=_ticks(low, high),
        threshold=Tick(f"{threshold:.3f}", 100 * (threshold - low) / (high - low)),
        note=note,
        num_positives=int(histogram.positives.sum()),
        num_negatives=int(histogram.negatives.sum()),
    )


def camera_table(evaluation: Evaluation) -> CameraTable | None:
    """Rates of the camera pairs of an evaluation; ``None`` if it has fewer than two cameras.

    Of more than twelve cameras, the table has those of the most queries.
    """
    columns = _columns(evaluation)
    if "query_cameras" not in columns:
        return None

    names, counts = np.unique(columns["query_cameras"], return_counts=True)
    cameras = set(names.tolist()) | set(columns["gallery_cameras"].tolist())
    if len(cameras) < 2:
        return None

    note = ""
    queries, gallery = np.arange(len(evaluation.query)), np.arange(len(evaluation.gallery))
    if len(cameras) > _MOST_CAMERAS:
        most = names[np.argsort(-counts, kind="stable")[:_MOST_CAMERAS]]
        queries = np.flatnonzero(np.isin(columns["query_cameras"], most))
        gallery = np.flatnonzero(np.isin(columns["gallery_cameras"], most))
        note = f"The {len(most)} cameras of the most queries, of {len(cameras)}."

    exclude = columns.pop("exclude")
    chosen: dict[str, Any] = {
        name: values[queries if name.startswith("query") else gallery]
        for name, values in columns.items()
    }
    if len(gallery) == 0:
        return None

    rates = camera_pair_rates(
        evaluation.query_embeddings[queries],
        evaluation.gallery_embeddings[gallery],
        **chosen,
        camera_rule=evaluation.camera_rule,
        exclude=[(first[queries], second[gallery]) for first, second in exclude],
    )
    return CameraTable(rates, note)


def evaluation_histogram(evaluation: Evaluation) -> SimilarityHistogram:
    """Histogram of an evaluation's image pairs, without those that its protocol leaves out."""
    columns = _columns(evaluation)
    if not evaluation.camera_rule:
        columns.pop("query_cameras", None)
        columns.pop("gallery_cameras", None)
    return similarity_histogram(
        evaluation.query_embeddings, evaluation.gallery_embeddings, **columns
    )


def _columns(evaluation: Evaluation) -> dict[str, Any]:
    """Identities, cameras where every image has one, and the rule on a query's own image."""
    records = [*evaluation.query, *evaluation.gallery]
    has_cameras = all(record.camera is not None for record in records)
    columns = evaluation_ids(evaluation.query, evaluation.gallery, cameras=has_cameras)

    paths = [record.path for record in evaluation.query]
    others = [record.path for record in evaluation.gallery]
    return {**columns, "exclude": [(np.array(paths), np.array(others))]}


def _outline(lefts: npt.NDArray[np.float64], heights: npt.NDArray[np.float64]) -> str:
    """Path of the steps of a histogram, closed at the bottom."""
    steps = [f"M{lefts[0]:.2f} 100"]
    for left, right, height in zip(lefts[:-1], lefts[1:], heights, strict=True):
        steps.append(f"L{left:.2f} {100 - height:.2f}L{right:.2f} {100 - height:.2f}")
    return "".join([*steps, f"L{lefts[-1]:.2f} 100Z"])


def _ticks(low: float, high: float) -> list[Tick]:
    """Round numbers of a range, at most six."""
    steps = [scale * factor for scale in (0.001, 0.01, 0.1) for factor in (1, 2, 5)]
    step = next((step for step in steps if (high - low) / step <= 6), 1.0)
    first = int(np.ceil(low / step))
    last = int(np.floor(high / step))

    ticks = []
    for number in range(first, last + 1):
        value = number * step
        ticks.append(Tick(f"{value:.3g}", 100 * (value - low) / (high - low)))
    return ticks
