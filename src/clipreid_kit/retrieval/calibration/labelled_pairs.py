"""Pairs of images with known identities, and their similarities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit.data.records import ImageRecord

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_BLOCK = 1 << 14  # pairs whose similarities are computed at once


@dataclass(frozen=True, eq=False)
class LabelledPairs:
    """Pairs of images.

    Attributes:
        similarity: (N,), cosine of each pair.
        is_same: (N,), whether both images show the same identity.
        identities: (N, 2), numbers of the identities of each pair.
        base_rate: Share of pairs of the same identity among *all* pairs of the images, of which
            these may be a sample.
        num_identities: Number of identities of the images.
    """

    similarity: FloatArray
    is_same: BoolArray
    identities: IntArray
    base_rate: float
    num_identities: int

    def weights(self, base_rate: float) -> FloatArray:
        """Return weights of the pairs, with which a share ``base_rate`` is of the same identity."""
        num_same = int(self.is_same.sum())
        num_other = len(self.is_same) - num_same
        same, other = base_rate / max(num_same, 1), (1 - base_rate) / max(num_other, 1)
        return np.where(self.is_same, same, other) * len(self.is_same)

    def chosen(self, mask: BoolArray) -> "LabelledPairs":
        """Return some of the pairs."""
        return LabelledPairs(
            self.similarity[mask],
            self.is_same[mask],
            self.identities[mask],
            self.base_rate,
            self.num_identities,
        )


def labelled_pairs(
    embeddings: Tensor,
    records: Sequence[ImageRecord],
    *,
    across_cameras: bool,
    max_pairs: int,
    seed: int,
    texts: Tensor | None = None,
) -> LabelledPairs:
    """Return the pairs of some images, or a sample of them.

    Args:
        embeddings: (N, D).
        records: Their N records.
        across_cameras: Leave out pairs of one camera.
        max_pairs: Largest number of pairs of the same identity, and of different ones.
        seed: Seed of the sample.
        texts: (N, D), embeddings of texts about the records. Then pairs are of the text of the
            first image and the second image.
    """
    names = [record.identity for record in records]
    _, identity = np.unique(np.array([str(name) for name in names]), return_inverse=True)
    camera = None
    if across_cameras:
        cameras = np.array([str(record.camera) for record in records])
        _, camera = np.unique(cameras, return_inverse=True)

    generator = np.random.default_rng(seed)
    same = _same_pairs(identity, camera)
    num_same = len(same)
    if num_same > max_pairs:
        chosen = generator.choice(num_same, max_pairs, replace=False)
        same = same[np.sort(chosen)]

    num_other = _count_pairs(len(records), camera) - num_same
    other = _other_pairs(identity, camera, min(num_other, max_pairs), num_other, generator)

    pairs = np.concatenate([same, other])
    return LabelledPairs(
        similarity=_similarities(embeddings if texts is None else texts, embeddings, pairs),
        is_same=np.arange(len(pairs)) < len(same),
        identities=identity[pairs].astype(np.int64),
        base_rate=num_same / max(num_same + num_other, 1),
        num_identities=int(identity.max()) + 1,
    )


def _same_pairs(identity: IntArray, camera: IntArray | None) -> IntArray:
    """Return the rows of all pairs of the same identity."""
    parts = [np.empty((0, 2), dtype=np.int64)]
    order = np.argsort(identity, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(identity[order])) + 1):
        first, second = np.triu_indices(len(rows), 1)
        pairs = np.stack([rows[first], rows[second]], axis=1)
        parts.append(_of_two_cameras(pairs, camera))
    return np.concatenate(parts)


def _other_pairs(
    identity: IntArray,
    camera: IntArray | None,
    wanted: int,
    existing: int,
    generator: np.random.Generator,
) -> IntArray:
    """Return the rows of pairs of different identities: all, or a random sample."""
    count = len(identity)
    if wanted == existing and count * count <= 1 << 24:
        pairs = np.stack(np.triu_indices(count, 1), axis=1)
        pairs = pairs[identity[pairs[:, 0]] != identity[pairs[:, 1]]]
        return _of_two_cameras(pairs, camera)

    parts = [np.empty((0, 2), dtype=np.int64)]
    num_found = 0
    while num_found < wanted:
        pairs = generator.integers(0, count, (2 * wanted, 2))
        pairs = pairs[identity[pairs[:, 0]] != identity[pairs[:, 1]]]
        parts.append(_of_two_cameras(pairs, camera))
        num_found += len(parts[-1])
    return np.concatenate(parts)[:wanted]


def _of_two_cameras(pairs: IntArray, camera: IntArray | None) -> IntArray:
    """Leave out pairs of one camera, where that is asked for."""
    if camera is None:
        return pairs
    is_between: BoolArray = camera[pairs[:, 0]] != camera[pairs[:, 1]]
    return pairs[is_between]


def _count_pairs(count: int, camera: IntArray | None) -> int:
    """Count all pairs of images; of different cameras, where that is asked for."""
    pairs = count * (count - 1) // 2
    if camera is not None:
        sizes = np.bincount(camera)
        pairs -= int((sizes * (sizes - 1) // 2).sum())
    return pairs


def _similarities(left: Tensor, right: Tensor, pairs: IntArray) -> FloatArray:
    """Return the cosines of pairs in float64."""
    left_rows = torch.nn.functional.normalize(left.double(), dim=1).numpy()
    right_rows = torch.nn.functional.normalize(right.double(), dim=1).numpy()
    parts = [np.empty(0)]
    for start in range(0, len(pairs), _BLOCK):
        first, second = pairs[start : start + _BLOCK].T
        parts.append(np.einsum("nd,nd->n", left_rows[first], right_rows[second]))
    return np.concatenate(parts)
