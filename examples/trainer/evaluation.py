"""Encode images and captions, and evaluate them by every protocol with the library's evaluators."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from clipreid_kit import (
    AveragedEncoder,
    CUHK03Protocol,
    KReciprocalReranker,
    ReidResult,
    RetrievalResult,
    SplitResults,
    evaluate_reid,
    evaluate_retrieval,
)
from clipreid_kit.clip import ClipTowers, PromptSG
from clipreid_kit.data import ImageRecord
from clipreid_kit.distances import l2_normalize
from examples.report.predictions import write_best
from examples.settings.config import Recipe
from examples.settings.rules import TEXT_STAGES, too_long
from examples.trainer.batches import Numbers, evaluation_batches
from examples.trainer.data import Sides, Tests, progress

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
    captions: dict[int | str, str]  # one of each query identity that has any, in the order of text_embeddings
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
        return {task: result.to_dict(tuple(sorted({1, 5, 10, *ks}))) for task, result in self.results.items()}


class Encoder:
    """Images and captions to embeddings: by a method that was trained, or by towers as they come."""

    def __init__(self, recipe: Recipe, method: nn.Module, numbers: Sequence[Numbers], *, quiet: bool = False) -> None:
        self.recipe, self.method, self.numbers, self.quiet = recipe, method, numbers, quiet
        self.towers: ClipTowers = method if isinstance(method, ClipTowers) else cast("ClipTowers", method.towers)

    @torch.no_grad()
    def images(self, records: Sequence[ImageRecord]) -> Tensor:
        """Embeddings (N, D) in float32 on the CPU; the mean over views, if there are several."""
        was_training, views = self.method.training, []
        self.method.eval()
        angles, flip = self.recipe.evaluate.rotations, self.recipe.evaluate.flip
        text = None
        if isinstance(self.method, PromptSG) and self.recipe.prompt.test_mode == "simplified":
            text = self.method.composer.encode_plain(self.towers)[:1]
        places = {f"{n.name}s": n.of(records) for n in self.numbers}
        with progress(len(records) * len(angles), "images", quiet=self.quiet) as advance:
            for angle in angles:
                parts = []
                for item in evaluation_batches(self.recipe, records, self.towers, angle):
                    here: dict[str, Any] = {name: numbers[item.index] for name, numbers in places.items()}

                    def embed(images: Tensor, here: dict[str, Any] = here) -> Tensor:
                        if self.method is self.towers:
                            return self.towers.encode_image(images, **here)
                        also = {} if text is None else {"text": text}
                        # accelerate's own forward computes in mixed precision, which is for training
                        forward = getattr(self.method, "_original_forward", self.method)
                        return forward(images.to(self.towers.logit_scale.device), **here, **also).embedding  # type: ignore[no-any-return]

                    encode = AveragedEncoder(embed) if flip else embed
                    parts.append(encode(item.image).float().cpu())
                    advance(len(item.image))
                views.append(torch.cat(parts))
        self.method.train(was_training)
        return views[0] if len(views) == 1 else torch.stack([l2_normalize(view) for view in views]).mean(dim=0)

    @torch.no_grad()
    def texts(self, captions: Sequence[str]) -> Tensor:
        """Embeddings (N, D) of captions, in float32 on the CPU."""
        was_training = self.method.training
        self.method.eval()
        tokens = self.towers.tokenize(list(captions), too_long=too_long(self.recipe))
        parts = [self.towers.encode_text(p).float().cpu() for p in torch.split(tokens, self.recipe.evaluate.batch_size)]
        self.method.train(was_training)
        return torch.cat(parts)


def evaluate(recipe: Recipe, encoder: Encoder, tests: Tests, predictions: Path | None = None) -> Evaluation:
    """Evaluate image to image by every protocol, and between modalities where images have captions.

    A text query is one caption of an identity; every gallery image of that identity is a match. Every image is encoded
    once, whatever the number of protocols and splits.
    """
    pairs = [pair for sides in tests.values() for pair in sides]
    images = {record.path: record for pair in pairs for part in pair for record in part or ()}
    places = {path: place for place, path in enumerate(images)}
    embeddings = encoder.images(list(images.values()))

    def of(records: Sequence[ImageRecord]) -> Tensor:
        return embeddings[[places[record.path] for record in records]]

    results: dict[str, Result] = {}
    for protocol, sides in tests.items():
        name = "image_to_image" + ("" if protocol in ("query_gallery", "leave_one_out") else f".{protocol}")
        if len({r.identity for r in sides[0][0]}) < len(sides[0][0]) or sides[0][1] is not None:
            found = [_images(recipe, of, pair, protocol) for pair in sides]
            results[name] = found[0] if len(found) == 1 else SplitResults(tuple(found), protocol)  # type: ignore[arg-type]
            if recipe.evaluate.rerank and sides[0][1] is not None:
                again = [_images(recipe, of, pair, protocol, rerank=True) for pair in sides]
                results[f"{name}.rerank"] = again[0] if len(again) == 1 else SplitResults(tuple(again), protocol)  # type: ignore[arg-type]
    query, gallery = pairs[0][0], pairs[0][1] or pairs[0][0]
    captions = {r.identity: r.caption for r in reversed(query) if r.caption}
    texts = None
    if captions and recipe.stage in TEXT_STAGES:
        texts = encoder.texts(list(captions.values()))
        ids, others = np.array(list(captions)), np.array([r.identity for r in gallery])
        results["text_to_image"] = evaluate_reid(texts, of(gallery), query_ids=ids, gallery_ids=others)
        if recipe.stage == "retrieval":
            rows = of(gallery)
            both = {"text_to_image": (texts, rows, ids, others), "image_to_text": (rows, texts, others, ids)}
            for task, (left, right, own, theirs) in both.items():
                results[f"{task}.retrieval"] = evaluate_retrieval(left, right, query_ids=own, candidate_ids=theirs)
    camera_rule = _has_camera_rule(recipe, pairs[0])
    if predictions is not None and recipe.evaluate.predictions:
        file = predictions / "predictions.jsonl"
        count, metric = recipe.evaluate.predictions, recipe.evaluate.distance
        write_best(file, query, of(query), gallery, of(gallery), count, metric, camera_rule=camera_rule)
        if texts is not None:
            file = predictions / "predictions_text.jsonl"
            write_best(file, list(captions.values()), texts, gallery, of(gallery), count, "cosine")
    return Evaluation(results, query, gallery, of(query), of(gallery), texts, captions, camera_rule)


def _has_camera_rule(recipe: Recipe, pair: Sides) -> bool:
    return recipe.evaluate.cameras and pair[1] is not None and all(r.camera is not None for r in [*pair[0], *pair[1]])


def _images(recipe: Recipe, of: Any, pair: Sides, protocol: str, *, rerank: bool = False) -> Result:  # noqa: ANN401
    query, gallery = pair
    options: dict[str, Any] = {"distance": recipe.evaluate.distance, "query_ids": np.array([r.identity for r in query])}
    if gallery is None:
        return evaluate_reid(of(query), **options)
    options["gallery_ids"] = np.array([r.identity for r in gallery])
    if _has_camera_rule(recipe, pair):
        options["query_cameras"] = [str(r.camera) for r in query]
        options["gallery_cameras"] = [str(r.camera) for r in gallery]
    if protocol == "single_shot":
        if "query_cameras" not in options:
            raise ValueError(
                "evaluate.protocols: expected cameras for single_shot, got none, or evaluate.cameras: false."
            )
        options.pop("distance")
        similar = {"rerank": KReciprocalReranker} if rerank else {"distance": recipe.evaluate.distance}
        return CUHK03Protocol(seed=recipe.seed, **similar).evaluate(of(query), of(gallery), **options)
    if rerank:
        options.pop("distance")
        similarity = KReciprocalReranker(l2_normalize(of(query)), l2_normalize(of(gallery)))
        return evaluate_reid(None, None, similarity=similarity, **options)
    return evaluate_reid(of(query), of(gallery), **options)
