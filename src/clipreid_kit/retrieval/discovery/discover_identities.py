"""Find out which images of an index show the same identity."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from clipreid_kit._checks import check_at_least, check_choice, check_integer, check_number
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.calibration.calibration import Calibration
from clipreid_kit.retrieval.calibration.camera_pairs import judge_pairs, number_cameras
from clipreid_kit.retrieval.discovery.average_linkage import cluster_components, split_large
from clipreid_kit.retrieval.discovery.components import connected_components
from clipreid_kit.retrieval.discovery.discovery_scores import (
    DiscoveryScores,
    own_identities,
    score_identities,
)
from clipreid_kit.retrieval.gallery_index import GalleryIndex

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

Method = Literal["average", "threshold"]

_OWNER = "discover_identities"
_GIVEN = "given_identity"


@dataclass(frozen=True, eq=False)
class DiscoveredIdentities:
    """The identities that were found in a gallery.

    Attributes:
        keys: (N,), keys of the images.
        labels: (N,), number of the identity of every image, counted from 0 in the order of first
            images; -1 for an image that matches no other.
        num_truncated: Images whose neighbours were all accepted, so that more may match. Search
            more neighbours if there are many.
        num_split: Images in groups of more than 5,000 that accepted pairs connect. ``"average"``
            splits such a group first, so that the most probable pairs stay together. Accept fewer
            pairs if there are many.
    """

    keys: IntArray
    labels: IntArray
    num_truncated: int
    num_split: int
    _records: Sequence[ImageRecord | None]

    @property
    def num_identities(self) -> int:
        """Number of identities with two images at least."""
        return int(self.labels.max(initial=-1)) + 1

    @property
    def num_unmatched(self) -> int:
        """Number of images that match no other."""
        return int((self.labels < 0).sum())

    def records(
        self, unmatched: Literal["own", "unknown", "leave_out"] = "own"
    ) -> list[ImageRecord]:
        """Return the records of the images, with the found identities, such as ``"id-00017"``.

        The identity that a record had is kept in its extra column ``given_identity``.

        Args:
            unmatched: An image that matches no other gets an identity of its own, the identity
                ``"unknown"``, or is left out.

        Raises:
            ValueError: If the index has no records.
        """
        owner = "DiscoveredIdentities.records"
        check_choice(owner, "unmatched", unmatched, ("own", "unknown", "leave_out"))
        numbers = own_identities(self.labels)

        found = []
        for record, label, number in zip(self._records, self.labels, numbers, strict=True):
            if record is None:
                raise ValueError(f"{owner}: the index has no records. Build it with records.")
            if label < 0 and unmatched == "leave_out":
                continue
            identity = "unknown" if label < 0 and unmatched == "unknown" else f"id-{number:05d}"
            extra = {_GIVEN: str(record.identity), **record.extra}
            found.append(replace(record, identity=identity, extra=extra))
        return found

    def evaluate(self, identities: Sequence[int | str] | None = None) -> DiscoveryScores:
        """Compare the found identities with known ones.

        Args:
            identities: Known identities of the N images; ``None`` for those of their records.

        Raises:
            ValueError: If the index has no records, the number of identities differs, all images
                have the same one, or scikit-learn is not installed.
        """
        owner = "DiscoveredIdentities.evaluate"
        if identities is None:
            known = [record.identity for record in self._records if record is not None]
            if len(known) < len(self.labels):
                raise ValueError(f"{owner}: the index has no records; pass identities.")
            identities = known
        return score_identities(owner, self.labels, identities)

    def table(self) -> str:
        """Return the numbers of images and identities as a table for a terminal."""
        sizes = Counter(self.labels[self.labels >= 0].tolist()).values()
        lines = [
            f"images             {len(self.labels)}",
            f"found identities   {self.num_identities}",
            f"unmatched images   {self.num_unmatched}",
            f"largest identity   {max(sizes, default=0)} images",
        ]
        if self.num_truncated:
            lines.append(f"truncated images   {self.num_truncated}: all their neighbours match")
        if self.num_split:
            lines.append(f"split images       {self.num_split}: in groups too large to compare")
        return "\n".join(lines)


def discover_identities(
    index: GalleryIndex,
    *,
    method: Method = "average",
    min_probability: float | None = None,
    min_similarity: float | None = None,
    images_per_identity: float | None = None,
    num_neighbours: int = 50,
    where: Mapping[str, object] | None = None,
) -> DiscoveredIdentities:
    """Find out which images of an index show the same identity, without labels.

    Use it to label a new gallery, or to check the labels of an old one. Every image is compared
    with its nearest other images, exactly, and a pair is accepted if it is probable enough by the
    calibration of the index. Accepted pairs connect images to groups. ``"threshold"`` takes each
    group for an identity, so one wrong pair joins two of them. ``"average"`` compares all images of
    a group, and joins clusters, the most probable ones first, while the *mean* probability of the
    pairs between them is large enough: average linkage, by SciPy. It is exactly that of the whole
    gallery, as clusters without an accepted pair are never joined. Needs the extra ``calibrate``.

    Memory is that of the embeddings, twice, of the neighbours, 12 bytes each, of the accepted
    pairs, and of all pairs of a group of at most 5,000 images.

    Args:
        index: The gallery; its labels are not used.
        method: ``"average"`` or ``"threshold"``.
        min_probability: The least probability. Defaults to 0.5.
        min_similarity: Use cosine similarities instead of probabilities, without a calibration, and
            this least one.
        images_per_identity: Roughly expected number, at least 1. It moves the probabilities from
            the base rate of the calibration to that of the gallery: in a larger gallery, fewer of
            the pairs that are as similar show the same identity. ``None`` leaves them as they are.
        num_neighbours: Nearest other images that an image is compared with to form the groups. An
            identity may have more images; it takes a chain of neighbours to find them.
        where: Conditions on the images, as for :meth:`GalleryIndex.search`.

    Returns:
        The found identities; an image that matches no other has none.

    Raises:
        ValueError: If the index has no calibration and no ``min_similarity`` is given, both
            thresholds are, no image meets the conditions, or SciPy is not installed.

    Example:
        >>> import tempfile
        >>> rows = np.array([[1, 0], [0.99, 0.1], [0, 1], [0.1, 0.99], [-1, -1]], np.float32)
        >>> records = [ImageRecord(f"{n}.jpg", "?") for n in range(5)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     index = GalleryIndex.build(rows, records, store=f"{folder}/gallery.index")
        ...     found = discover_identities(index, min_similarity=0.9)
        >>> found.labels.tolist()
        [0, 0, 1, 1, -1]
        >>> [record.identity for record in found.records()]
        ['id-00000', 'id-00000', 'id-00001', 'id-00001', 'id-00002']
    """
    check_choice(_OWNER, "method", method, ("average", "threshold"))
    check_integer(_OWNER, "num_neighbours", num_neighbours, 1)
    least = _least_value(index, min_probability, min_similarity, images_per_identity)

    graph = index.neighbours(num_neighbours, where=where)
    count = len(graph.keys)
    if count == 0:
        raise ValueError(
            f"{_OWNER}: no image of the index meets the conditions. Change or leave out where."
        )

    records = index.records(graph.keys)
    calibration = index.calibration if min_similarity is None else None
    base_rate = None
    if images_per_identity is not None:
        base_rate = max(images_per_identity - 1, 1e-3) / max(count - 1, images_per_identity)
    judge = _PairValues(index, graph.keys, records, calibration, base_rate)

    images = np.arange(count)
    values = judge.of_similarities(graph.similarities, images[:, None], graph.neighbours)
    first, place = np.nonzero(values >= least)
    second = graph.neighbours[first, place].astype(np.int64)
    labels = connected_components(_OWNER, first, second, count)

    num_split = 0
    if method == "average":
        labels, num_split = split_large(labels, first, second, values[first, place])
        labels = cluster_components(labels, judge, least)

    is_truncated = graph.neighbours.shape[1] < count - 1 and values.shape[1] > 0
    num_truncated = int((values[:, -1] >= least).sum()) if is_truncated else 0
    return DiscoveredIdentities(graph.keys, labels, num_truncated, num_split, records)


def _least_value(
    index: GalleryIndex,
    min_probability: float | None,
    min_similarity: float | None,
    images_per_identity: float | None,
) -> float:
    """Return the least value of accepted pairs, or raise ValueError if it is not clear."""
    if min_probability is not None and min_similarity is not None:
        raise ValueError(f"{_OWNER}: pass min_probability or min_similarity, one of the two.")
    if min_similarity is not None:
        check_number(_OWNER, "min_similarity", min_similarity)
        if images_per_identity is not None:
            raise ValueError(
                f"{_OWNER}: images_per_identity has no effect with min_similarity, as it changes "
                "probabilities only. Pass min_probability, or leave it out."
            )
        return min_similarity

    if index.calibration is None:
        raise ValueError(
            f"{_OWNER}: the index has no calibration, so similarities have no probabilities. Make "
            "one from images with known identities: index.set_calibration(calibrate(index.encoder, "
            "records)), or `clipreid calibrate`. Or pass min_similarity."
        )
    if images_per_identity is not None:
        check_at_least(_OWNER, "images_per_identity", images_per_identity, 1)

    least = 0.5 if min_probability is None else min_probability
    check_number(_OWNER, "min_probability", least)
    if not 0 < least <= 1:
        raise ValueError(
            f"{_OWNER}: min_probability is {least}; it has to be above 0, and at most 1."
        )
    return least


class _PairValues:
    """Probabilities of pairs of images, or their similarities without a calibration."""

    def __init__(
        self,
        index: GalleryIndex,
        keys: IntArray,
        records: Sequence[ImageRecord | None],
        calibration: Calibration | None,
        base_rate: float | None,
    ) -> None:
        self._index = index
        self._keys = keys
        self._calibration = calibration
        self._base_rate = base_rate
        of_images = [None if record is None else record.camera for record in records]
        self._cameras, self._numbers = number_cameras(of_images)

    def of_similarities(
        self, similarities: FloatArray, first: IntArray, second: npt.NDArray[np.integer]
    ) -> FloatArray:
        """Return the values of pairs by their similarities, and the positions of their images."""
        if self._calibration is None:
            return similarities

        cameras = np.broadcast_arrays(self._numbers[first], self._numbers[second])
        values, _ = judge_pairs(
            self._calibration, similarities, self._cameras, *cameras, base_rate=self._base_rate
        )
        return values

    def __call__(self, first: IntArray, second: IntArray) -> FloatArray:
        """Return the values of all pairs of some images and others."""
        similarities = self._unit_rows(first) @ self._unit_rows(second).T
        return self.of_similarities(similarities, first[:, None], second[None])

    def _unit_rows(self, images: IntArray) -> FloatArray:
        rows = self._index.vectors(self._keys[images]).double()
        unit: FloatArray = torch.nn.functional.normalize(rows, dim=1).numpy()
        return unit
