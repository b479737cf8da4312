"""Encode images and captions, and evaluate them by every protocol with the library's evaluators."""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from clipreid_kit import (
    CUHK03Protocol,
    InShopProtocol,
    KReciprocalReranker,
    Market1501Protocol,
    SplitResults,
    TestTimeAugmentation,
    evaluate_reid,
    evaluate_retrieval,
)
from clipreid_kit.clip import ClipTowers, PromptSG
from clipreid_kit.data import CategoryIndex, ImageRecord, evaluation_ids
from clipreid_kit.distances import l2_normalize
from examples.report import Evaluation, Result
from examples.settings.config import Recipe
from examples.settings.rules import TEXT_STAGES, too_long
from examples.trainer.data import Sides, Tests
from examples.trainer.pictures import evaluation_batches


class Encoder:
    """Images and captions to embeddings: by a method that was trained, or by towers as they come."""

    def __init__(
        self,
        recipe: Recipe,
        method: nn.Module,
        numbers: list[CategoryIndex],
        *,
        quiet: bool = False,
    ) -> None:
        self.recipe, self.method, self.numbers, self.quiet = recipe, method, numbers, quiet
        self.towers: ClipTowers = (
            method if isinstance(method, ClipTowers) else cast("ClipTowers", method.towers)
        )

    @torch.no_grad()
    def images(self, records: Sequence[ImageRecord]) -> Tensor:
        """Embeddings (N, D) in float32 on the CPU; the mean over views, if there are several."""
        was_training, views = self.method.training, []
        self.method.eval()
        angles = self.recipe.evaluate.rotations
        places = {f"{n.field}s": n.of(records) for n in self.numbers}
        text: dict[str, Tensor] = {}
        if isinstance(self.method, PromptSG) and self.recipe.prompt.test_mode == "simplified":
            text["text"] = self.method.composer.encode_plain(self.towers)[:1]
        with tqdm(
            total=len(records) * len(angles), unit="images", leave=False, disable=self.quiet or None
        ) as bar:
            for angle in angles:
                parts = []
                for item in evaluation_batches(self.recipe, records, self.towers, angle):
                    here: dict[str, Any] = {
                        name: numbers[item.row] for name, numbers in places.items()
                    }
                    encode = partial(self._embed, options=here | text)
                    both = TestTimeAugmentation(encode) if self.recipe.evaluate.flip else encode
                    parts.append(both(item.image).float().cpu())
                    bar.update(len(item.image))
                views.append(torch.cat(parts))
        self.method.train(was_training)
        return (
            views[0]
            if len(views) == 1
            else torch.stack([l2_normalize(view) for view in views]).mean(dim=0)
        )

    def _embed(self, images: Tensor, options: dict[str, Any]) -> Tensor:
        if self.method is self.towers:
            return self.towers.encode_image(images, **options)
        # accelerate's own forward computes in mixed precision, which is for training
        forward = getattr(self.method, "_original_forward", self.method)
        return forward(images.to(self.towers.logit_scale.device), **options).embedding  # type: ignore[no-any-return]

    @torch.no_grad()
    def texts(self, captions: Sequence[str]) -> Tensor:
        """Embeddings (N, D) of captions, in float32 on the CPU."""
        was_training = self.method.training
        self.method.eval()
        tokens = self.towers.tokenize(list(captions), too_long=too_long(self.recipe))
        parts = [
            self.towers.encode_text(p).float().cpu()
            for p in torch.split(tokens, self.recipe.evaluate.batch_size)
        ]
        self.method.train(was_training)
        return torch.cat(parts)


def evaluate(recipe: Recipe, encoder: Encoder, tests: Tests) -> Evaluation:
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
        name = "image_to_image" + (
            "" if protocol in ("query_gallery", "leave_one_out") else f".{protocol}"
        )
        if len({r.identity for r in sides[0][0]}) < len(sides[0][0]) or sides[0][1] is not None:
            for again in (
                (False, True) if recipe.evaluate.rerank and sides[0][1] is not None else (False,)
            ):
                found = [_images(recipe, of, pair, protocol, rerank=again) for pair in sides]
                several = len(found) > 1
                results[name + ".rerank" * again] = (
                    SplitResults(tuple(found), protocol) if several else found[0]
                )  # type: ignore[arg-type]
    query, gallery = pairs[0][0], pairs[0][1] or pairs[0][0]
    captions = {r.identity: r.caption for r in reversed(query) if r.caption}
    texts = None
    if captions and recipe.stage in TEXT_STAGES:
        texts = encoder.texts(list(captions.values()))
        ids, others = np.array(list(captions)), np.array([r.identity for r in gallery])
        results["text_to_image"] = evaluate_reid(
            texts, of(gallery), query_ids=ids, gallery_ids=others
        )
        if recipe.stage == "retrieval":
            rows = of(gallery)
            both = {
                "text_to_image": (texts, rows, ids, others),
                "image_to_text": (rows, texts, others, ids),
            }
            for task, (left, right, own, theirs) in both.items():
                results[f"{task}.retrieval"] = evaluate_retrieval(
                    left, right, query_ids=own, candidate_ids=theirs
                )
    camera_rule = "query_cameras" in evaluation_ids(
        *pairs[0], cameras=None if recipe.evaluate.cameras else False
    )
    return Evaluation(results, query, gallery, of(query), of(gallery), texts, captions, camera_rule)


def _images(recipe: Recipe, of: Any, pair: Sides, protocol: str, *, rerank: bool = False) -> Result:  # noqa: ANN401
    query, gallery = pair
    columns: dict[str, Any] = evaluation_ids(
        query, gallery, cameras=None if recipe.evaluate.cameras else False
    )
    if gallery is None:
        return evaluate_reid(of(query), distance=recipe.evaluate.distance, **columns)
    similar: dict[str, Any] = {"distance": recipe.evaluate.distance}
    if rerank:
        similar = {"rerank": partial(KReciprocalReranker, **recipe.evaluate.reranking())}
    if protocol != "single_shot":
        kind = (
            partial(Market1501Protocol, junk_ids=())
            if "query_cameras" in columns
            else InShopProtocol
        )
        return kind(**similar).evaluate(of(query), of(gallery), **columns)
    if "query_cameras" not in columns:
        raise ValueError(
            "evaluate.protocols: expected cameras for single_shot, got none, or evaluate.cameras: false."
        )
    return CUHK03Protocol(seed=recipe.seed, **similar).evaluate(of(query), of(gallery), **columns)
