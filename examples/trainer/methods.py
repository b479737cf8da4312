"""What each stage trains: towers with heads and losses, from the library's parts."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from clipreid_kit import (
    ArcFaceHead,
    CosFaceHead,
    HardNegativeContrastiveLoss,
    ImageToTextCELoss,
    InfoNCELoss,
    MultiModalInteraction,
    PrototypeMemoryLoss,
    SupConLoss,
    TextualInversionMLP,
    TripletLoss,
    linear_ramp,
)
from clipreid_kit.clip import (
    ClipBaseline,
    ClipReID,
    ClipTowers,
    IdentityBranch,
    IdentityClassifier,
    IdentityPromptLearner,
    PromptComposer,
    PromptSG,
    caption_embeddings,
    set_gradient_checkpointing,
    set_trainable,
)
from clipreid_kit.data import ReidDataset
from clipreid_kit.data.hands import spoken_aspect
from examples.settings.config import Recipe
from examples.settings.rules import terms_of, too_long, trains_text


def head_of(recipe: Recipe) -> Callable[[int, int], nn.Module]:
    """Makes the classifier of a width and a number of identities."""
    head = recipe.head
    margins: dict[str, Any] = {"arcface": ArcFaceHead, "cosface": CosFaceHead}
    if head.kind == "linear":
        return partial(IdentityClassifier, std=head.std)
    return partial(margins[head.kind], scale=head.scale, margin=head.margin)


def triplet_of(recipe: Recipe, *, distributed: bool) -> TripletLoss:
    """The triplet loss of a recipe."""
    loss = recipe.loss
    margin = None if loss.soft_margin else loss.margin
    return TripletLoss(margin, mining=loss.mining, distance=loss.distance, distributed=distributed)


def templates_of(recipe: Recipe) -> list[str]:
    """The sentences of the prompts, with the side of the hand in them."""
    return [
        text.replace("{aspect}", spoken_aspect(recipe.data.aspect))
        for text in recipe.prompt.template
    ]


def prompts_of(
    recipe: Recipe, towers: ClipTowers, num_identities: int, num_cameras: int
) -> IdentityPromptLearner:
    """Learned prompts of the first stage of CLIP-ReID."""
    prompt = recipe.prompt
    options: dict[str, Any] = {
        "num_tokens": prompt.num_tokens,
        "num_shared_tokens": prompt.shared_tokens,
    }
    options |= {
        "num_cameras": num_cameras,
        "num_camera_tokens": max(prompt.camera_tokens, 1),
        "seed": recipe.seed,
    }
    return IdentityPromptLearner(towers, num_identities, templates_of(recipe), **options)


def texts_of(recipe: Recipe, towers: ClipTowers, dataset: ReidDataset) -> Tensor:
    """Without learned prompts: the mean of an identity's captions (C, D); zeros where no term looks at them."""
    if not (recipe.loss.image_to_text or recipe.loss.supcon):
        return torch.zeros(len(dataset.identities), towers.embed_dim)
    captions: dict[Any, list[str]] = {identity: [] for identity in dataset.identities}
    for record in dataset.records:
        captions[record.identity].append(record.caption or "")
    if not all(map(all, captions.values())):
        raise ValueError(
            "prompt.epochs: expected captions for every identity where no prompts are learned, got none."
        )
    return caption_embeddings(towers, list(captions.values()), too_long=too_long(recipe))


def method_of(
    recipe: Recipe,
    towers: ClipTowers,
    num_identities: int,
    *,
    distributed: bool,
    texts: Tensor | None = None,
) -> nn.Module:
    """The module of a stage's (last) phase."""
    loss, prompt, model = recipe.loss, recipe.prompt, recipe.model
    which: dict[str, Any] = {"projections": model.train_projections, "batch_norm": model.batch_norm}
    set_trainable(
        towers,
        image=model.image_blocks,
        text=model.text_blocks if trains_text(recipe) else "none",
        **which,
    )
    if model.gradient_checkpointing:
        set_gradient_checkpointing(towers)
    weights: dict[str, Any] = {name: weight for name, weight in terms_of(recipe).items() if weight}
    if loss.ramp_epochs and "supcon" in weights:
        weights["supcon"] = partial(linear_ramp, start=0, end=loss.ramp_epochs, final=loss.supcon)
    if (
        "info_nce" in weights and recipe.mining.data != "standard"
    ):  # mined batches hold several images of an identity
        weights["supcon_text"] = weights.get("supcon_text", 0.0) + weights.pop("info_nce")
    contrast: dict[str, Any] = {"temperature": loss.temperature, "distributed": distributed}
    losses: dict[str, nn.Module] = {}
    for name in ("triplet", "triplet_text"):
        if name in weights:
            losses[name] = triplet_of(recipe, distributed=distributed)
    for name in ("supcon", "supcon_image", "supcon_text"):
        if name in weights:
            losses[name] = SupConLoss(**contrast)
    identity: dict[str, Any] = {
        "classifier": head_of(recipe),
        "label_smoothing": loss.label_smoothing,
    }
    common: dict[str, Any] = {
        "weights": weights,
        "losses": losses,
        "image_blocks": None,
        "descriptor": recipe.evaluate.descriptor,
        "distributed": distributed,
    }
    if recipe.stage == "clip_reid":
        if "image_to_text" in weights:
            raw: dict[str, Any] = {"normalize": False, "label_smoothing": loss.label_smoothing}
            losses["image_to_text"] = ImageToTextCELoss(1.0, **raw, distributed=distributed)
        return ClipReID(
            towers, cast("Tensor", texts), identity=partial(IdentityBranch, **identity), **common
        )
    identity |= {"use_neck": recipe.head.neck, "reduced_dim": recipe.head.reduced_dim}
    if recipe.stage == "prompt_sg":
        dim, inversion = towers.embed_dim, None
        if prompt.mode == "composed":
            inversion = TextualInversionMLP(dim, towers.text_width, hidden_dim=prompt.inversion_dim)
        shape: dict[str, Any] = {"visual_dim": towers.width, "dropout": prompt.interaction_dropout}
        return PromptSG(
            towers,
            num_identities,
            identity=partial(IdentityBranch, **identity),
            composer=PromptComposer(towers, templates_of(recipe)),
            inversion=inversion,
            interaction=MultiModalInteraction(dim, prompt.interaction_blocks, **shape),
            prompt=prompt.mode,
            triplet_levels=prompt.triplet_levels,
            **common,
        )
    if "info_nce" in weights:
        softer = {
            name: getattr(loss, name) for name in ("label_smoothing", "focal_gamma", "focal_alpha")
        }
        losses["info_nce"] = InfoNCELoss(learnable=loss.learn_temperature, **softer, **contrast)
    if "hard_negative" in weights:
        losses["hard_negative"] = HardNegativeContrastiveLoss(
            margin=loss.negative_margin, num_hard=loss.num_hard, **contrast
        )
    if "prototype" in weights:
        losses["prototype"] = PrototypeMemoryLoss(
            towers.embed_dim, num_identities, momentum=loss.momentum, **contrast
        )
    if "id" in weights:
        common["identity"] = partial(IdentityBranch, dropout=recipe.head.dropout, **identity)
    if "id" not in weights or not recipe.head.neck:
        common["descriptor"] = "pre_neck"
    return ClipBaseline(towers, num_identities, text_blocks=None, **common)
