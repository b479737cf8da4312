"""Search several indexes over the same images at once, by their calibrated scores."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer, check_number
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.calibration.calibration import Calibration
from clipreid_kit.retrieval.calibration.camera_pairs import judge_hits
from clipreid_kit.retrieval.encoding.image_inputs import ImageInput
from clipreid_kit.retrieval.exact.candidates import exact_pairs
from clipreid_kit.retrieval.fusion.fusion_rule import Rule, fuse_probabilities
from clipreid_kit.retrieval.gallery_index import GalleryIndex
from clipreid_kit.retrieval.search_result import SearchResult, clamp_cosines

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_OWNER = "FusedIndex"
_MATCHED = ("_keys", "_orders")  # attributes that follow from the indexes


@fixed_options(not_kept=("indexes", "calibrations", "weights", "rule", "min_probability"))
class FusedIndex:
    """Search by several calibrated scores: of two models, or of an image and a text.

    The indexes hold embeddings of the same images by different models, matched by the paths of
    their records. A query has an embedding for each of them. Or one index is passed twice, with
    calibrations of images and of texts, for queries of an image and a sentence.

    The candidates of a query are the ``budget`` most similar images of each index. The scores that
    a candidate lacks are computed exactly from the stored embeddings, so a query takes at most
    ``budget`` comparisons for each pair of indexes. Probabilities are combined by a rule, and the
    most probable images are found; among equally probable ones, that with the larger weighted mean
    of the similarities comes first, then that which the first index got first. Images outside of
    all shortlists are not found; with ``budget=None`` all are compared.

    A combined probability is as good as its rule. Judge it on held-out images before you rely on
    it: scores of two models of one kind err together, and ``"independent"`` then claims too much.

    Args:
        indexes: At least one, all with the same images.
        calibrations: One for each index; ``None`` for those that are saved with them.
        weights: One for each index, positive; ``None`` for equal ones.
        rule: How to combine the probabilities of an image: ``"log_odds"``, the weighted mean of
            their log-odds; ``"independent"``, Bayes' rule for scores that err independently, where
            the evidence adds up; ``"mean"``, their weighted mean. Probabilities count as 0.0001 to
            0.9999 for the first two.
        min_probability: A query is unknown if no image reaches this combined probability.

    Raises:
        ValueError: If an index has no calibration, no records or two images of one path, or the
            indexes hold different images, or an option is out of its range.

    Example:
        >>> import tempfile
        >>> rows = np.eye(3, dtype=np.float32)
        >>> records = [ImageRecord(f"{name}.jpg", name) for name in ("ann", "bob", "cem")]
        >>> curve = Calibration(
        ...     "logistic", 0.1, (), (), 10.0, -5.0, 0.6, 0.5, 0.7, 0.01, 0.9, 0.02, (), 9, 99, 5
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = GalleryIndex.build(rows, records, store=f"{folder}/first.index")
        ...     second = GalleryIndex.build(-rows, records, store=f"{folder}/second.index")
        ...     fused = FusedIndex([first, second], calibrations=[curve, curve])
        ...     hits = fused.search([[0.8, 0.6, 0.0], [0.0, -0.7, -0.7]], k=1)[0]
        >>> hits[0].record.identity, round(hits[0].probability, 2)
        ('bob', 0.82)
    """

    def __init__(
        self,
        indexes: Sequence[GalleryIndex],
        *,
        calibrations: Sequence[Calibration] | None = None,
        weights: Sequence[float] | None = None,
        rule: Rule = "log_odds",
        min_probability: float = 0.5,
    ) -> None:
        check_choice(_OWNER, "rule", rule, ("log_odds", "independent", "mean"))
        check_number(_OWNER, "min_probability", min_probability)
        if not indexes:
            raise ValueError(f"{_OWNER}: pass at least one index.")

        self._indexes = list(indexes)
        self._calibrations = _calibrations(self._indexes, calibrations)
        self._weights = _weights(len(self._indexes), weights)
        self._rule: Rule = rule
        self._min_probability = min_probability

        self._match_images()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out how the images match: the indexes of a copy are opened anew."""
        return {name: value for name, value in vars(self).items() if name not in _MATCHED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Match the images of the opened indexes."""
        vars(self).update(state)
        self._match_images()

    def _match_images(self) -> None:
        """Find the images of each index, in the order of the first one."""
        self._keys = _same_images(self._indexes)
        self._orders = [np.argsort(keys, kind="stable") for keys in self._keys]

    def __len__(self) -> int:
        """Return the number of images that a search can find."""
        return len(self._keys[0])

    def search(
        self,
        vectors: Sequence[Tensor | npt.NDArray[Any] | Sequence[float]],
        k: int = 10,
        *,
        budget: int | None = 100,
        where: Mapping[str, object] | None = None,
        query_cameras: Sequence[int | str] | None = None,
    ) -> SearchResult:
        """Find the images that most probably show the identity of each query.

        Args:
            vectors: For each index the embeddings of the queries (Q, D), or (D,) for one query.
            k: How many images to find; fewer are found if fewer are candidates.
            budget: How many images of each index are candidates; ``None`` for all.
            where: Conditions by column, as for :meth:`GalleryIndex.search`; all indexes need the
                columns.
            query_cameras: Camera of each query; images of the same camera are left out.

        Returns:
            The hits, most probable first. Rows, keys and records are those of the first index, and
            the similarities are weighted means of those to each index.

        Raises:
            ValueError: If there are not as many arrays as indexes, they differ in their number of
                queries, or as for :meth:`GalleryIndex.search`.
        """
        owner = "FusedIndex.search"
        check_integer(owner, "k", k, 1)
        if budget is not None:
            check_integer(owner, "budget", budget, k)
        queries = _queries(owner, vectors, len(self._indexes))

        count = min(len(self) if budget is None else budget, len(self))
        listed = []
        for index, rows in zip(self._indexes, queries, strict=True):
            found = index.search(rows, count, where=where, query_cameras=query_cameras)
            listed.append(found.keys)

        answers = []
        for number in range(len(queries[0])):
            camera = None if query_cameras is None else query_cameras[number]
            candidates = self._candidates([keys[number] for keys in listed])
            own = [rows[number] for rows in queries]
            answers.append(self._nearest(own, candidates, camera, k))
        return self._result(answers)

    def search_image(
        self,
        images: ImageInput | Sequence[ImageInput],
        k: int = 10,
        *,
        budget: int | None = 100,
        where: Mapping[str, object] | None = None,
        query_cameras: Sequence[int | str] | None = None,
    ) -> SearchResult:
        """Find the images that most probably show the identity of each of some images.

        Args:
            images: One or several, which the encoder of each index encodes.
            k: As for :meth:`search`.
            budget: As for :meth:`search`.
            where: As for :meth:`search`.
            query_cameras: As for :meth:`search`.

        Raises:
            ValueError: As for :meth:`search`, or if an image cannot be read, or an index does not
                know its encoder.
        """
        vectors = [index.encoder.encode_images(images) for index in self._indexes]
        return self.search(vectors, k, budget=budget, where=where, query_cameras=query_cameras)

    def _candidates(self, listed: Sequence[IntArray]) -> IntArray:
        """Return the positions of the images that one of the indexes has listed, ascending."""
        parts = []
        for keys, own, order in zip(listed, self._keys, self._orders, strict=True):
            found = keys[keys >= 0]
            parts.append(order[np.searchsorted(own, found, sorter=order)])
        return np.unique(np.concatenate(parts))

    def _nearest(
        self, query: Sequence[Tensor], candidates: IntArray, camera: int | str | None, k: int
    ) -> "_Answer":
        """Return the most probable candidates of one query."""
        records = self._indexes[0].records(self._keys[0][candidates])
        similarities, probabilities = [], []
        for index, keys, calibration, vector in zip(
            self._indexes, self._keys, self._calibrations, query, strict=True
        ):
            similarity = _similarities(index, keys[candidates], vector)
            cameras = None if camera is None else [camera]
            judged, _ = judge_hits(calibration, similarity[None], [records], cameras)
            similarities.append(similarity)
            probabilities.append(judged[0])

        rates = [calibration.base_rate for calibration in self._calibrations]
        fused = fuse_probabilities(np.stack(probabilities), self._weights, self._rule, rates)
        shares = np.asarray(self._weights) / np.sum(self._weights)
        similarity = np.asarray(shares @ np.stack(similarities))

        first = np.lexsort((candidates, -similarity, -fused))[:k]
        chosen = [records[position] for position in first.tolist()]
        return _Answer(self._keys[0][candidates[first]], similarity[first], fused[first], chosen)

    def _result(self, answers: Sequence["_Answer"]) -> SearchResult:
        """Put the answers of all queries into arrays."""
        longest = max((len(answer.keys) for answer in answers), default=0)
        keys = np.full((len(answers), longest), -1, dtype=np.int64)
        similarities = np.full(keys.shape, np.nan)
        probabilities = np.full(keys.shape, np.nan)
        for number, answer in enumerate(answers):
            part = slice(0, len(answer.keys))
            keys[number, part] = answer.keys
            similarities[number, part] = answer.similarities
            probabilities[number, part] = answer.probabilities

        rows = np.full(keys.shape, -1, dtype=np.int64)
        rows[keys >= 0] = self._indexes[0].rows(keys[keys >= 0])
        is_known = (probabilities >= self._min_probability).any(axis=1)
        return SearchResult(
            rows,
            keys,
            clamp_cosines(similarities),
            [answer.records for answer in answers],
            probabilities=probabilities,
            is_unknown=np.logical_not(is_known),
        )


class _Answer(NamedTuple):
    """The hits of one query."""

    keys: IntArray
    similarities: FloatArray
    probabilities: FloatArray
    records: list[ImageRecord | None]


def _calibrations(
    indexes: Sequence[GalleryIndex], given: Sequence[Calibration] | None
) -> list[Calibration]:
    """Return the calibration of each index."""
    if given is not None:
        if len(given) != len(indexes):
            raise ValueError(
                f"{_OWNER}: there are {len(given)} calibrations for {len(indexes)} indexes; pass "
                "one for each."
            )
        return list(given)

    found = []
    for index in indexes:
        calibration = index.calibration
        if calibration is None:
            raise ValueError(
                f"{_OWNER}: the index {index.name} has no calibration. Make one from images with "
                "known identities: index.set_calibration(calibrate(index.encoder, records)), or "
                "`clipreid calibrate`; or pass calibrations."
            )
        found.append(calibration)
    return found


def _weights(count: int, given: Sequence[float] | None) -> list[float]:
    if given is None:
        return [1.0] * count
    if len(given) != count:
        raise ValueError(
            f"{_OWNER}: there are {len(given)} weights for {count} indexes; pass one for each."
        )
    for weight in given:
        check_number(_OWNER, "weights", weight)
        if weight <= 0:
            raise ValueError(f"{_OWNER}: a weight is {weight}; all have to be positive.")
    return [float(weight) for weight in given]


def _same_images(indexes: Sequence[GalleryIndex]) -> list[IntArray]:
    """Return the keys of the images of each index, in the order of the first index."""
    found = []
    positions: dict[str, int] = {}
    for number, index in enumerate(indexes):
        keys = index.keys()
        paths = _paths(index, keys)
        if number == 0:
            positions = {path: position for position, path in enumerate(paths)}

        missing = sorted(set(positions).symmetric_difference(paths))
        if missing:
            raise ValueError(
                f"{_OWNER}: {indexes[0].name} and {index.name} hold different images: {missing[0]} "
                f"and {len(missing) - 1} more are in one of them only. Build both from the same "
                "records."
            )

        ordered = np.empty(len(keys), dtype=np.int64)
        ordered[[positions[path] for path in paths]] = keys
        found.append(ordered)
    return found


def _paths(index: GalleryIndex, keys: IntArray) -> list[str]:
    """Return the distinct paths of images."""
    paths = []
    for record in index.records(keys):
        if record is None:
            raise ValueError(
                f"{_OWNER}: the index {index.name} has no records to match images by. Build it "
                "with records."
            )
        paths.append(record.path)

    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(
            f"{_OWNER}: the index {index.name} holds {twice} twice. Remove one: "
            "index.duplicates() lists them."
        )
    return paths


def _queries(owner: str, vectors: Sequence[Any], count: int) -> list[Tensor]:
    """Return the queries for each index, (Q, D)."""
    if len(vectors) != count:
        raise ValueError(
            f"{owner}: got {len(vectors)} arrays of vectors for {count} indexes; pass one for each."
        )
    found = []
    for part in vectors:
        rows = part if isinstance(part, Tensor) else torch.as_tensor(np.asarray(part), device="cpu")
        found.append(rows[None] if rows.ndim == 1 else rows)

    numbers = {len(rows) for rows in found}
    if len(numbers) > 1:
        raise ValueError(
            f"{owner}: the arrays hold different numbers of queries: {numbers}. Encode the same "
            "queries by every model."
        )
    return found


def _similarities(index: GalleryIndex, keys: IntArray, vector: Tensor) -> FloatArray:
    """Return the exact similarities of a query and images."""
    if len(keys) == 0:
        return np.empty(0)
    return exact_pairs(vector[None], np.zeros(len(keys), dtype=np.int64), index.vectors(keys))
