"""The results of an evaluation, with the records and embeddings that they come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from clipreid_kit import ReidResult, RetrievalResult, SplitResults
from clipreid_kit.data import ImageRecord

Result = ReidResult | SplitResults | RetrievalResult


@dataclass
class Evaluation:
    """Results by task, and the queries and gallery of the first image-to-image protocol.

    Attributes:
        results: Result of each task, such as ``image_to_image`` and ``text_to_image``; image to
            image comes first.
        query: Query records of the first protocol (of its first split, if it has several).
        gallery: Gallery records, likewise.
        query_embeddings: Embeddings (Q, D) of the queries.
        gallery_embeddings: Embeddings (G, D) of the gallery.
        text_embeddings: Embeddings (C, D) of ``captions``; ``None`` if no text was evaluated.
        captions: Identity and text of each caption to search by.
        camera_rule: Whether gallery images of the query's identity and camera were left out.
    """

    results: dict[str, Result]
    query: list[ImageRecord]
    gallery: list[ImageRecord]
    query_embeddings: Tensor
    gallery_embeddings: Tensor
    text_embeddings: Tensor | None
    captions: list[tuple[int | str, str]]
    camera_rule: bool

    @property
    def images(self) -> ReidResult | None:
        """First image-to-image result; ``None`` if no identity has two images."""
        name, result = next(iter(self.results.items()))
        if not name.startswith("image_to_image"):
            return None

        if isinstance(result, SplitResults):
            result = result.results[0]
        return result  # type: ignore[return-value]

    @property
    def texts(self) -> ReidResult | None:
        """Text-to-image result; ``None`` if no text was evaluated."""
        return self.results.get("text_to_image")  # type: ignore[return-value]

    def numbers(self, ks: Sequence[int]) -> dict[str, dict[str, Any]]:
        """Plain numbers by task, at ranks 1, 5, 10 and ``ks``."""
        ranks = tuple(sorted({1, 5, 10, *ks}))
        return {task: result.to_dict(ranks) for task, result in self.results.items()}

    def excluded_rows(self, query: int) -> list[int]:
        """Gallery rows that the protocol leaves out for a query.

        These are the query's own image, and with ``camera_rule`` the images of its identity by its
        camera.
        """
        record = self.query[query]
        rows = set(self._gallery_rows.get(record.path, []))
        if self.camera_rule:
            rows.update(self._gallery_rows.get((record.identity, str(record.camera)), []))
        return sorted(rows)

    @cached_property
    def _gallery_rows(self) -> dict[object, list[int]]:
        """Rows by path, and by identity and camera."""
        rows: dict[object, list[int]] = {}
        for row, record in enumerate(self.gallery):
            rows.setdefault(record.path, []).append(row)
            rows.setdefault((record.identity, str(record.camera)), []).append(row)
        return rows
