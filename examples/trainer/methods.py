"""What each stage trains: towers with heads and losses, from the library's parts."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipreid_kit import (
    ArcFaceHead,
    BNNeck,
    CenterLoss,
    CosFaceHead,
    HardNegativeContrastiveLoss,
    InfoNCELoss,
    MultiModalInteraction,
    PrototypeMemoryLoss,
    SupConLoss,
    TextualInversionMLP,
    TripletLoss,
    WeightedSum,
    linear_ramp,
)
from clipreid_kit.clip import (
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
from clipreid_kit.distances import l2_normalize
from clipreid_kit.distributed import gather
from examples.settings.config import Recipe
from examples.settings.rules import TEXT_TERMS, WITHOUT_IDENTITIES, terms_of, too_long, trains_text, uses_text


class Output(NamedTuple):
    """What a method gives: a descriptor, and with labels the loss and its weighted terms."""

    embedding: Tensor
    loss: Tensor | None
    terms: dict[str, Tensor]


class TowerMethod(nn.Module):
    """Towers, a neck and a classifier if they are used, and any sum of losses on image and text embeddings."""

    def __init__(self, recipe: Recipe, towers: ClipTowers, num_identities: int, *, distributed: bool) -> None:
        super().__init__()
        loss, head, dim = recipe.loss, recipe.head, towers.embed_dim
        self.towers, self.inference, self.distributed = towers, recipe.evaluate.features, distributed
        self.smoothing, self.focal = loss.label_smoothing, (loss.focal_gamma, loss.focal_alpha)
        self.weights = {name: weight for name, weight in terms_of(recipe).items() if weight}
        self.total = WeightedSum(self.weights)
        self.neck = BNNeck(dim, head.reduced_dim) if head.neck and "id" in self.weights else None
        self.dropout = nn.Dropout(head.dropout)
        width = head.reduced_dim if head.reduced_dim and self.neck is not None else dim
        self.classifier = head_of(recipe)(width, num_identities) if "id" in self.weights else None
        self.triplet = triplet_of(recipe, distributed=distributed)
        self.center = CenterLoss(num_identities, dim, distributed=distributed) if loss.center else None
        self.supcon = SupConLoss(loss.temperature, distributed=distributed)
        learnable = {"learnable": loss.learn_temperature, "distributed": distributed}
        self.info_nce = InfoNCELoss(loss.temperature, **learnable) if loss.info_nce else None
        self.siblings = recipe.mining.data != "standard"  # mined batches may hold several images of an identity
        self.hard = HardNegativeContrastiveLoss(
            loss.temperature, loss.negative_margin, loss.num_hard, distributed=distributed
        )
        memory = {"temperature": loss.temperature, "momentum": loss.momentum, "distributed": distributed}
        self.prototype = PrototypeMemoryLoss(num_identities, dim, **memory) if loss.prototype else None

    def forward(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        tokens: Tensor | None = None,
        cameras: Tensor | None = None,
        views: Tensor | None = None,
        step: int | None = None,
    ) -> Output:
        """Descriptor of images (N, 3, H, W), and with labels (N,) the losses, with tokens (N, L) those of texts."""
        features = self.towers.encode_image(images, cameras=cameras, views=views)
        after = features if self.neck is None else self.neck(features).after
        embedding = l2_normalize(after if self.inference == "after" else features)
        if labels is None:
            return Output(embedding, None, {})
        terms: dict[str, Tensor] = {}
        if self.classifier is not None:
            logits = self.classifier(self.dropout(after), labels)
            rows = F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=self.smoothing)
            terms["id"] = (gather(rows) if self.distributed else rows).mean()
        terms |= self.open_set_terms(features, labels, tokens)
        if self.center is not None:
            terms["center"] = self.center(features, labels)
        if self.prototype is not None:
            terms["prototype"] = self.prototype(features, labels)
        total, parts = self.total({name: terms[name] for name in self.weights}, step=step)
        return Output(embedding, total, parts)

    def open_set_terms(self, features: Tensor, labels: Tensor, tokens: Tensor | None) -> dict[str, Tensor]:
        """The terms that have a value for identities never seen, too."""
        terms: dict[str, Tensor] = {}
        if "triplet" in self.weights:
            terms["triplet"] = self.triplet(features, labels)
        if "supcon_image" in self.weights:
            terms["supcon_image"] = self.supcon(features, labels)
        if tokens is None or not any(name in self.weights for name in TEXT_TERMS):
            return terms
        texts = self.towers.encode_text(tokens)
        both: dict[str, Callable[[], Tensor]] = {
            "supcon_text": lambda: (
                self.supcon(features, labels, texts, labels) + self.supcon(texts, labels, features, labels)
            ),
            "triplet_text": lambda: (
                self.triplet(features, labels, texts, labels) + self.triplet(texts, labels, features, labels)
            ),
        }
        terms |= {name: value() / 2 for name, value in both.items() if name in self.weights}
        if "hard_negative" in self.weights:
            terms["hard_negative"] = self.hard(features, texts, labels)
        if self.info_nce is not None:
            terms["info_nce"] = self._paired(features, texts, labels)
        return terms

    def loss_of(self, images: Tensor, labels: Tensor, tokens: Tensor | None, **places: Tensor) -> Tensor:
        """The weighted sum for identities that were never seen."""
        terms = self.open_set_terms(self.towers.encode_image(images, **places), labels, tokens)
        return self.total({name: terms[name] for name in self.weights if name in WITHOUT_IDENTITIES})[0]

    def _paired(self, images: Tensor, texts: Tensor, labels: Tensor) -> Tensor:
        if self.siblings:  # as InfoNCE where identities differ; siblings count as right, and not as negatives
            return self.supcon(images, labels, texts, labels) / 2 + self.supcon(texts, labels, images, labels) / 2
        gamma, alpha = self.focal
        if not self.smoothing and not gamma:
            return self.info_nce(images, texts)
        both = [l2_normalize(gather(side) if self.distributed else side) for side in (images, texts)]
        logits = both[0].float() @ both[1].float().T / self.info_nce.temperature
        pairs = torch.arange(len(logits), device=logits.device)
        losses = []
        for side in (logits, logits.T):
            rows = F.cross_entropy(side, pairs, reduction="none", label_smoothing=self.smoothing)
            losses.append((alpha * (1 - torch.exp(-rows)) ** gamma * rows if gamma else rows).mean())
        return torch.stack(losses).mean()


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
    captions = {
        identity: sorted({r.caption or "" for r in records if r.identity == identity}) for identity in identities
    }
    if not all(all(texts) for texts in captions.values()):
        raise ValueError("prompt.epochs: expected captions for every identity where no prompts are learned, got none.")
    with torch.no_grad():
        return torch.stack(
            [towers.encode_text(towers.tokenize(t, too_long=too_long(recipe))).mean(0) for t in captions.values()]
        )


def method_of(
    recipe: Recipe, towers: ClipTowers, num_identities: int, *, distributed: bool, texts: Tensor | None = None
) -> nn.Module:
    """The module of a stage's (last) phase."""
    loss, prompt = recipe.loss, recipe.prompt
    weights: dict[str, Any] = {name: weight for name, weight in terms_of(recipe).items() if weight}
    if loss.ramp_epochs and "supcon" in weights:
        weights["supcon"] = partial(linear_ramp, start=0, end=loss.ramp_epochs, final=loss.supcon)
    triplet = triplet_of(recipe, distributed=distributed) if loss.triplet else None
    common: dict[str, Any] = {
        "weights": weights,
        "head": head_of(recipe),
        "label_smoothing": loss.label_smoothing,
        "image_blocks": None,
        "inference": recipe.evaluate.features,
        "triplet": triplet,
        "supcon": SupConLoss(loss.temperature, distributed=distributed) if loss.supcon else None,
        "distributed": distributed,
    }
    if recipe.stage == "clip_reid":
        method: nn.Module = ClipReID(towers, texts, **common)
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
        method = TowerMethod(recipe, towers, num_identities, distributed=distributed)
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
