"""What each stage trains: towers with heads and losses, from the library's parts."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from clipreid_kit import (
    ArcFaceHead,
    CosFaceHead,
    HardNegativeContrastiveLoss,
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
    IdentityClassifier,
    IdentityPromptLearner,
    PromptComposer,
    PromptSG,
    freeze,
    set_gradient_checkpointing,
    unfreeze_last_blocks,
)
from clipreid_kit.data import ImageRecord, spoken_aspect
from examples.settings.config import Recipe
from examples.settings.rules import terms_of, too_long, trains_text, uses_text


class Output(NamedTuple):
    """What a method gives: a descriptor, and with labels the loss and its weighted terms."""

    embedding: Tensor
    loss: Tensor | None
    terms: dict[str, Tensor]


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


def train_only_what_is_asked(recipe: Recipe, towers: ClipTowers) -> None:
    """Freeze towers, blocks and projections as the recipe says; the temperature is the recipe's."""
    model = recipe.model
    for tower, blocks in (
        ("image", model.image_blocks),
        ("text", model.text_blocks if trains_text(recipe) else "none"),
    ):
        if blocks == "none":
            freeze(towers, tower, batch_norm=model.batch_norm)  # type: ignore[arg-type]
        else:
            unfreeze_last_blocks(towers, blocks, tower=tower, batch_norm=model.batch_norm)  # type: ignore[arg-type]
    for name, parameter in towers.named_parameters():
        scale = name.endswith(("logit_scale", "logit_bias"))
        if scale or (not model.train_projections and projection(name)):
            parameter.requires_grad = False
    if model.gradient_checkpointing:
        set_gradient_checkpointing(towers)


def projection(name: str) -> bool:
    """Whether a parameter is a last projection into the joint space."""
    return name.endswith(("visual.proj", "text_projection", "text_projection.weight")) or ".attnpool.c_proj." in name


def templates_of(recipe: Recipe) -> list[str]:
    """The sentences of the prompts, with the side of the hand in them."""
    return [text.replace("{aspect}", spoken_aspect(recipe.data.aspect)) for text in recipe.prompt.template]


def prompts_of(recipe: Recipe, towers: ClipTowers, num_identities: int, num_cameras: int) -> IdentityPromptLearner:
    """Learned prompts of the first stage of CLIP-ReID."""
    prompt = recipe.prompt
    return IdentityPromptLearner(
        towers,
        num_identities,
        templates_of(recipe),
        num_tokens=prompt.num_tokens,
        num_shared_tokens=prompt.shared_tokens,
        num_cameras=num_cameras if prompt.camera_tokens else 0,
        num_camera_tokens=max(prompt.camera_tokens, 1),
        seed=recipe.seed,
    )


def texts_of(recipe: Recipe, towers: ClipTowers, records: Sequence[ImageRecord], identities: Sequence[Any]) -> Tensor:
    """Without learned prompts: the mean of an identity's captions (C, D); zeros where no term looks at them."""
    if not (recipe.loss.image_to_text or recipe.loss.supcon):
        return torch.zeros(len(identities), towers.embed_dim)
    captions: dict[Any, set[str]] = {identity: set() for identity in identities}
    for record in records:
        captions[record.identity].add(record.caption or "")
    pairs = [(i, text) for i, identity in enumerate(identities) for text in sorted(captions[identity])]
    if not all(text for _, text in pairs):
        raise ValueError("prompt.epochs: expected captions for every identity where no prompts are learned, got none.")
    tokens = towers.tokenize([text for _, text in pairs], too_long=too_long(recipe))
    with torch.no_grad():
        rows = torch.cat([towers.encode_text(part) for part in torch.split(tokens, 256)])
    owners = torch.tensor([i for i, _ in pairs], device=rows.device)
    sums = rows.new_zeros(len(identities), rows.shape[1]).index_add_(0, owners, rows)
    return sums / torch.bincount(owners, minlength=len(identities))[:, None]


def method_of(
    recipe: Recipe, towers: ClipTowers, num_identities: int, *, distributed: bool, texts: Tensor | None = None
) -> nn.Module:
    """The module of a stage's (last) phase."""
    loss, prompt = recipe.loss, recipe.prompt
    weights: dict[str, Any] = {name: weight for name, weight in terms_of(recipe).items() if weight}
    if loss.ramp_epochs and "supcon" in weights:
        weights["supcon"] = partial(linear_ramp, start=0, end=loss.ramp_epochs, final=loss.supcon)
    if "info_nce" in weights and recipe.mining.data != "standard":  # mined batches hold several images of an identity
        weights["supcon_text"] = weights.get("supcon_text", 0.0) + weights.pop("info_nce")
    contrast: dict[str, Any] = {"temperature": loss.temperature, "distributed": distributed}
    common: dict[str, Any] = {
        "weights": weights,
        "head": head_of(recipe),
        "label_smoothing": loss.label_smoothing,
        "image_blocks": None,
        "inference": recipe.evaluate.features,
        "triplet": triplet_of(recipe, distributed=distributed) if {"triplet", "triplet_text"} & set(weights) else None,
        "supcon": SupConLoss(**contrast) if {"supcon", "supcon_image", "supcon_text"} & set(weights) else None,
        "distributed": distributed,
    }
    if recipe.stage == "clip_reid":
        method: nn.Module = ClipReID(towers, cast("Tensor", texts), **common)
    elif recipe.stage == "prompt_sg":
        method = PromptSG(
            towers,
            num_identities,
            composer=PromptComposer(towers, templates_of(recipe)),
            inversion=TextualInversionMLP(towers.embed_dim, towers.text_width, hidden_dim=prompt.inversion_dim)
            if prompt.mode == "composed"
            else None,
            interaction=MultiModalInteraction(
                towers.embed_dim,
                prompt.interaction_blocks,
                visual_dim=towers.width,
                dropout=prompt.interaction_dropout,
            ),
            prompt=prompt.mode,
            use_neck=recipe.head.neck,
            reduced_dim=recipe.head.reduced_dim,
            triplet_levels=prompt.triplet_levels,
            **common,
        )
    else:
        info_nce, hard = None, None
        if "info_nce" in weights:
            softer: dict[str, Any] = {"label_smoothing": loss.label_smoothing}
            softer |= {"focal_gamma": loss.focal_gamma, "focal_alpha": loss.focal_alpha}
            info_nce = InfoNCELoss(learnable=loss.learn_temperature, **softer, **contrast)
        if "hard_negative" in weights:
            hard = HardNegativeContrastiveLoss(margin=loss.negative_margin, num_hard=loss.num_hard, **contrast)
        necked = recipe.head.neck and "id" in weights
        memory = {"momentum": loss.momentum, **contrast}
        method = ClipBaseline(
            towers,
            num_identities,
            use_neck=necked,
            reduced_dim=recipe.head.reduced_dim if necked else None,
            dropout=recipe.head.dropout,
            text_blocks=None,
            prototype=PrototypeMemoryLoss(num_identities, towers.embed_dim, **memory) if loss.prototype else None,
            info_nce=info_nce,
            hard_negative=hard,
            **(common if necked else {**common, "inference": "before"}),
        )
    if not loss.id:  # a neck is trained by the classifier behind it, and the second one of ClipReID by the centres
        for neck in list(getattr(method, "necks", None) or ())[: 1 if loss.center else None]:
            neck.requires_grad_(requires_grad=False)
    train_only_what_is_asked(recipe, towers)
    if recipe.stage == "prompt_sg" and prompt.mode == "simplified":  # no pseudo word, so nothing asks for it
        for parameter in (p for name, p in towers.named_parameters() if name.endswith("visual.proj")):
            parameter.requires_grad = False
    if not uses_text(recipe) and not trains_text(recipe):
        freeze(towers, "text")
    return method
