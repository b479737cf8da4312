"""The losses of a method, its identity branch, and the parts of the towers that are trained."""

from collections.abc import Collection
from functools import partial
from typing import Any, Literal

from torch import nn

from clipreid_kit import (
    ArcFaceHead,
    ArcFaceLoss,
    CircleSoftmaxHead,
    CMPMLoss,
    CosFaceHead,
    CosFaceLoss,
    HardNegativeContrastiveLoss,
    ImageToTextCELoss,
    InfoNCELoss,
    MatryoshkaLoss,
    PrototypeMemoryLoss,
    RecallSurrogateLoss,
    SDMLoss,
    SelfSupervisionLoss,
    SmoothAPLoss,
    SupConLoss,
    TripletAlignmentLoss,
    TripletLoss,
    chance_level_losses,
    linear_ramp,
)
from clipreid_kit.clip import (
    ClipTowers,
    IdentityBranch,
    IdentityClassifier,
    add_lora,
    projection_names,
    set_gradient_checkpointing,
    set_trainable,
)
from clipreid_kit.losses.weighted_sum import Weight
from examples.settings.batch import Batch
from examples.settings.head import AnyHead, CircleHead, LinearHead, MarginHead
from examples.settings.losses import (
    NESTED_TERMS,
    AnyLoss,
    CaptionTerms,
    HardCaptionTerms,
    IdentityTerm,
    NestedWidths,
    PairTerms,
    PrototypeTerm,
    RampedTerm,
    RankTerms,
    Smoothing,
    Terms,
    ViewTerm,
)
from examples.settings.model import Blocks, TrainedModel

IdentityBranchBuilder = partial[IdentityBranch]


def set_trained_parts(towers: ClipTowers, model: TrainedModel, text_blocks: Blocks) -> None:
    """Freeze what is not trained, and recompute activations if so asked."""
    set_trainable(
        towers,
        image=model.image_blocks,
        text=text_blocks,
        projections=model.train_projections,
        batch_norm=model.batch_norm,
    )
    if model.lora_rank > 0:
        _train_adapters(towers, model, text_blocks)
    if model.gradient_checkpointing:
        set_gradient_checkpointing(towers)


def _train_adapters(towers: ClipTowers, model: TrainedModel, text_blocks: Blocks) -> None:
    """Train adapters in place of the blocks; projections and rows of cameras train as before."""
    beside = {*projection_names(towers), "camera_embedding.table"}
    trained = [
        name
        for name, parameter in towers.named_parameters()
        if name in beside and parameter.requires_grad
    ]

    chosen: tuple[Literal["image", "text"], ...]
    chosen = ("image",) if text_blocks == "none" else ("image", "text")
    for tower in chosen:
        if tower not in towers.adapters:  # those of a checkpoint that is evaluated
            add_lora(
                towers,
                model.lora_rank,
                alpha=model.lora_alpha,
                dropout=model.lora_dropout,
                tower=tower,
                parts=model.lora_targets,
            )

    for name in trained:
        towers.get_parameter(name).requires_grad = True


def identity_branch(
    head: AnyHead, loss: IdentityTerm, *, dropout: float = 0.0, levels: bool = False
) -> IdentityBranchBuilder:
    """Builds neck, classifier and cross-entropy.

    Args:
        head: Kind and sizes.
        loss: Smoothing and focal weight of the cross-entropy.
        dropout: Before the classifier.
        levels: Whether the method has necks of its own, one on each level, as CLIP-ReID.
    """
    classifier = _classifier(head)
    smoothing = loss.label_smoothing
    if isinstance(head, MarginHead) and head.sampled < 1:  # a loss with a smoothing of its own
        classifier = partial(_sampled_classes, head=head, smoothing=smoothing)
        smoothing = 0.0

    options: dict[str, Any] = {
        "label_smoothing": smoothing,
        "adaptive_smoothing": loss.adaptive_smoothing,
        "focal_gamma": loss.id_focal_gamma,
        "dropout": dropout,
        "sync_neck": head.sync_neck,
    }
    if not levels:
        options |= {"use_neck": head.neck, "reduced_dim": head.reduced_dim}
    return partial(IdentityBranch, classifier=classifier, **options)


def _sampled_classes(
    dim: int, num_identities: int, *, head: MarginHead, smoothing: float
) -> nn.Module:
    """A loss with a margin over a share of the identities, drawn anew in each step."""
    kind: Any = ArcFaceLoss if head.kind == "arcface" else CosFaceLoss
    num_sampled = max(1, round(head.sampled * num_identities))
    loss: nn.Module = kind(
        dim,
        num_identities,
        head.scale,
        head.margin,
        label_smoothing=smoothing,
        num_sampled=num_sampled,
    )
    return loss


def _classifier(head: AnyHead) -> Any:  # noqa: ANN401 (a partial of one of four modules)
    if isinstance(head, CircleHead):
        return partial(CircleSoftmaxHead, scale=head.scale, margin=head.margin)
    if isinstance(head, MarginHead):
        kind: Any = ArcFaceHead if head.kind == "arcface" else CosFaceHead
        return partial(kind, scale=head.scale, margin=head.margin)

    std = head.std if isinstance(head, LinearHead) else 0.001
    return partial(IdentityClassifier, std=std)


def ramped_weights(loss: AnyLoss) -> dict[str, Weight]:
    """Weight of each term in use; that of SupCon may rise with the epochs."""
    weights: dict[str, Weight] = dict(loss.weights())
    if isinstance(loss, RampedTerm) and loss.ramp_epochs and loss.supcon:
        weights["supcon"] = partial(linear_ramp, start=0, end=loss.ramp_epochs, final=loss.supcon)
    return weights


def losses_of(
    loss: AnyLoss,
    terms: Collection[str],
    towers: ClipTowers,
    num_identities: int,
    *,
    distributed: bool,
) -> dict[str, nn.Module]:
    """The losses of some terms that a recipe has options for; a method builds the others."""
    width = towers.embed_dim
    losses: dict[str, nn.Module] = metric_losses(loss, distributed=distributed)
    losses |= image_losses(loss, width, distributed=distributed)
    losses |= caption_losses(loss, distributed=distributed)
    if isinstance(loss, PrototypeTerm) and loss.prototype:
        losses["prototype"] = PrototypeMemoryLoss(
            width,
            num_identities,
            momentum=loss.momentum,
            temperature=loss.temperature,
            distributed=distributed,
        )

    chosen = {name: module for name, module in losses.items() if name in terms}
    return _at_several_widths(chosen, loss, width)


def metric_losses(loss: AnyLoss, *, distributed: bool) -> dict[str, nn.Module]:
    """The triplet and SupCon losses, one for each term that is made of them."""
    losses: dict[str, nn.Module] = {}
    for name in ("triplet", "triplet_text"):
        losses[name] = TripletLoss(
            None if loss.soft_margin else loss.margin,
            mining=loss.mining,
            distance=loss.distance,
            distributed=distributed,
        )
    for name in ("supcon", "supcon_image", "supcon_text"):
        losses[name] = SupConLoss(loss.temperature, distributed=distributed)
    return losses


def image_losses(loss: AnyLoss, width: int, *, distributed: bool) -> dict[str, nn.Module]:
    """The losses of images: against texts of identities, their own views, and by rank."""
    losses: dict[str, nn.Module] = {}
    if isinstance(loss, Smoothing):
        losses["image_to_text"] = ImageToTextCELoss(
            1.0,
            normalize=False,
            label_smoothing=loss.label_smoothing,
            distributed=distributed,
        )

    if isinstance(loss, ViewTerm) and loss.self_supervision:
        losses["self_supervision"] = SelfSupervisionLoss(
            width,
            hidden_dim=loss.self_hidden_dim,
            out_dim=loss.self_dim,
            temperature=loss.self_temperature,
            distributed=distributed,
        )

    if isinstance(loss, RankTerms):
        temperature = loss.rank_temperature
        losses["recall_surrogate"] = RecallSurrogateLoss(
            loss.recall_ks, temperature, distributed=distributed
        )
        losses["smooth_ap"] = SmoothAPLoss(temperature, distributed=distributed)
    return losses


def caption_losses(loss: AnyLoss, *, distributed: bool) -> dict[str, nn.Module]:
    """The losses of images and their captions."""
    losses: dict[str, nn.Module] = {}
    if isinstance(loss, PairTerms):
        losses |= pair_losses(loss, distributed=distributed)

    if isinstance(loss, CaptionTerms):
        losses["info_nce"] = InfoNCELoss(
            learnable=loss.learn_temperature,
            label_smoothing=loss.label_smoothing,
            focal_gamma=loss.focal_gamma,
            focal_alpha=loss.focal_alpha,
            temperature=loss.temperature,
            distributed=distributed,
        )

    if isinstance(loss, HardCaptionTerms):
        losses["hard_negative"] = HardNegativeContrastiveLoss(
            margin=loss.negative_margin,
            num_hard=loss.num_hard,
            temperature=loss.temperature,
            distributed=distributed,
        )
    return losses


def _at_several_widths(
    losses: dict[str, nn.Module], loss: AnyLoss, full: int
) -> dict[str, nn.Module]:
    """The losses, summed over the widths of the recipe where they have no width of their own."""
    widths = loss.matryoshka if isinstance(loss, NestedWidths) else []
    if not widths:
        return losses

    if max(widths) > full:
        raise ValueError(
            f"loss.matryoshka: the embeddings of this model have a width of {full}; name that and "
            f"smaller widths, not {max(widths)}."
        )
    return {
        name: MatryoshkaLoss(module, widths) if name in NESTED_TERMS else module
        for name, module in losses.items()
    }


def pair_losses(
    loss: PairTerms, *, distributed: bool, reduction: Literal["mean", "none"] = "mean"
) -> dict[str, nn.Module]:
    """The losses that match images and captions, for a batch or for each pair of it."""
    options: dict[str, Any] = {"distributed": distributed, "reduction": reduction}
    return {
        "sdm": SDMLoss(loss.sdm_temperature, **options),
        "triplet_alignment": TripletAlignmentLoss(
            loss.alignment_margin, loss.alignment_temperature, **options
        ),
        "cmpm": CMPMLoss(**options),
    }


def chance_losses(
    loss: Terms,
    batch: Batch,
    num_identities: int,
    *,
    ranks: int,
    levels: int = 1,
    views: int = 1,
    even: bool = True,
) -> dict[str, float]:
    """Weighted terms where all embeddings are equal.

    Args:
        loss: Weights of the terms.
        batch: Size of a batch.
        num_identities: Training identities.
        ranks: Processes.
        levels: Classifiers.
        views: Augmented views of each image.
        even: Whether batches have one size, of rows that weigh the same; otherwise terms on
            captions have no such value.
    """
    size = ranks * batch.num_identities * batch.num_instances * views
    values = chance_level_losses(size, num_identities)
    values["id"] *= levels
    if isinstance(loss, NestedWidths) and loss.matryoshka:
        values |= {
            name: len(loss.matryoshka) * value
            for name, value in values.items()
            if name in NESTED_TERMS
        }

    known: tuple[Literal["id", "supcon_image", "supcon_text", "info_nce"], ...]
    known = ("id", "supcon_image", "supcon_text", "info_nce") if even else ("id", "supcon_image")
    return {name: weight * values[name] for name, weight in loss.weights().items() if name in known}
