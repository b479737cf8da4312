"""Encode splits with a pair of towers, and evaluate them with the library's evaluator."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipreid_kit import ReidResult, evaluate_reid
from clipreid_kit.clip import ClipTowers
from clipreid_kit.data import ImageRecord, records_of
from clipreid_kit.distances import l2_normalize
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
    captions: dict[int | str, str]
    """One caption of each query identity that has any, in the order of ``text_embeddings``."""
    camera_rule: bool
    """Whether gallery images of the query's identity and camera were left out."""

    def numbers(self) -> dict[str, dict[str, float | int]]:
        """Plain numbers, by task."""
        found = {"image_to_image": self.images.to_dict()}
        if self.texts is not None:
            found["text_to_image"] = self.texts.to_dict()
        return found


@torch.no_grad()
def encode(recipe: Recipe, towers: ClipTowers, records: list[ImageRecord], *, quiet: bool = False) -> Tensor:
    """Image embeddings (N, D) of the records, in float32 on the CPU; the mean over views, if there are several."""
    was_training = towers.training
    towers.eval()
    angles = recipe.evaluate.rotations
    views = []
    with progress(len(records) * len(angles), "images", quiet=quiet) as advance:
        for angle in angles:
            parts = []
            for item in evaluation_batches(recipe, records, towers, angle):
                parts.append(towers.encode_image(item.image).float().cpu())
                advance(len(item.image))
            views.append(torch.cat(parts))
    towers.train(was_training)
    return views[0] if len(views) == 1 else torch.stack([l2_normalize(view) for view in views]).mean(dim=0)


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
    camera_rule = recipe.evaluate.cameras and all(r.camera is not None for r in [*query, *gallery])
    images = evaluate_reid(
        query_embeddings,
        gallery_embeddings,
        query_ids=np.array([r.identity for r in query]),
        gallery_ids=np.array(gallery_ids),
        query_cameras=[str(r.camera) for r in query] if camera_rule else None,
        gallery_cameras=[str(r.camera) for r in gallery] if camera_rule else None,
    )
    first = {r.identity: r.caption for r in reversed(query) if r.caption}
    texts, text_embeddings = None, None
    if first:
        was_training = towers.training
        towers.eval()
        tokens = towers.tokenize(list(first.values()), too_long="cut")  # as in training
        parts = [towers.encode_text(part).float().cpu() for part in torch.split(tokens, recipe.evaluate.batch_size)]
        text_embeddings = torch.cat(parts)
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
        first,
        camera_rule,
    )
