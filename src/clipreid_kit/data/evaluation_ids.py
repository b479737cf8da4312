"""From records to the columns that evaluations take."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clipreid_kit._checks import fail
from clipreid_kit.data.records import ImageRecord


def evaluation_ids(
    query: Sequence[ImageRecord],
    gallery: Sequence[ImageRecord] | None = None,
    *,
    cameras: bool | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Give identities, and cameras, of records as the evaluations of this library take them.

    Use it as ``evaluate_reid(queries, others, **evaluation_ids(query, gallery))``, and likewise for the protocols;
    rows of embeddings stand in the order of the records.

    Args:
        query: The queries.
        gallery: What they search; ``None`` for leave-one-out, where every query searches the others.
        cameras: Whether gallery images of the query's identity and camera are to be left out. ``None``: where there is
            a gallery and every record has a camera. ``False`` gives none.

    Returns:
        ``query_ids``; with a gallery ``gallery_ids``; and with cameras ``query_cameras`` and ``gallery_cameras``, as
        text, so that those of numbers and of names compare. One value for each record, (Q,) or (G,); none gives none,
        which every evaluation refuses.

    Raises:
        ValueError: If identities are integers and strings mixed, or cameras are asked for and a record has none.

    Example:
        >>> from clipreid_kit import evaluate_reid
        >>> query = [ImageRecord("a.jpg", 7, camera=1)]
        >>> gallery = [ImageRecord("b.jpg", 7, camera=1), ImageRecord("c.jpg", 8, camera=1), ImageRecord("d.jpg", 7, 2)]
        >>> columns = evaluation_ids(query, gallery)
        >>> {name: column.tolist() for name, column in columns.items() if name.startswith("gallery")}
        {'gallery_ids': [7, 8, 7], 'gallery_cameras': ['1', '1', '2']}
        >>> rows = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
        >>> evaluate_reid(rows[:1], rows, **columns).rank(1)  # the first image is of the query's own camera
        0.0
    """
    sides = {"query": query} if gallery is None else {"query": query, "gallery": gallery}
    everyone = [record for side in sides.values() for record in side]
    names = [record.identity for record in everyone if isinstance(record.identity, str)]
    if 0 < len(names) < len(everyone):
        got = f"{len(names)} strings ({names[0]!r}, ...) among {len(everyone)}"
        remedy = "The integer 1 and the string '1' are different identities: map all of them to one type."
        raise fail("evaluation_ids", "identities that are all integers or all strings", got, remedy)
    columns = {
        f"{name}_ids": np.array([record.identity for record in side])
        for name, side in sides.items()
    }
    bare = [record.path for record in everyone if record.camera is None]
    if cameras and (bare or gallery is None):
        got = "no gallery" if gallery is None else f"none for {len(bare)} ({bare[0]}, ...)"
        raise fail(
            "evaluation_ids", "a gallery, and a camera for every record", got, "Or cameras=False."
        )
    if cameras or (cameras is None and gallery is not None and not bare):
        columns |= {
            f"{name}_cameras": np.array([str(r.camera) for r in side])
            for name, side in sides.items()
        }
    return columns
