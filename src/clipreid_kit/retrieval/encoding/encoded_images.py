"""Embeddings of records, and the images that an encoder had to leave out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from clipreid_kit.data.records import ImageRecord


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """An image that could not be read.

    Attributes:
        path: Its path.
        reason: The error.
    """

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Embeddings of records.

    Attributes:
        embeddings: (N, D), one row for each record.
        records: The records that could be read, in their order.
        rows: Their positions among the records that were given.
        skipped: The images that could not be read.
    """

    embeddings: Float[Tensor, "n d"]
    records: Sequence[ImageRecord]
    rows: Sequence[int]
    skipped: Sequence[SkippedImage]


@dataclass(frozen=True, slots=True)
class WrittenEmbeddings:
    """Embeddings that were written to files.

    Attributes:
        path: The file or folder.
        num_images: Images in it.
        num_resumed: Those of them that an interrupted call had encoded.
        skipped: The images that could not be read.
        fingerprint: Names the encoder.
    """

    path: Path
    num_images: int
    num_resumed: int
    skipped: tuple[SkippedImage, ...]
    fingerprint: str
