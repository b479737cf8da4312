"""PromptSG: a pseudo word of each image, and a sentence with it that decides where the image is looked at."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, describe, fail
from clipreid_kit.clip.methods.identity_head import (
    Head,
    IdentityClassifier,
    check_identities,
    check_smoothing,
    check_terms,
    chosen,
    smoothed_cross_entropy,
)
from clipreid_kit.clip.prompts.composer import PromptComposer
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.tuning.freezing import freeze, freeze_projection, unfreeze_last_blocks
from clipreid_kit.distances import l2_normalize
from clipreid_kit.losses import SupConLoss, TripletLoss, WeightedSum
from clipreid_kit.losses.weighted_sum import Weight
from clipreid_kit.modules import BNNeck, MultiModalInteraction, TextualInversionMLP

_OWNER = "PromptSG"
TERMS = ("id", "triplet", "supcon")
PAPER_WEIGHTS: Mapping[str, Weight] = MappingProxyType({"id": 1.0, "triplet": 1.0, "supcon": 0.5})


class PromptSGOutput(NamedTuple):
    """What :class:`PromptSG` gives.

    Attributes:
        embedding: Descriptor for retrieval (N, D'), of length 1.
        representation: The interaction's representation (N, D).
        projected: The image embedding (N, D) that the pseudo word is made from.
        pseudo_tokens: The pseudo words (N, W); ``None`` with a simplified or given text.
        text_embeddings: The text that each image was looked at with (N, D).
        attention: How much each patch was looked at (N, T); rows sum to 1.
        logits: Of the identities; ``None`` without labels or without the term ``"id"``.
        loss: The weighted sum; ``None`` without labels.
        terms: By name what each term adds to the loss, without gradient, for the log; empty without labels.
    """

    embedding: Tensor
    representation: Tensor
    projected: Tensor
    pseudo_tokens: Tensor | None
    text_embeddings: Tensor
    attention: Tensor
    logits: Tensor | None
    loss: Tensor | None
    terms: dict[str, Tensor]


class PromptSG(nn.Module):
    r"""PromptSG in one stage; holds the towers, inversion network, composer, interaction, neck, classifier and losses.

    With labels a forward pass gives the loss, without them the descriptor::

        model = PromptSG(towers, num_identities=751)
        model(images, labels).loss.backward()
        model.eval()(images).embedding                                          # composed: a text for each image
        text = model.composer.encode_plain(towers)                              # simplified: one text for all,
        model(images, text=text).embedding                                      # computed once

    .. math::
        s_* = f_\theta(v), \quad l = \operatorname{Text}(\text{"A photo of a } s_* \text{ person"}), \quad
        r = \operatorname{Interaction}(l, X) \\
        L = L_{ID}(r) + L_{Triplet} + \lambda\, \big( L_{SupCon}(v, l) + L_{SupCon}(l, v) \big), \quad \lambda = 0.5

    with v the image embedding and X its patch tokens. What the paper leaves open are options:

    ``triplet_levels``
        The paper takes the final hidden state and those of the two layers before it, as CLIP-ReID does.
        ``"image"``: the representation, and the last two levels of the image tower; ``"interaction"``: the last three
        states inside the interaction module; ``"final"``: the representation alone.
    ``id_levels``
        The classifier is fed with the ``"representation"``, or with ``"both"`` it and the image embedding, each with a
        neck and classifier of its own.

    Args:
        towers: The model; the text tower is frozen, and gradient passes through it to the pseudo word. All of it is
            put into training mode, as this module is.
        num_identities: Training identities C, labelled from 0.
        composer: The sentence; ``None`` for ``PromptComposer(towers)``, a photo of a person.
        inversion: ``None`` for ``TextualInversionMLP(D, text width)``.
        interaction: ``None`` for ``MultiModalInteraction(D, 2)``, which needs D to be a multiple of 8.
        weights: Weight of each term in use, of ``"id"``, ``"triplet"``, ``"supcon"``: numbers, or callables of
            ``step``. ``None`` for the paper's, 1, 1 and 0.5, without SupCon for ``prompt="simplified"``.
        prompt: ``"composed"`` from each image, or ``"simplified"``: the sentence without a pseudo word, as the paper
            trains "without composing"; a composed model can be asked for either in ``forward``.
        head: Makes a classifier from (width, C): :class:`IdentityClassifier`, or a head with a margin.
        use_neck: Whether a BNNeck stands between representation and classifier.
        reduced_dim: Width of a linear layer in that neck, before its BatchNorm; ``None`` for no layer.
        label_smoothing: Of the classifier, in [0, 1).
        triplet_levels: ``"image"``, ``"interaction"`` or ``"final"``; see above.
        id_levels: ``"representation"`` or ``"both"``; see above.
        image_blocks: Last blocks of the image tower to train, or ``"all"``; the rest is frozen. ``None`` leaves
            ``requires_grad`` and the policy of running statistics as they are, but for what no term trains.
        descriptor: ``"pre_neck"`` or ``"post_neck"``: the representation before or after the neck.
        triplet: Loss of each level; ``None`` for ``TripletLoss(margin=0.3)``.
        supcon: ``None`` for ``SupConLoss(temperature=0.07)``; the printed formula has ``positives="sum"``.
        distributed: Gather rows of all ranks in the losses made here; those given have their own switch.

    Raises:
        ValueError: If a term is unknown, a loss has no weight, SupCon is asked for without composed prompts, or an
            option is out of its range; in ``forward``, if a label (on the CPU) is out of range.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32))
        >>> model = PromptSG(towers, num_identities=5)
        >>> output = model(torch.randn(4, 3, 64, 32), torch.tensor([0, 0, 3, 3]))
        >>> sorted(output.terms), output.embedding.shape
        (['id', 'supcon', 'triplet'], torch.Size([4, 128]))

    Note:
        What no term trains is frozen: the towers' projection under simplified prompts, a neck without a classifier.

    References:
        Yang et al., A Pedestrian is Worth One Prompt: Towards Language Guidance Person Re-Identification, CVPR 2024.
    """

    def __init__(
        self,
        towers: ClipTowers,
        num_identities: int,
        *,
        composer: PromptComposer | None = None,
        inversion: nn.Module | None = None,
        interaction: MultiModalInteraction | None = None,
        weights: Mapping[str, Weight] | None = None,
        prompt: Literal["composed", "simplified"] = "composed",
        head: Head = IdentityClassifier,
        use_neck: bool = True,
        reduced_dim: int | None = None,
        label_smoothing: float = 0.1,
        triplet_levels: Literal["image", "interaction", "final"] = "image",
        id_levels: Literal["representation", "both"] = "representation",
        image_blocks: int | Literal["all"] | None = "all",
        descriptor: Literal["pre_neck", "post_neck"] = "pre_neck",
        triplet: nn.Module | None = None,
        supcon: nn.Module | None = None,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_choice(_OWNER, "prompt", prompt, ("composed", "simplified"))
        check_choice(_OWNER, "triplet_levels", triplet_levels, ("image", "interaction", "final"))
        check_choice(_OWNER, "id_levels", id_levels, ("representation", "both"))
        check_choice(_OWNER, "descriptor", descriptor, ("pre_neck", "post_neck"))
        check_smoothing(_OWNER, label_smoothing)
        if weights is None:
            weights = {
                name: value
                for name, value in PAPER_WEIGHTS.items()
                if prompt == "composed" or name != "supcon"
            }
        check_terms(_OWNER, weights, TERMS)
        if prompt == "simplified" and ("supcon" in weights or inversion is not None):
            unused = "supcon" if "supcon" in weights else "inversion"
            raise fail(
                _OWNER,
                'prompt="composed" for SupCon and an inversion network',
                f"{unused} without it",
            )
        if not use_neck and (reduced_dim is not None or descriptor == "post_neck"):
            raise fail(
                _OWNER, 'a neck for reduced_dim and for descriptor="post_neck"', "use_neck=False"
            )
        freeze(towers, "text")
        if image_blocks is not None:
            unfreeze_last_blocks(towers, image_blocks)
        if prompt == "simplified" and (id_levels == "representation" or "id" not in weights):
            freeze_projection(towers)
        dim = towers.embed_dim
        self.towers = towers
        self.num_identities = num_identities
        self.prompt = prompt
        self.label_smoothing = label_smoothing
        self.triplet_levels = triplet_levels
        self.descriptor = descriptor
        self.distributed = distributed
        self.composer = PromptComposer(towers) if composer is None else composer
        if prompt == "composed" and inversion is None:
            inversion = TextualInversionMLP(dim, towers.text_width)
        self.inversion = inversion
        if interaction is None:
            interaction = MultiModalInteraction(dim, visual_dim=towers.width)
        self.interaction = interaction
        count = 2 if id_levels == "both" else 1
        width = dim if reduced_dim is None else reduced_dim
        self.necks = (
            nn.ModuleList(BNNeck(dim, reduced_dim) for _ in range(count)) if use_neck else None
        )
        self.classifiers = (
            nn.ModuleList(head(width, num_identities) for _ in range(count))
            if "id" in weights
            else None
        )
        self.total = WeightedSum(weights)
        self.triplet = chosen(
            _OWNER, "triplet", weights, triplet, partial(TripletLoss, distributed=distributed)
        )
        self.supcon = chosen(
            _OWNER, "supcon", weights, supcon, partial(SupConLoss, distributed=distributed)
        )
        if self.necks is not None and "id" not in weights:
            self.necks.requires_grad_(requires_grad=False)
        if weights.keys() == {"supcon"}:
            self.interaction.requires_grad_(requires_grad=False)
        self.train()  # the towers, too: whatever came before may have left them in evaluation mode

    def forward(
        self,
        images: Float[Tensor, "n 3 h w"],
        labels: Integer[Tensor, " n"] | None = None,
        *,
        cameras: Integer[Tensor, " n"] | None = None,
        views: Integer[Tensor, " n"] | None = None,
        variant: int | Int[Tensor, " n"] = 0,
        text: Float[Tensor, "m d"] | None = None,
        step: int | None = None,
    ) -> PromptSGOutput:
        """Descriptor, and with labels the losses.

        Args:
            images: As ``towers.encode_image`` takes them.
            labels: Identities. They decide the losses only, and nothing of the descriptor.
            cameras: For towers with a camera embedding.
            views: For towers with a view embedding.
            variant: Of the composer's sentence; one for all images, or one for each.
            text: Texts to look with, (1, D) for all images or (N, D): then nothing is composed.
            step: For weights that depend on it.

        Returns:
            Features, and with labels logits, the loss and its terms.

        Raises:
            ValueError: If shapes disagree, a label is out of range, a weight needs a step, or SupCon is to compare
                images with a text that is the same for all.
        """
        if labels is not None:
            check_identities(_OWNER, labels, images.shape[0], self.num_identities)
        training_levels = (
            labels is not None and self.triplet is not None and self.triplet_levels == "image"
        )
        names = ("projected", "patches", *(("previous", "unprojected") if training_levels else ()))
        levels = self.towers.encode_image_levels(images, names, cameras=cameras, views=views)
        projected, patches = levels.projected, levels.patches
        if projected is None or patches is None:
            raise fail(_OWNER, "towers with patch tokens", self.towers.name)
        contrasted = labels is not None and self.supcon is not None
        pseudo, text = self._text(projected, variant, text, contrasted=contrasted)
        seen = self.interaction(text, patches)
        representation, sides = seen.embedding, [seen.embedding, projected]
        after = sides
        if self.necks is not None and (labels is not None or self.descriptor == "post_neck"):
            outputs = [
                neck(side) for neck, side in zip(self.necks, sides[: len(self.necks)], strict=True)
            ]
            after = [output.after for output in outputs]
        embedding = l2_normalize(after[0] if self.descriptor == "post_neck" else representation)
        features = embedding, representation, projected, pseudo, text, seen.attention
        if labels is None:
            return PromptSGOutput(*features, None, None, {})
        labels = labels.to(projected.device)
        terms: dict[str, Tensor] = {}
        logits = None
        if self.classifiers is not None:
            all_logits = [
                head(side, labels)
                for head, side in zip(self.classifiers, after[: len(self.classifiers)], strict=True)
            ]
            logits = all_logits[0]
            parts = [
                smoothed_cross_entropy(
                    values, labels, self.label_smoothing, distributed=self.distributed
                )
                for values in all_logits
            ]
            terms["id"] = torch.stack(parts).sum()
        if self.triplet is not None:
            rows = {
                "final": [representation],
                "interaction": list(seen.states[-3:]),
                "image": [
                    level
                    for level in (levels.previous, levels.unprojected, representation)
                    if level is not None
                ],
            }
            terms["triplet"] = torch.stack(
                [self.triplet(row, labels) for row in rows[self.triplet_levels]]
            ).sum()
        if self.supcon is not None:
            terms["supcon"] = self.supcon(projected, labels, text, labels) + self.supcon(
                text, labels, projected, labels
            )
        loss, weighted = self.total(terms, step=step)
        return PromptSGOutput(*features, logits, loss, weighted)

    def _text(
        self, projected: Tensor, variant: int | Tensor, text: Tensor | None, *, contrasted: bool
    ) -> tuple[Tensor | None, Tensor]:
        """The pseudo words, and a text for each image."""
        rows, dim = projected.shape
        if text is not None:
            if text.ndim != 2 or text.shape[1] != dim or text.shape[0] not in (1, rows):
                raise fail(_OWNER, f"text (1, {dim}) or ({rows}, {dim})", describe(text))
            if contrasted and text.shape[0] != rows:
                raise fail(
                    _OWNER,
                    "a text for each image, for SupCon",
                    "one for all",
                    "Leave text out, or the labels.",
                )
            return None, text.to(projected).expand(rows, -1)
        if self.inversion is not None:
            pseudo: Tensor = self.inversion(projected)
            prompts = self.composer(self.towers, pseudo, variant)
            return pseudo, self.towers.encode_text_embeddings(*prompts)
        plain = self.composer.encode_plain(self.towers)
        if isinstance(variant, int):
            return None, plain[variant].expand(rows, -1)
        return None, plain.index_select(0, variant.to(plain.device).long())
