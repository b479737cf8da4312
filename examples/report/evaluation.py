"""What an evaluation found, as the reports read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from clipreid_kit import ReidResult, RetrievalResult, SplitResults
from clipreid_kit.data import ImageRecord

Result = ReidResult | SplitResults | RetrievalResult


@dataclass(slots=True)
class Evaluation:
    """Results by task, with the features of the first queries and gallery that they come from."""

    results: dict[str, Result]
    query: list[ImageRecord]
    gallery: list[ImageRecord]
    query_embeddings: Tensor
    gallery_embeddings: Tensor
    text_embeddings: Tensor | None
    captions: dict[
        int | str, str
    ]  # one of each query identity that has any, in the order of text_embeddings
    camera_rule: bool  # whether gallery images of the query's identity and camera were left out

    @property
    def images(self) -> ReidResult | None:
        """Image to image, on the first queries and gallery; nothing where no identity has two images."""
        name, found = next(iter(self.results.items()))
        if not name.startswith("image_to_image"):
            return None
        return found.results[0] if isinstance(found, SplitResults) else found  # type: ignore[return-value]

    def main_numbers(self) -> dict[str, Any]:
        """Of the first protocol between images; the mean where it has several splits."""
        found: dict[str, Any] = next(iter(self.results.values())).to_dict()
        mean: dict[str, Any] = found.get("mean", found)
        return mean

    @property
    def texts(self) -> ReidResult | None:
        """Text to image."""
        return self.results.get("text_to_image")  # type: ignore[return-value]

    def numbers(self, ks: Sequence[int]) -> dict[str, dict[str, Any]]:
        """Plain numbers, by task."""
        return {
            task: result.to_dict(tuple(sorted({1, 5, 10, *ks})))
            for task, result in self.results.items()
        }
