"""Facts about an index, as :meth:`GalleryIndex.info` returns them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """Facts about an index.

    Attributes:
        num_images: Images that a search can find.
        num_removed: Images that were removed, and that :meth:`GalleryIndex.compact` would drop.
        dim: Width of the embeddings.
        dtype: Type of the embeddings, ``float32`` or ``float64``.
        fingerprint: Names the encoder of the embeddings; ``None`` if none was given.
        columns: Columns that ``where`` takes.
        num_segments: Files of embeddings: one for each ``add`` since the last ``compact``.
        generation: Counts the changes of the index.
        num_bytes: Size of its files.
        encoder: Where the encoder came from, as its ``source`` says it; ``None`` if
            unknown.
        is_calibrated: Whether searches have probabilities.
        approximate: How the approximate structure is built; ``None`` without one.
    """

    num_images: int
    num_removed: int
    dim: int
    dtype: str
    fingerprint: str | None
    columns: tuple[str, ...]
    num_segments: int
    generation: int
    num_bytes: int
    encoder: Mapping[str, Any] | None
    is_calibrated: bool
    approximate: str | None = None
