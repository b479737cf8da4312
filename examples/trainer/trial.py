"""Cut the records of any data set to a few identities and images, for a trial run."""

import math
from collections import Counter
from collections.abc import Sequence

from clipreid_kit.data import ImageRecord

_IMAGES = 8  # of an identity in a split, evenly over its cameras

Identity = int | str


def keep_few(records: Sequence[ImageRecord], num_identities: int) -> list[ImageRecord]:
    """Keep the first identities of each split, and about eight images of each.

    Every camera of an identity keeps as many images, so that a query keeps its matches from other
    cameras. A gallery keeps the identities of its queries. Identities with a single image come
    last: nothing could be learned from them, or found.

    Args:
        records: The records, with their splits.
        num_identities: Identities to keep in each split.
    """
    kept = _identities_by_split(records, num_identities)
    cameras = _number_of_cameras(records)

    few: list[ImageRecord] = []
    taken: Counter[tuple[object, ...]] = Counter()
    for record in records:
        if record.identity not in kept[str(record.split)]:
            continue

        group = (record.split, record.identity)
        most = math.ceil(_IMAGES / cameras[group])
        of_camera = (*group, record.camera)
        if taken[of_camera] < most:
            taken[of_camera] += 1
            few.append(record)
    return few


def _identities_by_split(
    records: Sequence[ImageRecord], num_identities: int
) -> dict[str, set[Identity]]:
    """The first identities of each split; those of its queries for a gallery."""
    counts: dict[str, Counter[Identity]] = {}
    for record in records:
        counts.setdefault(str(record.split), Counter())[record.identity] += 1

    kept = {}
    for split, numbers in counts.items():
        queries = split.replace("gallery", "query").removesuffix("_all")
        chosen = counts.get(queries, numbers)
        least = 1 if queries in counts and "query" in queries else 2  # a query's match is elsewhere

        several = [identity for identity, number in chosen.items() if number >= least]
        single = [identity for identity, number in chosen.items() if number < least]
        kept[split] = set([*several, *single][:num_identities])
    return kept


def _number_of_cameras(records: Sequence[ImageRecord]) -> dict[tuple[object, ...], int]:
    """Cameras by split and identity."""
    cameras: dict[tuple[object, ...], set[object]] = {}
    for record in records:
        cameras.setdefault((record.split, record.identity), set()).add(record.camera)
    return {group: len(values) for group, values in cameras.items()}
