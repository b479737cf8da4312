"""Result of a search: for each query the nearest images, their similarities and records."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipreid_kit.data.records import ImageRecord

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Hit:
    """One image that a search found.

    Attributes:
        row: Row of the index, counted in the order of insertion; :meth:`GalleryIndex.compact`
            renumbers rows.
        key: Key of the image, which never changes; :meth:`GalleryIndex.remove` takes it.
        similarity: Cosine similarity to the query, in [-1, 1].
        record: The image's record; ``None`` in an index without records.
        probability: Probability that it shows the identity of the query; ``None`` in an index
            without a calibration.
    """

    row: int
    key: int
    similarity: float
    record: ImageRecord | None
    probability: float | None = None


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The nearest images of each query, nearest first.

    Fewer than ``k`` images are found where fewer meet the conditions. Then the arrays are padded
    with row -1, key -1 and similarity NaN, and the lists of records are shorter.

    Attributes:
        rows: (Q, K), rows of the index.
        keys: (Q, K), keys of the images.
        similarities: (Q, K), exact cosine similarities, in [-1, 1].
        records: For each query the records of its images; ``None`` for each image of an index
            without records.
        probabilities: (Q, K), probabilities that query and image show the same identity; ``None``
            in an index without a calibration, and for texts.
        is_unknown: (Q,), whether no image reaches the threshold of the calibration, so that the
            query shows nobody of the index; ``None`` where ``probabilities`` is.

    Example:
        >>> result = SearchResult(
        ...     rows=np.array([[4, 0]]),
        ...     keys=np.array([[4, 0]]),
        ...     similarities=np.array([[0.9, 0.4]]),
        ...     records=[[ImageRecord("b.jpg", "rex"), ImageRecord("a.jpg", "tom")]],
        ... )
        >>> [(hit.record.path, hit.similarity) for hit in result[0]]
        [('b.jpg', 0.9), ('a.jpg', 0.4)]
    """

    rows: IntArray
    keys: IntArray
    similarities: FloatArray
    records: Sequence[Sequence[ImageRecord | None]]
    probabilities: FloatArray | None = None
    is_unknown: BoolArray | None = None

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.rows)

    def __getitem__(self, query: int) -> list[Hit]:
        """Return the images found for one query."""
        records = self.records[query]
        rows = self.rows[query].tolist()
        keys = self.keys[query].tolist()
        similarities = self.similarities[query].tolist()

        probabilities: list[float | None] = [None] * len(records)
        if self.probabilities is not None:
            probabilities = self.probabilities[query].tolist()

        # The arrays are padded to the longest list; the records are not.
        columns = zip(rows, keys, similarities, records, probabilities, strict=False)
        return [Hit(*values) for values in columns]

    def __iter__(self) -> Iterator[list[Hit]]:
        """Yield the images found for each query."""
        for query in range(len(self)):
            yield self[query]


def clamp_cosines(similarities: FloatArray) -> FloatArray:
    """Return cosine similarities without what rounding has put beyond 1 or -1.

    The order of hits is that of the values before, which the evaluator ranks by, too.

    Args:
        similarities: Of any shape; NaN stays.

    Example:
        >>> clamp_cosines(np.array([1 + 2.0**-52, 0.5])).tolist()
        [1.0, 0.5]
    """
    return np.clip(similarities, -1.0, 1.0)
