"""Images that are in an index several times: equal files, or nearly equal embeddings."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clipreid_kit.data.records import ImageRecord
from clipreid_kit.data.validation.equal_files import group_equal_files, is_there
from clipreid_kit.retrieval.neighbour_graph import NeighbourGraph

IntArray = npt.NDArray[np.int64]

NUM_NEIGHBOURS = 20


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images that are probably the same one.

    Attributes:
        reason: ``"content"`` for files of equal bytes, ``"similarity"`` for similar embeddings.
        keys: Keys of the images, the one that was added first first; :meth:`GalleryIndex.remove`
            takes them.
        paths: Their paths; ``None`` in an index without records.
    """

    reason: Literal["content", "similarity"]
    keys: tuple[int, ...]
    paths: tuple[str | None, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the values in JSON's types."""
        return asdict(self)


def equal_files(
    owner: str,
    keys: IntArray,
    records: Sequence[ImageRecord | None],
    on_error: Literal["raise", "skip"],
) -> list[DuplicateGroup]:
    """Group images whose files have equal bytes.

    Args:
        owner: The public method, for errors.
        keys: (N,), keys of the images.
        records: Their N records.
        on_error: Whether a file that cannot be found is an error.

    Raises:
        ValueError: If there are no records, or a file cannot be found.
    """
    positions_of: dict[str, list[int]] = {}
    for position, record in enumerate(records):
        if record is None:
            raise ValueError(
                f"{owner}: the index has no records, so no files to compare. Pass content=False "
                "and min_similarity."
            )
        positions_of.setdefault(record.path, []).append(position)

    if on_error == "raise":
        missing = [path for path in positions_of if not is_there(path)]
        if missing:
            raise ValueError(
                f"{owner}: {len(missing)} files cannot be found, first {missing[0]}. Restore them, "
                'pass on_error="skip" to leave them out, or content=False.'
            )

    # records of one path have one file, which is compared once
    groups = group_equal_files(positions_of)
    equal = {path for group in groups for path in group}
    for path, positions in positions_of.items():
        if len(positions) > 1 and path not in equal:
            groups.append([path])

    members = []
    for group in groups:
        positions_of_group = [positions_of[path] for path in group]
        members.append(sorted(chain.from_iterable(positions_of_group)))
    return [_group("content", keys, records, positions) for positions in sorted(members)]


def similar_images(
    graph: NeighbourGraph, records: Sequence[ImageRecord | None], min_similarity: float
) -> list[DuplicateGroup]:
    """Group images that pairs of a similarity connect.

    Args:
        graph: N images and their neighbours.
        records: Their N records.
        min_similarity: The least similarity of a pair.
    """
    root = list(range(len(graph.keys)))

    def first_of(image: int) -> int:
        while root[image] != image:
            root[image] = root[root[image]]
            image = root[image]
        return image

    images, places = np.nonzero(graph.similarities >= min_similarity)
    for image, other in zip(
        images.tolist(), graph.neighbours[images, places].tolist(), strict=True
    ):
        low, high = sorted((first_of(image), first_of(other)))
        root[high] = low

    members: dict[int, list[int]] = {}
    for image in sorted(set(images.tolist()) | set(graph.neighbours[images, places].tolist())):
        members.setdefault(first_of(image), []).append(image)
    return [_group("similarity", graph.keys, records, own) for own in members.values()]


def _group(
    reason: Literal["content", "similarity"],
    keys: IntArray,
    records: Sequence[ImageRecord | None],
    positions: Sequence[int],
) -> DuplicateGroup:
    paths = []
    for position in positions:
        record = records[position]
        paths.append(None if record is None else record.path)
    return DuplicateGroup(reason, tuple(keys[list(positions)].tolist()), tuple(paths))
