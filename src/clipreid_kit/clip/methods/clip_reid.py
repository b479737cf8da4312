"""CLIP-ReID, second stage: the image tower is trained against the texts of all identities."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.clip.methods.identity_head import (
    Head,
    IdentityClassifier,
    check_identities,
    check_smoothing,
    check_terms,
    chosen,
    smoothed_cross_entropy,
)
from clipreid_kit.clip.prompts.identity_texts import count_identities, texts_of_all, texts_of_rows
from clipreid_kit.clip.prompts.learner import IdentityPromptLearner
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.tuning.freezing import freeze, unfreeze_last_blocks
from clipreid_kit.distances import l2_normalize
from clipreid_kit.losses import (
    ArcFaceLoss,
    CenterLoss,
    ImageToTextCELoss,
    SupConLoss,
    TripletLoss,
    WeightedSum,
)
from clipreid_kit.losses.weighted_sum import Weight
from clipreid_kit.modules import BNNeck

_OWNER = "ClipReID"
TERMS = ("id", "triplet", "image_to_text", "supcon", "arcface", "center")
PAPER_WEIGHTS: Mapping[str, Weight] = MappingProxyType(
    {"id": 0.25, "triplet": 1.0, "image_to_text": 1.0}
)


class ClipReIDOutput(NamedTuple):
    """What :class:`ClipReID` gives.

    Attributes:
        embedding: Descriptor for retrieval (N, W + D), of length 1; (N, D) for ``levels="projected"``.
        unprojected: Features before the projection (N, W), as the tower gives them.
        projected: Features at the level that CLIP compares with text (N, D).
        previous: Features of the block before the last (N, P); ``None`` without labels.
        logits: Of the identities, by the classifier on each level (N, C); ``None`` without labels.
        loss: The weighted sum; ``None`` without labels.
        terms: By name what each term adds to the loss, without gradient, for the log; empty without labels.
    """

    embedding: Tensor
    unprojected: Tensor
    projected: Tensor
    previous: Tensor | None
    logits: tuple[Tensor, ...] | None
    loss: Tensor | None
    terms: dict[str, Tensor]


class ClipReID(nn.Module):
    r"""Second stage of CLIP-ReID; holds the towers, a neck and a classifier on each of two levels, and the losses.

    With labels a forward pass gives the loss, without them the descriptor::

        model = ClipReID(towers, stage.prompts.encode_all(towers))
        model(images, labels).loss.backward()
        model.eval()(images).embedding

    .. math::
        L = w_{id} \sum_{k=1}^{2} \operatorname{CE}_\epsilon\big(h_k(\operatorname{BN}_k(f_k)), y\big)
        + w_{tri} \sum_{k=0}^{2} \operatorname{Triplet}(f_k, y)
        + w_{i2t} \operatorname{CE}_\epsilon\big(f_2\, T^T, y\big)

    with :math:`f_0` the previous block's, :math:`f_1` the unprojected and :math:`f_2` the projected features, and
    :math:`T` the texts of all C identities. Further terms, as the hands pipeline uses them, on the projected level:
    ``"supcon"`` (images against the texts of the batch, both directions, by cosine), ``"arcface"`` and ``"center"``
    (after the neck).

    Args:
        towers: The model; the text tower is frozen, and all of it is put into training mode, as this module is.
        text_embeddings: A text for each identity (C, D), of learned prompts or of descriptions; kept as a buffer. An
            :class:`IdentityPromptLearner` instead goes on learning: its texts are encoded again for every batch, those
            of all identities for ``"image_to_text"``. ``None`` without texts and the terms that compare with them: the
            paper's baseline, of ``{"id": 0.25, "triplet": 1.0}``.
        weights: Weight of each term in use, of ``"id"``, ``"triplet"``, ``"image_to_text"``, ``"supcon"``,
            ``"arcface"``, ``"center"``: numbers, or callables of ``step``. Those of the paper for ViT towers; it has 1
            throughout for ResNet towers.
        head: Makes a classifier from (width, C): :class:`IdentityClassifier`, or a head with a margin such as
            ``ArcFaceHead`` or ``functools.partial(ArcFaceHead, margin=0.3)``, whose logits are then the identity loss.
        label_smoothing: Of the classifiers, in [0, 1); 0.1 in the paper, 0 is usual with margins.
        image_blocks: Last blocks of the image tower to train, or ``"all"``; the rest is frozen. ``None`` leaves
            ``requires_grad`` and the policy of running statistics as they are.
        levels: ``"both"`` as in the paper, or ``"projected"``: neck, classifier, triplet loss and descriptor on the
            projected level alone, as in the hands pipeline.
        num_identities: C, where there are no texts to count; ``None`` else.
        descriptor: ``"pre_neck"`` (the paper) or ``"post_neck"``: features before or after the necks.
        triplet: Loss of each of three levels; ``None`` for ``TripletLoss(margin=0.3)``.
        image_to_text: ``None`` for the paper's: raw dot products with smoothed labels.
        supcon: ``None`` for ``SupConLoss()``.
        arcface: ``None`` for ``ArcFaceLoss(D, C)``.
        center: ``None`` for ``CenterLoss(D, C)``.
        distributed: Gather rows of all ranks in the losses made here; those given have their own switch.

    Raises:
        ValueError: If a term is unknown or has no texts, a loss has no weight, the texts have another width than the
            towers, or an option is out of its range; in ``forward``, if a label (on the CPU) is out of range.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32))
        >>> model = ClipReID(towers, torch.randn(5, towers.embed_dim))
        >>> output = model(torch.randn(4, 3, 64, 32), torch.tensor([0, 0, 3, 3]))
        >>> sorted(output.terms), output.embedding.shape
        (['id', 'image_to_text', 'triplet'], torch.Size([4, 256]))

    Note:
        What no term trains is frozen: a neck without a classifier, for one. DistributedDataParallel asks for it.
        A checkpoint with other identities loads by ``load_weights(model, state, strict=False)``: classifiers and texts
        are left as they are, and reported.

    References:
        Li, Sun and Li, CLIP-ReID, AAAI 2023, eq. 5 to 8.
    """

    text_embeddings: Tensor | None

    def __init__(
        self,
        towers: ClipTowers,
        text_embeddings: Float[Tensor, "c d"] | IdentityPromptLearner | None,
        *,
        weights: Mapping[str, Weight] = PAPER_WEIGHTS,
        head: Head = IdentityClassifier,
        label_smoothing: float = 0.1,
        image_blocks: int | Literal["all"] | None = "all",
        levels: Literal["both", "projected"] = "both",
        num_identities: int | None = None,
        descriptor: Literal["pre_neck", "post_neck"] = "pre_neck",
        triplet: nn.Module | None = None,
        image_to_text: nn.Module | None = None,
        supcon: nn.Module | None = None,
        arcface: nn.Module | None = None,
        center: nn.Module | None = None,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        identities = count_identities(
            _OWNER, text_embeddings, num_identities, towers.embed_dim, weights
        )
        check_terms(_OWNER, weights, TERMS)
        check_smoothing(_OWNER, label_smoothing)
        check_choice(_OWNER, "levels", levels, ("both", "projected"))
        check_choice(_OWNER, "descriptor", descriptor, ("pre_neck", "post_neck"))
        freeze(towers, "text")
        if image_blocks is not None:
            unfreeze_last_blocks(towers, image_blocks)
        widths = (towers.width, towers.embed_dim) if levels == "both" else (towers.embed_dim,)
        dim = widths[-1]
        self.towers = towers
        fixed = text_embeddings.detach().clone() if isinstance(text_embeddings, Tensor) else None
        self.register_buffer("text_embeddings", fixed)
        self.prompts = (
            text_embeddings if isinstance(text_embeddings, IdentityPromptLearner) else None
        )
        self.num_identities = identities
        self.levels = levels
        self.label_smoothing = label_smoothing
        self.descriptor = descriptor
        self.distributed = distributed
        self.necks = nn.ModuleList(BNNeck(width) for width in widths)
        self.classifiers = (
            nn.ModuleList(head(width, identities) for width in widths) if "id" in weights else None
        )
        self.total = WeightedSum(weights)
        raw = partial(
            ImageToTextCELoss,
            1.0,
            normalize=False,
            label_smoothing=label_smoothing,
            distributed=distributed,
        )
        self.triplet = chosen(
            _OWNER, "triplet", weights, triplet, partial(TripletLoss, distributed=distributed)
        )
        self.image_to_text = chosen(_OWNER, "image_to_text", weights, image_to_text, raw)
        self.supcon = chosen(
            _OWNER, "supcon", weights, supcon, partial(SupConLoss, distributed=distributed)
        )
        self.arcface = chosen(
            _OWNER,
            "arcface",
            weights,
            arcface,
            partial(ArcFaceLoss, dim, identities, distributed=distributed),
        )
        self.center = chosen(
            _OWNER,
            "center",
            weights,
            center,
            partial(CenterLoss, dim, identities, distributed=distributed),
        )
        if "id" not in weights:  # what no term reaches has no gradient, and a flag that says so
            used = 1 if {"arcface", "center"} & weights.keys() else 0
            self.necks[: len(widths) - used].requires_grad_(requires_grad=False)
        self.train()  # the towers, too: the first stage leaves them in evaluation mode

    def forward(
        self,
        images: Float[Tensor, "n 3 h w"],
        labels: Integer[Tensor, " n"] | None = None,
        *,
        cameras: Integer[Tensor, " n"] | None = None,
        views: Integer[Tensor, " n"] | None = None,
        step: int | None = None,
    ) -> ClipReIDOutput:
        """Descriptor, and with labels the losses.

        Args:
            images: As ``towers.encode_image`` takes them.
            labels: Identities, rows of the texts. They decide the losses only, and nothing of the descriptor.
            cameras: For towers with a camera embedding.
            views: For towers with a view embedding.
            step: For weights that depend on it.

        Returns:
            Features, and with labels logits, the loss and its terms.

        Raises:
            ValueError: If shapes disagree, a label is out of range, or a weight needs a step.
        """
        if labels is not None:
            check_identities(_OWNER, labels, images.shape[0], self.num_identities)
        names: tuple[Literal["previous", "unprojected", "projected"], ...] = (
            "unprojected",
            "projected",
        )
        if labels is not None and self.triplet is not None and self.levels == "both":
            names = ("previous", *names)
        levels = self.towers.encode_image_levels(images, names, cameras=cameras, views=views)
        unprojected, projected = levels.unprojected, levels.projected
        if unprojected is None or projected is None:
            raise fail(_OWNER, "towers with a level before the projection", self.towers.name)
        sides: list[Tensor] = [unprojected, projected] if self.levels == "both" else [projected]
        if labels is not None or self.descriptor == "post_neck":
            after = [neck(side).after for neck, side in zip(self.necks, sides, strict=True)]
            descriptor = torch.cat(after if self.descriptor == "post_neck" else sides, dim=1)
        else:
            after, descriptor = [], torch.cat(sides, dim=1)
        embedding = l2_normalize(descriptor)
        if labels is None:
            return ClipReIDOutput(embedding, unprojected, projected, None, None, None, {})
        terms, logits = self._terms(levels.previous, sides, after, labels.to(projected.device))
        terms |= self._text_terms(projected, labels, cameras)
        loss, parts = self.total(terms, step=step)
        return ClipReIDOutput(
            embedding, unprojected, projected, levels.previous, logits, loss, parts
        )

    def _terms(
        self, previous: Tensor | None, sides: list[Tensor], after: list[Tensor], labels: Tensor
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...] | None]:
        terms: dict[str, Tensor] = {}
        logits = None
        if self.classifiers is not None:
            logits = tuple(
                head(side, labels) for head, side in zip(self.classifiers, after, strict=True)
            )
            parts = [
                smoothed_cross_entropy(
                    values, labels, self.label_smoothing, distributed=self.distributed
                )
                for values in logits
            ]
            terms["id"] = torch.stack(parts).sum()
        if self.triplet is not None:
            levels = [side for side in (previous, *sides) if side is not None]
            terms["triplet"] = torch.stack([self.triplet(level, labels) for level in levels]).sum()
        if self.arcface is not None:
            terms["arcface"] = self.arcface(after[-1], labels)
        if self.center is not None:
            terms["center"] = self.center(after[-1], labels)
        return terms, logits

    def _text_terms(
        self, projected: Tensor, labels: Tensor, cameras: Tensor | None
    ) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        texts = self.prompts if self.text_embeddings is None else self.text_embeddings
        if texts is None:
            return terms
        everyone, own = None, labels.to(projected.device)
        if self.image_to_text is not None:
            everyone = texts_of_all(self.towers, texts)
            terms["image_to_text"] = self.image_to_text(projected, own, everyone)
        if self.supcon is not None:
            rows = texts_of_rows(self.towers, texts, everyone, labels, cameras, projected)
            terms["supcon"] = self.supcon(projected, own, rows, own) + self.supcon(
                rows, own, projected, own
            )
        return terms
