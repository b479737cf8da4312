"""The plain method: towers, a neck and a classifier, and any sum of losses on images and their texts."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import Literal, NamedTuple

from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_choice,
    check_fraction,
    check_integer,
    check_labels,
    describe,
    fail,
)
from clipreid_kit.clip.methods.identity_head import (
    Head,
    IdentityClassifier,
    check_identities,
    check_smoothing,
    check_terms,
    chosen,
    smoothed_cross_entropy,
)
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.tuning.freezing import freeze, unfreeze_last_blocks
from clipreid_kit.distances import l2_normalize
from clipreid_kit.losses import (
    CenterLoss,
    HardNegativeContrastiveLoss,
    InfoNCELoss,
    PrototypeMemoryLoss,
    SupConLoss,
    TripletLoss,
    WeightedSum,
)
from clipreid_kit.losses.weighted_sum import Weight
from clipreid_kit.modules import BNNeck

_OWNER = "ClipBaseline"
CLASS_TERMS = ("id", "center", "prototype")
TEXT_TERMS = ("supcon_text", "info_nce", "hard_negative", "triplet_text")
TERMS = (*CLASS_TERMS, "triplet", "supcon_image", *TEXT_TERMS)
BASELINE_WEIGHTS: Mapping[str, Weight] = MappingProxyType({"id": 1.0, "triplet": 1.0})


class ClipBaselineOutput(NamedTuple):
    """What :class:`ClipBaseline` gives.

    Attributes:
        embedding: Descriptor for retrieval (N, D'), of length 1.
        features: Image embeddings as the tower gives them (N, D).
        text_embeddings: Of the tokens (N, D); ``None`` where no term looks at texts.
        logits: Of the identities (N, C); ``None`` where the term ``"id"`` is not computed.
        loss: The weighted sum; ``None`` without labels.
        terms: By name what each term adds to the loss, without gradient, for the log; empty without labels.
    """

    embedding: Tensor
    features: Tensor
    text_embeddings: Tensor | None
    logits: Tensor | None
    loss: Tensor | None
    terms: dict[str, Tensor]


class ClipBaseline(nn.Module):
    r"""Towers with a neck, a classifier and any sum of losses; holds these, and the losses.

    Two things in one. With its default weights it is the strong baseline of ReID on a CLIP image tower, which every
    other method has to beat. With terms on texts it trains both towers together, on images and their captions. With
    labels a forward pass gives the loss, without them the descriptor::

        model = ClipBaseline(towers, num_identities=751)
        model(images, labels).loss.backward()
        model.eval()(images).embedding

        model = ClipBaseline(towers, weights={"supcon_image": 1.0, "supcon_text": 1.0})
        model(images, labels, tokens=towers.tokenize(captions)).loss.backward()

    .. math::
        L = w_{id} \operatorname{CE}_\epsilon\big(h(\operatorname{BN}(f)), y\big) + \sum_k w_k L_k(f, t, y)

    with :math:`f` the image embeddings, :math:`t` those of the captions and :math:`h` the classifier. The terms:

    ``"id"``, ``"triplet"``, ``"center"``, ``"prototype"``, ``"supcon_image"``
        Cross-entropy of the classifier, after neck and dropout; and the losses of these names, before the neck.
    ``"supcon_text"``, ``"triplet_text"``
        SupCon and triplets between images and captions, the mean of both directions. All captions of an identity are
        right for all of its images: for PK batches.
    ``"info_nce"``, ``"hard_negative"``
        Image i belongs to caption i: for distinct identities; the latter with a hinge, and siblings left out.

    Only what has a weight is built and computed: without a term on texts no text is encoded.

    Args:
        towers: The model.
        num_identities: Training identities C, labelled from 0; ``None`` where no term is of classes (``"id"``,
            ``"center"``, ``"prototype"``), and labels may be any integers.
        weights: Weight of each term in use: numbers, or callables of ``step``. Those of the strong baseline.
        head: Makes a classifier from (width, C): :class:`IdentityClassifier`, or a head with a margin such as
            ``ArcFaceHead`` or ``functools.partial(ArcFaceHead, margin=0.3)``, whose logits are then the identity loss.
        use_neck: Whether a BNNeck stands before the classifier; there is none without the term ``"id"``.
        reduced_dim: Width of a linear layer in that neck, before its BatchNorm; ``None`` for no layer.
        dropout: Before the classifier, in [0, 1).
        label_smoothing: Of the classifier, in [0, 1); 0 is usual with margins.
        image_blocks: Last blocks of the image tower to train, or ``"all"``; the rest is frozen. ``None`` leaves
            ``requires_grad`` as it is.
        text_blocks: The same of the text tower, without its temperature, which the losses have of their own. Without a
            term on texts the text tower is frozen whatever is given here.
        descriptor: ``"pre_neck"`` or ``"post_neck"``: features before or after the neck (then reduced).
        triplet: Of ``"triplet"`` and ``"triplet_text"``; ``None`` for ``TripletLoss(margin=0.3)``.
        center: ``None`` for ``CenterLoss(D, C)``.
        prototype: ``None`` for ``PrototypeMemoryLoss(D, C)``.
        supcon: Of ``"supcon_image"`` and ``"supcon_text"``; ``None`` for ``SupConLoss()``.
        info_nce: ``None`` for ``InfoNCELoss()``.
        hard_negative: ``None`` for ``HardNegativeContrastiveLoss()``.
        distributed: Gather rows of all ranks in the losses made here; those given have their own switch.

    Raises:
        ValueError: If a term is unknown, a loss has no weight, a term of classes has no number of them, or an option is
            out of its range; in ``forward``, if tokens are missing or a label (on the CPU) is out of range.

    Example:
        >>> import torch
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32))
        >>> model = ClipBaseline(towers, weights={"supcon_image": 1.0, "supcon_text": 0.5})
        >>> tokens = towers.tokenize(["a red coat", "a red coat", "a blue cup", "a cup"])
        >>> output = model(torch.randn(4, 3, 64, 32), torch.tensor([0, 0, 3, 3]), tokens=tokens)
        >>> sorted(output.terms), output.embedding.shape, output.text_embeddings.shape
        (['supcon_image', 'supcon_text'], torch.Size([4, 128]), torch.Size([4, 128]))

    Relations:
        The loss on identities never seen is ``model(images, labels, tokens=tokens, terms=model.open_set_terms).loss``.

    References:
        Luo et al., Bag of Tricks and A Strong Baseline for Deep Person Re-Identification, CVPRW 2019. Radford et al.,
        Learning Transferable Visual Models From Natural Language Supervision, ICML 2021.
    """

    def __init__(
        self,
        towers: ClipTowers,
        num_identities: int | None = None,
        *,
        weights: Mapping[str, Weight] = BASELINE_WEIGHTS,
        head: Head = IdentityClassifier,
        use_neck: bool = True,
        reduced_dim: int | None = None,
        dropout: float = 0.0,
        label_smoothing: float = 0.1,
        image_blocks: int | Literal["all"] | None = "all",
        text_blocks: int | Literal["all"] | None = "all",
        descriptor: Literal["pre_neck", "post_neck"] = "pre_neck",
        triplet: nn.Module | None = None,
        center: nn.Module | None = None,
        prototype: nn.Module | None = None,
        supcon: nn.Module | None = None,
        info_nce: nn.Module | None = None,
        hard_negative: nn.Module | None = None,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_terms(_OWNER, weights, TERMS)
        check_smoothing(_OWNER, label_smoothing)
        check_fraction(_OWNER, "dropout", dropout)
        check_choice(_OWNER, "descriptor", descriptor, ("pre_neck", "post_neck"))
        classes = [name for name in CLASS_TERMS if name in weights]
        if num_identities is not None:
            check_integer(_OWNER, "num_identities", num_identities, 1)
        elif classes:
            raise fail(_OWNER, f"num_identities for {', '.join(classes)}", "None")
        necked = use_neck and "id" in weights
        if not necked and (reduced_dim is not None or descriptor == "post_neck"):
            got = "use_neck=False" if not use_neck else "no such term"
            raise fail(
                _OWNER,
                'a neck, and so the term "id", for reduced_dim and for descriptor="post_neck"',
                got,
            )
        if image_blocks is not None:
            unfreeze_last_blocks(towers, image_blocks)
        if not any(name in weights for name in TEXT_TERMS):
            freeze(towers, "text")
        elif text_blocks is not None:
            unfreeze_last_blocks(towers, text_blocks, tower="text")
            for name, parameter in towers.named_parameters():
                if name.endswith(
                    ("logit_scale", "logit_bias")
                ):  # of no loss here: DDP would wait for their gradient
                    parameter.requires_grad = False
        dim, count = towers.embed_dim, num_identities or 0
        width = dim if reduced_dim is None else reduced_dim
        self.towers = towers
        self.num_identities = num_identities
        self.label_smoothing = label_smoothing
        self.descriptor = descriptor
        self.distributed = distributed
        self.total = WeightedSum(weights)
        self.neck = BNNeck(dim, reduced_dim) if necked else None
        self.dropout = nn.Dropout(dropout)
        self.classifier = head(width, count) if "id" in weights else None

        def made(
            name: str, given: nn.Module | None, kind: Callable[..., nn.Module], *terms: str
        ) -> nn.Module | None:
            return chosen(
                _OWNER, name, weights, given, partial(kind, distributed=distributed), terms=terms
            )

        self.triplet = made("triplet", triplet, TripletLoss, "triplet", "triplet_text")
        self.center = made("center", center, partial(CenterLoss, dim, count))
        self.supcon = made("supcon", supcon, SupConLoss, "supcon_image", "supcon_text")
        self.info_nce = made("info_nce", info_nce, InfoNCELoss)
        self.hard_negative = made("hard_negative", hard_negative, HardNegativeContrastiveLoss)
        self.prototype = made("prototype", prototype, partial(PrototypeMemoryLoss, dim, count))

    @property
    def open_set_terms(self) -> tuple[str, ...]:
        """Weighted terms that have a value for identities never seen, too: all but those of classes."""
        return tuple(name for name in self.total.weights if name not in CLASS_TERMS)

    def forward(
        self,
        images: Float[Tensor, "n 3 h w"],
        labels: Integer[Tensor, " n"] | None = None,
        *,
        tokens: Integer[Tensor, "n l"] | None = None,
        cameras: Integer[Tensor, " n"] | None = None,
        views: Integer[Tensor, " n"] | None = None,
        terms: Collection[str] | None = None,
        step: int | None = None,
    ) -> ClipBaselineOutput:
        """Descriptor, and with labels the losses.

        Args:
            images: As ``towers.encode_image`` takes them.
            labels: Identities. They decide the losses only, and nothing of the descriptor.
            tokens: A caption for each image, as ``towers.tokenize`` gives them; needed for terms on texts.
            cameras: For towers with a camera embedding.
            views: For towers with a view embedding.
            terms: Terms to compute, of those with a weight; ``None`` for all of them.
            step: For weights that depend on it.

        Returns:
            Features, and with labels logits, the loss and its terms.

        Raises:
            ValueError: If shapes disagree, tokens are missing, a label is out of range, or a weight needs a step.
        """
        asked = self._asked(labels, tokens, images.shape[0], terms)
        features = self.towers.encode_image(images, cameras=cameras, views=views)
        after = features
        if self.neck is not None and (self.descriptor == "post_neck" or "id" in asked):
            after = self.neck(features).after
        embedding = l2_normalize(after if self.descriptor == "post_neck" else features)
        if labels is None:
            return ClipBaselineOutput(embedding, features, None, None, None, {})
        labels = labels.to(features.device)
        values: dict[str, Tensor] = {}
        logits = texts = None
        if self.classifier is not None and "id" in asked:
            logits = self.classifier(self.dropout(after), labels)
            values["id"] = smoothed_cross_entropy(
                logits, labels, self.label_smoothing, distributed=self.distributed
            )
        for name, loss in (("triplet", self.triplet), ("supcon_image", self.supcon)):
            if loss is not None and name in asked:
                values[name] = loss(features, labels)
        if tokens is not None and any(name in asked for name in TEXT_TERMS):
            texts = self.towers.encode_text(tokens)
            values |= self._text_terms(asked, features, texts, labels)
        for name, loss in (("center", self.center), ("prototype", self.prototype)):
            if loss is not None and name in asked:
                values[name] = loss(features, labels)
        every = self.total.weights
        total = (
            self.total
            if len(asked) == len(every)
            else WeightedSum({name: every[name] for name in asked})
        )
        loss, parts = total(values, step=step)
        return ClipBaselineOutput(embedding, features, texts, logits, loss, parts)

    def _asked(
        self, labels: Tensor | None, tokens: Tensor | None, rows: int, terms: Collection[str] | None
    ) -> tuple[str, ...]:
        """The terms to compute, in the order of their weights."""
        known = tuple(self.total.weights)
        if terms is not None:
            unknown = [name for name in terms if name not in known]
            if unknown or not terms or labels is None:
                got = "no labels" if labels is None else repr(unknown[0]) if unknown else "none"
                raise fail(_OWNER, f"terms of {', '.join(known)}, with labels", got)
        if labels is None:
            return ()
        asked = tuple(name for name in known if terms is None or name in terms)
        if self.num_identities is not None and any(name in asked for name in CLASS_TERMS):
            check_identities(_OWNER, labels, rows, self.num_identities)
        check_labels(_OWNER, "labels", labels, rows)
        on_texts = [name for name in asked if name in TEXT_TERMS]
        if on_texts and (tokens is None or tokens.ndim != 2 or tokens.shape[0] != rows):
            got = "none" if tokens is None else describe(tokens)
            raise fail(_OWNER, f"tokens of {rows} captions for {', '.join(on_texts)}", got)
        return asked

    def _text_terms(
        self, asked: tuple[str, ...], images: Tensor, texts: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for name, loss in (("supcon_text", self.supcon), ("triplet_text", self.triplet)):
            if loss is not None and name in asked:
                values[name] = (
                    loss(images, labels, texts, labels) + loss(texts, labels, images, labels)
                ) / 2
        if self.hard_negative is not None and "hard_negative" in asked:
            values["hard_negative"] = self.hard_negative(images, texts, labels)
        if self.info_nce is not None and "info_nce" in asked:
            values["info_nce"] = self.info_nce(images, texts)
        return values
