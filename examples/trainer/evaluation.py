"""Encode splits with a pair of towers, and evaluate them with the library's evaluator."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipreid_kit import ReidResult, evaluate_reid
from clipreid_kit.clip import ClipTowers
from clipreid_kit.data import ImageRecord, records_of
from examples.trainer.config import Recipe
from examples.trainer.data import evaluation_batches, progress


@dataclass(slots=True)
class Evaluation:
    """Results of one query and gallery pair, with the features they come from."""

    images: ReidResult
    texts: ReidResult | None
    query: list[ImageRecord]
    gallery: list[ImageRecord]
    query_embeddings: Tensor
    gallery_embeddings: Tensor
    text_embeddings: Tensor | None
    captions: list[str]
    """One caption of each query identity that has any, in the order of ``text_embeddings``."""

    def numbers(self) -> dict[str, dict[str, float | int]]:
        """Plain numbers, by task."""
        found = {"image_to_image": self.images.to_dict()}
        if self.texts is not None:
            found["text_to_image"] = self.texts.to_dict()
        return found


@torch.no_grad()
def encode(recipe: Recipe, towers: ClipTowers, records: list[ImageRecord], *, quiet: bool = False) -> Tensor:
    """Image embeddings (N, D) of the records, in float32 on the CPU."""
    was_training = towers.training
    towers.eval()
    parts = []
    with progress(len(records), "images", quiet=quiet) as advance:
        for item in evaluation_batches(recipe, records, towers):
            parts.append(towers.encode_image(item.image).float().cpu())
            advance(len(item.image))
    towers.train(was_training)
    return torch.cat(parts)


@torch.no_grad()
def evaluate(
    recipe: Recipe,
    towers: ClipTowers,
    records: list[ImageRecord],
    splits: tuple[str, str],
    *,
    quiet: bool = False,
) -> Evaluation:
    """Evaluate image to image, and text to image where the queries have captions.

    A text query is one caption of an identity; every gallery image of that identity is a match.
    """
    query, gallery = records_of(records, splits[0]), records_of(records, splits[1])
    query_embeddings = encode(recipe, towers, query, quiet=quiet)
    gallery_embeddings = encode(recipe, towers, gallery, quiet=quiet)
    gallery_ids = [r.identity for r in gallery]
    cameras: dict[str, list[int] | list[str]] = {}
    if recipe.evaluate.cameras and all(r.camera is not None for r in [*query, *gallery]):
        cameras = {"query_cameras": _column(query), "gallery_cameras": _column(gallery)}
    images = evaluate_reid(
        query_embeddings,
        gallery_embeddings,
        query_ids=np.array([r.identity for r in query]),
        gallery_ids=np.array(gallery_ids),
        query_cameras=cameras.get("query_cameras"),
        gallery_cameras=cameras.get("gallery_cameras"),
    )
    first = {r.identity: r.caption for r in reversed(query) if r.caption}
    texts, text_embeddings = None, None
    if first:
        was_training = towers.training
        towers.eval()
        text_embeddings = towers.encode_text(towers.tokenize(list(first.values()))).float().cpu()
        towers.train(was_training)
        texts = evaluate_reid(
            text_embeddings,
            gallery_embeddings,
            query_ids=np.array(list(first)),
            gallery_ids=np.array(gallery_ids),
        )
    return Evaluation(
        images,
        texts,
        query,
        gallery,
        query_embeddings,
        gallery_embeddings,
        text_embeddings,
        list(first.values()),
    )


def _column(records: list[ImageRecord]) -> list[str]:
    return [str(r.camera) for r in records]
