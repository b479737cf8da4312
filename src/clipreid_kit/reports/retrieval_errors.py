"""Find the hardest errors of an evaluation, and their likely kinds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from clipreid_kit._checks import check_integer
from clipreid_kit.data import load_image
from clipreid_kit.distances import l2_normalize
from clipreid_kit.reports.evaluation import Evaluation

ErrorKind = Literal["colours", "occlusion", "labels", "other"]
FloatArray = npt.NDArray[np.float64]

KINDS: dict[ErrorKind, str] = {
    "colours": "same colours",
    "occlusion": "occlusion suspected",
    "labels": "label noise suspected",
    "other": "no rule applies",
}

RULES: dict[ErrorKind, str] = {
    "colours": "The colours of the query and of the wrong image overlap more than those of 95 % of "
    "random pairs of two identities (histogram intersection, in three stripes).",
    "occlusion": "The query agrees with its identity's gallery images less than these agree with "
    "each other, by two standard deviations or more.",
    "labels": "The query and the wrong image are nearly the same picture; or the first three hits "
    "are all of one other identity, which the query resembles as images of one identity do.",
    "other": "None of these.",
}

_BLOCK = 1 << 21  # similarities that are held at once: 16 MB
_NUM_RANDOM_PAIRS = 400
_SAME_COLOURS = 0.95  # quantile of random pairs
_FEWEST_OTHERS = 3  # images of the identity, for a spread
_DEVIATIONS = 2.0
_NUM_FIRST_HITS = 3
_STRIPES, _LEVELS = 3, 4
_SMALL = 8  # parts of a side, of an image in small
_MOST_CHANGE = 3.0  # levels of 0 to 255, root mean square, of an image saved twice
_LEAST_CONTRAST = 8.0  # images with less look alike whatever they show


@dataclass(frozen=True, slots=True)
class RetrievalError:
    """A query whose first hit shows another identity.

    Attributes:
        query: Row of the query.
        wrong: Gallery row of the first hit.
        right: Gallery row of the most similar image of the query's identity.
        wrong_similarity: Cosine of query and first hit.
        right_similarity: Cosine of query and right image.
        rank: Rank of the right image, 2 or more.
        kinds: Likely kinds, at least one.
    """

    query: int
    wrong: int
    right: int
    wrong_similarity: float
    right_similarity: float
    rank: int
    kinds: tuple[ErrorKind, ...]

    @property
    def margin(self) -> float:
        """Similarity of the wrong image minus that of the right one; 0 for a tie."""
        return self.wrong_similarity - self.right_similarity


def retrieval_errors(
    evaluation: Evaluation,
    *,
    max_errors: int = 100,
    load: Callable[[str], Image.Image] = load_image,
) -> tuple[list[RetrievalError], int]:
    """Find the queries whose first hit is wrong, by margin, with their likely kinds.

    The rules are those of :data:`RULES`; they are hints for the eye, not measurements. An error may
    be of several kinds. Similarities are cosines in float64, and a tie with a wrong image counts as
    an error, as in :func:`~clipreid_kit.evaluate_reid`.

    Args:
        evaluation: What was evaluated, with image queries.
        max_errors: Largest number of errors to return, >= 1: those of the largest margin.
        load: Loads the image of a record's path.

    Returns:
        The errors, hardest first, and the number of all errors; none of a perfect model.

    Raises:
        ValueError: If ``max_errors`` is below 1, embeddings are not finite, or an image cannot be
            read.
    """
    check_integer("retrieval_errors", "max_errors", max_errors, 1)
    queries = _unit_rows("query", evaluation.query_embeddings)
    gallery = _unit_rows("gallery", evaluation.gallery_embeddings)

    found = list(_failed_queries(evaluation, queries, gallery))
    found.sort(key=lambda error: (-error.margin, error.query))
    if not found:
        return [], 0

    looks = _Looks(evaluation, load)
    clusters = _Clusters(evaluation, queries, gallery)
    shown = []
    for error in found[:max_errors]:
        kinds: list[ErrorKind] = []
        if looks.have_same_colours(error):
            kinds.append("colours")
        if clusters.is_outlier(error):
            kinds.append("occlusion")
        if looks.are_near_duplicates(error) or clusters.agrees_with_another(error):
            kinds.append("labels")
        shown.append(replace(error, kinds=tuple(kinds) or ("other",)))
    return shown, len(found)


def _unit_rows(side: str, embeddings: Tensor) -> Tensor:
    if not embeddings.isfinite().all():
        raise ValueError(
            f"retrieval_errors: the {side} embeddings hold NaN or infinity. Evaluate them first: "
            "evaluate_reid names the rows."
        )
    return l2_normalize(embeddings.double())


def _failed_queries(
    evaluation: Evaluation, queries: Tensor, gallery: Tensor
) -> Iterator[RetrievalError]:
    """Yield the errors, without their kinds, in the order of the queries."""
    identities = _identities(evaluation)
    queries_at_once = max(1, _BLOCK // max(1, len(gallery)))

    for start in range(0, len(queries), queries_at_once):
        similarities = (queries[start : start + queries_at_once] @ gallery.T).numpy()

        for query, similarity in enumerate(similarities, start=start):
            similarity[evaluation.excluded_rows(query)] = -np.inf
            is_match = identities == str(evaluation.query[query].identity)

            error = _error_of(query, similarity, is_match)
            if error is not None:
                yield error


def _error_of(
    query: int, similarity: FloatArray, is_match: npt.NDArray[np.bool_]
) -> RetrievalError | None:
    """The error of a query; ``None`` if its first hit is right, or it has no match."""
    matches = np.where(is_match, similarity, -np.inf)
    others = np.where(is_match, -np.inf, similarity)
    right, wrong = int(matches.argmax()), int(others.argmax())
    if matches[right] == -np.inf or others[wrong] < matches[right]:
        return None

    rank = 1 + int((others >= matches[right]).sum())
    return RetrievalError(
        query, wrong, right, float(others[wrong]), float(matches[right]), rank, ()
    )


def _identities(evaluation: Evaluation) -> npt.NDArray[Any]:
    return np.array([str(record.identity) for record in evaluation.gallery])


class _Clusters:
    """Agreement of the embeddings of each identity."""

    def __init__(self, evaluation: Evaluation, queries: Tensor, gallery: Tensor) -> None:
        self.evaluation = evaluation
        self.queries = queries.numpy()
        self.gallery = gallery.numpy()
        self.identities = _identities(evaluation)
        self.typical, self.deviation = self._agreement()

    def is_outlier(self, error: RetrievalError) -> bool:
        """Whether a query is far from its identity's images, which are near each other."""
        record = self.evaluation.query[error.query]
        rows = np.flatnonzero(self.identities == str(record.identity))
        rows = np.setdiff1d(rows, self.evaluation.excluded_rows(error.query))
        if len(rows) < _FEWEST_OTHERS:
            return False

        own = np.median(self.gallery[rows] @ self.queries[error.query])
        among_them = _medians_to_others(self.gallery[rows])
        return bool(own < among_them.mean() - _DEVIATIONS * self.deviation)

    def agrees_with_another(self, error: RetrievalError) -> bool:
        """Whether the first hits are all of one other identity, and as near as its own are."""
        similarity = self.gallery @ self.queries[error.query]
        similarity[self.evaluation.excluded_rows(error.query)] = -np.inf
        first_hits = np.argsort(-similarity, kind="stable")[:_NUM_FIRST_HITS]

        is_other = self.identities == self.identities[error.wrong]
        if len(first_hits) < _NUM_FIRST_HITS or not is_other[first_hits].all():
            return False

        return bool(similarity[is_other].mean() >= self.typical)

    def _agreement(self) -> tuple[float, float]:
        """Typical similarity of two images of one identity, and how much an image's differs."""
        medians, differences = [], []
        for identity in np.unique(self.identities):
            rows = np.flatnonzero(self.identities == identity)
            if len(rows) >= _FEWEST_OTHERS:
                of_images = _medians_to_others(self.gallery[rows])
                medians.append(of_images)
                differences.append(of_images - of_images.mean())
        if not medians:
            return np.inf, np.inf
        return float(np.median(np.concatenate(medians))), float(np.concatenate(differences).std())


def _medians_to_others(rows: FloatArray) -> FloatArray:
    """Median similarity of each row to the others."""
    similarity = rows @ rows.T
    count = len(rows)
    others = similarity[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    return np.asarray(np.median(others, axis=1))


class _Looks:
    """The colours of images, which are loaded once."""

    def __init__(self, evaluation: Evaluation, load: Callable[[str], Image.Image]) -> None:
        self.evaluation = evaluation
        self.load = load
        self.known: dict[str, tuple[FloatArray, FloatArray]] = {}
        self.usual_overlap = self._usual_overlap()

    def have_same_colours(self, error: RetrievalError) -> bool:
        """Whether the colours of query and wrong image overlap more than is usual."""
        return self._overlap(error.query, error.wrong) > self.usual_overlap

    def are_near_duplicates(self, error: RetrievalError) -> bool:
        """Whether query and wrong image are equal in small."""
        first, second = self._look(error.query, error.wrong)
        if first[1].std(axis=0).max() < _LEAST_CONTRAST:
            return False
        return bool(np.sqrt(np.square(first[1] - second[1]).mean()) <= _MOST_CHANGE)

    def _usual_overlap(self) -> float:
        """The overlap of colours that few random pairs of two identities exceed."""
        evaluation = self.evaluation
        generator = np.random.default_rng(0)
        queries = generator.integers(0, len(evaluation.query), _NUM_RANDOM_PAIRS)
        gallery = generator.integers(0, len(evaluation.gallery), _NUM_RANDOM_PAIRS)

        overlaps = []
        for query, row in zip(queries.tolist(), gallery.tolist(), strict=True):
            if str(evaluation.query[query].identity) != str(evaluation.gallery[row].identity):
                overlaps.append(self._overlap(query, row))
        return float(np.quantile(overlaps, _SAME_COLOURS)) if overlaps else np.inf

    def _overlap(self, query: int, row: int) -> float:
        """Histogram intersection of two images, from 0 to 1 (Swain & Ballard 1991, eq. 1)."""
        first, second = self._look(query, row)
        return float(np.minimum(first[0], second[0]).sum())

    def _look(
        self, query: int, row: int
    ) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
        paths = (self.evaluation.query[query].path, self.evaluation.gallery[row].path)
        for path in paths:
            if path not in self.known:
                image = self.load(path)
                self.known[path] = (colour_histogram(image), _in_small(image))
        return self.known[paths[0]], self.known[paths[1]]


def colour_histogram(image: Image.Image) -> FloatArray:
    """Shares of colours in three stripes from top to bottom, which sum to 1.

    Example:
        >>> shares = colour_histogram(Image.new("RGB", (8, 9), "red"))
        >>> shares.shape, np.unique(shares).round(3).tolist()
        ((192,), [0.0, 0.333])
    """
    pixels = np.asarray(image.convert("RGB").resize((32, 48)))
    levels = pixels.astype(np.int64) * _LEVELS // 256
    codes = (levels[..., 0] * _LEVELS + levels[..., 1]) * _LEVELS + levels[..., 2]

    stripes = np.array_split(codes, _STRIPES)
    counts = [np.bincount(stripe.ravel(), minlength=_LEVELS**3) for stripe in stripes]
    return np.concatenate(counts) / codes.size


def _in_small(image: Image.Image) -> FloatArray:
    small = image.convert("RGB").resize((_SMALL, _SMALL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64).reshape(-1, 3)
