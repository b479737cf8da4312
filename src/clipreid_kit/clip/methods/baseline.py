"""Baseline method: towers, an identity branch, and any sum of losses on images and captions."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_integer, check_labels, describe, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.clip.methods._frame_pooling import known_class, pooling_card
from clipreid_kit.clip.methods._state_dict_0_1 import rename_from_0_1
from clipreid_kit.clip.methods._terms import (
    build_losses,
    card_of,
    check_identity_labels,
    check_method_options,
    check_neck,
)
from clipreid_kit.clip.methods.identity_branch import (
    IdentityBranch,
    IdentityBranchFactory,
    IdentityBranchOutput,
)
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
from clipreid_kit.clip.tuning.freezing import freeze, freeze_temperature, unfreeze_last_blocks
from clipreid_kit.distances import l2_normalize
from clipreid_kit.losses import (
    CenterLoss,
    CMPMLoss,
    HardNegativeContrastiveLoss,
    InfoNCELoss,
    PrototypeMemoryLoss,
    RecallSurrogateLoss,
    SDMLoss,
    SelfSupervisionLoss,
    SmoothAPLoss,
    SupConLoss,
    TripletAlignmentLoss,
    TripletLoss,
    WeightedSum,
)
from clipreid_kit.losses.weighted_sum import Weight

_OWNER = "ClipBaseline"

CLASS_TERMS = ("id", "id_text", "center", "prototype", "camera_prototype")
LABELLED_PAIR_TERMS = ("hard_negative", "sdm", "triplet_alignment", "cmpm")
TEXT_TERMS = ("id_text", "supcon_text", "triplet_text", *LABELLED_PAIR_TERMS, "info_nce")
RANK_TERMS = ("recall_surrogate", "smooth_ap")
IMAGE_TERMS = ("triplet", "supcon_image", *RANK_TERMS, "self_supervision")
TERMS = ("id", "center", "prototype", "camera_prototype", *IMAGE_TERMS, *TEXT_TERMS)

# The order in which the terms are computed fixes the order in which gradients are summed.
_ORDER = (
    "id",
    "triplet",
    "supcon_image",
    *RANK_TERMS,
    "supcon_text",
    "triplet_text",
    *LABELLED_PAIR_TERMS,
    "id_text",
    "info_nce",
    "center",
    "prototype",
    "camera_prototype",
    "self_supervision",
)

BASELINE_WEIGHTS: Mapping[str, Weight] = MappingProxyType({"id": 1.0, "triplet": 1.0})


class ClipBaselineOutput(NamedTuple):
    """Output of :class:`ClipBaseline`.

    Attributes:
        embedding: Descriptor for retrieval (N, D'), L2-normalised.
        features: Image embeddings of the tower (N, D), before the neck and not normalised.
        text_embeddings: Text embeddings of the tokens (N, D); ``None`` where no computed term
            compares with texts.
        logits: Logits of the identities (N, C); ``None`` where the term ``"id"`` is not computed.
        loss: Weighted sum of the terms; ``None`` without labels.
        terms: Contribution of each term to the loss, by name and without gradient, for logging;
            empty without labels.
    """

    embedding: Tensor
    features: Tensor
    text_embeddings: Tensor | None
    logits: Tensor | None
    loss: Tensor | None
    terms: dict[str, Tensor]


class _Batch(NamedTuple):
    """Arguments of the losses, on the device of the images.

    Attributes:
        images: Image embeddings (N, D).
        texts: Text embeddings (N, D); ``None`` where no computed term compares with texts.
        labels: Identities (N,).
        cameras: Cameras (N,), if given.
        image_ids: Numbers of the images (N,), if given.
        identity_loss: Value of the term ``"id"``; ``None`` where it is not computed.
    """

    images: Tensor
    texts: Tensor | None
    labels: Tensor
    cameras: Tensor | None
    image_ids: Tensor | None
    identity_loss: Tensor | None


@fixed_options(not_kept=("weights", "image_blocks", "text_blocks", "distributed"))
class ClipBaseline(nn.Module):
    r"""Baseline method: towers, an identity branch, and any sum of losses on images and captions.

    Use it in two ways. With its default weights it is the strong baseline of ReID on a CLIP image
    tower, which every other method has to beat. With terms on texts it trains both towers jointly,
    on images and their captions. With labels a forward pass returns the loss, without them only the
    descriptor::

        model = ClipBaseline(towers, num_identities=751)
        model(images, labels).loss.backward()
        model.eval()(images).embedding

        model = ClipBaseline(towers, weights={"supcon_image": 1.0, "supcon_text": 1.0})
        model(images, labels, tokens=towers.tokenize(captions)).loss.backward()

    With a ``pooling`` a batch may also be of tracklets (N, T, 3, H, W), with a label for each. Its
    frames are encoded, brought to length 1 and pooled, and the pooled embeddings take the place of
    :math:`f`::

        model = ClipBaseline(towers, 625, pooling=FrameAttention(towers.embed_dim))
        model(images.unflatten(0, (-1, 4)), labels).loss.backward()

    .. math::
        L = w_{id} \operatorname{CE}_\varepsilon\big(h(\operatorname{BN}(f)), y\big)
        + \sum_k w_k L_k(f, t, y)

    where :math:`f` are the image embeddings, :math:`t` those of the captions and :math:`h` is the
    classifier. The terms, with their default losses:

    ``"id"``
        Cross-entropy of the classifier, after neck and dropout; see :class:`IdentityBranch`.
    ``"triplet"``, ``"center"``, ``"prototype"``, ``"supcon_image"``
        ``TripletLoss(margin=0.3)``, ``CenterLoss(D, C)``, ``PrototypeMemoryLoss(D, C)`` and
        ``SupConLoss()`` on the image embeddings, before the neck.
    ``"camera_prototype"``
        The same with prototypes by camera, which needs ``cameras``. It has no default: pass a
        ``CameraPrototypeLoss(D, C, num_cameras)``.
    ``"recall_surrogate"``, ``"smooth_ap"``
        ``RecallSurrogateLoss()`` and ``SmoothAPLoss()`` on the same embeddings.
    ``"self_supervision"``
        ``SelfSupervisionLoss(D)`` on the same embeddings, of several views of each image; needs
        ``image_ids``.
    ``"supcon_text"``, ``"triplet_text"``
        ``SupConLoss()`` and ``TripletLoss(margin=0.3)`` between images and captions, the mean of
        both directions. Every caption of an identity is a positive of all its images, so use PK
        batches.
    ``"info_nce"``, ``"hard_negative"``
        ``InfoNCELoss()`` and ``HardNegativeContrastiveLoss()``: image i belongs to caption i, so
        use batches of distinct identities. The second has a hinge and leaves out siblings, which
        are rows of the same identity.
    ``"sdm"``, ``"triplet_alignment"``, ``"cmpm"``
        ``SDMLoss()``, ``TripletAlignmentLoss()`` and ``CMPMLoss()`` between images and captions.
        Every caption of an identity is a positive of all its images.
    ``"id_text"``
        Cross-entropy of the captions, by the same identity branch as the images: an identity loss
        that both modalities share. Needs a weight for ``"id"``.

    Only terms with a weight are built and computed: without a term on texts no text is encoded.

    Args:
        towers: The model.
        num_identities: Number of training identities C, labelled from 0. ``None`` is allowed where
            no term needs classes (``"id"``, ``"id_text"``, ``"center"``, ``"prototype"``,
            ``"camera_prototype"``); labels may then be any integers.
        weights: Weight of each term in use: a number, or a callable from ``step`` to one. Defaults
            to the strong baseline's, ``{"id": 1.0, "triplet": 1.0}``.
        losses: Loss module of each term that is not to use its default; every one needs a weight.
            The same module may serve two terms:
            ``{"supcon_image": supcon, "supcon_text": supcon}``.
        identity: Builds the identity branch, called as ``identity(D, C, distributed=distributed)``.
            Needs a weight for ``"id"``; without one there is no neck either.
        image_blocks: Number of last blocks of the image tower to train, or ``"all"``; the rest is
            frozen. ``None`` leaves ``requires_grad`` as it is.
        text_blocks: The same for the text tower, except its temperature: the losses have their own.
            Without a term on texts the text tower is frozen, whatever this argument says.
        descriptor: ``"pre_neck"`` or ``"post_neck"``: features before or after the neck (then
            reduced, if it has a reduction).
        distributed: Gather the rows of all ranks in the identity loss and the default losses.
            Losses that you pass have their own switch.
        pooling: Module that pools frames (N, T, D), with their mask, to (N, D), such as
            :class:`FrameMean`; the descriptor is then ``"pre_neck"``. ``None`` for images alone.

    Raises:
        ValueError: If a term is unknown, a loss has no weight, a term needs ``num_identities``, or
            an option is out of its range; in ``forward``, if tokens are missing or a label (on the
            CPU) is out of range.

    Example:
        >>> import torch
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32))
        >>> model = ClipBaseline(towers, weights={"supcon_image": 1.0, "supcon_text": 0.5})
        >>> tokens = towers.tokenize(["a red coat", "a red coat", "a blue cup", "a cup"])
        >>> output = model(torch.randn(4, 3, 64, 32), torch.tensor([0, 0, 3, 3]), tokens=tokens)
        >>> sorted(output.terms), output.embedding.shape, output.text_embeddings.shape
        (['supcon_image', 'supcon_text'], torch.Size([4, 128]), torch.Size([4, 128]))

    Relations:
        The loss on unseen identities is
        ``model(images, labels, tokens=tokens, terms=model.open_set_terms).loss``.

    References:
        Luo et al., Bag of Tricks and A Strong Baseline for Deep Person Re-Identification, CVPRW
        2019. Radford et al., Learning Transferable Visual Models From Natural Language Supervision,
        ICML 2021. Jiang and Ye, IRRA, CVPR 2023, section 3.4 (one classifier for both modalities).
    """

    num_identities: Final[int | None]

    def __init__(
        self,
        towers: ClipTowers,
        num_identities: int | None = None,
        *,
        weights: Mapping[str, Weight] = BASELINE_WEIGHTS,
        losses: Mapping[str, nn.Module] | None = None,
        identity: IdentityBranchFactory = IdentityBranch,
        image_blocks: int | Literal["all"] | None = "all",
        text_blocks: int | Literal["all"] | None = "all",
        descriptor: Literal["pre_neck", "post_neck"] = "pre_neck",
        distributed: bool = False,
        pooling: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_towers(_OWNER, towers)
        check_method_options(
            _OWNER, weights=weights, losses=losses, known_terms=TERMS, descriptor=descriptor
        )
        _check_num_identities(num_identities, weights)
        _check_identity(identity, weights)
        _check_pooling(pooling, descriptor)

        branch = None
        if "id" in weights:
            branch = identity(towers.embed_dim, num_identities, distributed=distributed)
        check_neck(_OWNER, descriptor, [branch])

        # nothing is frozen before all options have been checked
        _set_trainable_blocks(towers, image_blocks, text_blocks, weights)

        self.towers = towers
        self.num_identities = num_identities
        self.descriptor = descriptor
        self.weighted_sum = WeightedSum(weights)
        self.identity_branch = branch
        self.pooling = pooling
        self.losses = build_losses(
            weights, losses, _default_losses(towers.embed_dim, num_identities, distributed)
        )

    @property
    def open_set_terms(self) -> tuple[str, ...]:
        """Weighted terms that are also defined for unseen identities: all that need no classes."""
        return tuple(name for name in self.weighted_sum.weights if name not in CLASS_TERMS)

    def forward(
        self,
        images: Float[Tensor, "n 3 h w"] | Float[Tensor, "n t 3 h w"],
        labels: Integer[Tensor, " n"] | None = None,
        *,
        valid: Bool[Tensor, "n t"] | None = None,
        tokens: Integer[Tensor, "n l"] | None = None,
        cameras: Integer[Tensor, " n"] | None = None,
        views: Integer[Tensor, " n"] | None = None,
        image_ids: Integer[Tensor, " n"] | None = None,
        terms: Collection[str] | None = None,
        step: int | None = None,
    ) -> ClipBaselineOutput:
        """Compute the descriptor, and with labels the losses.

        Args:
            images: Images as ``towers.encode_image`` takes them; with a ``pooling`` also the frames
                of tracklets.
            labels: Identities. They affect the losses only, never the descriptor.
            valid: Which frames of tracklets are no padding; ``None`` means all.
            tokens: A caption for each image or tracklet, from ``towers.tokenize``; needed by terms
                on texts.
            cameras: For towers with a camera embedding, and for the term ``"camera_prototype"``.
            views: For towers with a view embedding.
            image_ids: Number of the image that each row is an augmented view of; required by
                ``"self_supervision"``.
            terms: Names of the terms to compute, of those with a weight; ``None`` computes all of
                them.
            step: Passed to weights that are callables.

        Returns:
            Features, and with labels the logits, the loss and its terms.

        Raises:
            ValueError: If shapes disagree, tokens are missing, a label is out of range, or a weight
                needs a step.
        """
        requested = self._requested_terms(labels, terms)
        if labels is not None:
            self._check_batch(labels, tokens, images.shape[0], requested)
            _check_cameras(cameras, requested)
            _check_image_ids(image_ids, images.shape[0], requested)

        tower_cameras = cameras
        if "camera_prototype" in self.losses and self.towers.camera_embedding is None:
            tower_cameras = None  # they are for the term, and these towers would refuse them

        features = self._encode(images, valid, tower_cameras, views)
        if labels is not None:
            labels = labels.to(features.device)

        identity = self._run_identity_branch(features, labels, requested)
        descriptor = identity.post_neck if self.descriptor == "post_neck" else features
        embedding = l2_normalize(descriptor)
        if labels is None:
            return ClipBaselineOutput(embedding, features, None, None, None, {})

        texts = None
        if tokens is not None and _needs_text(requested):
            texts = self.towers.encode_text(tokens)

        batch = _Batch(
            images=features,
            texts=texts,
            labels=labels,
            cameras=None if cameras is None else cameras.to(features.device),
            image_ids=None if image_ids is None else image_ids.to(features.device),
            identity_loss=identity.loss,
        )
        values = self._values_of_terms(requested, batch)
        loss, contributions = self._weighted_sum_of(requested)(values, step=step)
        return ClipBaselineOutput(embedding, features, texts, identity.logits, loss, contributions)

    def pool_frames(
        self, frames: Float[Tensor, "n t d"], valid: Bool[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "n d"]:
        """Pool embeddings of frames to descriptors of tracklets.

        Use it on embeddings that the method has returned for single images, such as
        ``Encoder.encode_images`` returns; :func:`pool_tracklets` takes it.

        Args:
            frames: Embeddings of frames of length 1.
            valid: Which frames are no padding; ``None`` means all.

        Returns:
            Descriptors (N, D), L2-normalised.

        Raises:
            ValueError: If the method has no pooling, or shapes disagree.
        """
        return l2_normalize(self._pooled(frames, valid))

    def adapt_state_dict(
        self, state: Mapping[str, Tensor], source_image_size: tuple[int, int] | None = None
    ) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Rename the tensors of a checkpoint of version 0.1; called by :func:`load_weights`."""
        del source_image_size  # the towers resize their own position tables
        return rename_from_0_1(state, self.losses.keys()), ()

    def method_card(self) -> dict[str, Any]:
        """Describe the method for :func:`build_method`, in JSON's types; checkpoints keep it."""
        pooling = pooling_card(self.pooling)
        parts = {"pooling": (self.pooling, known_class(self.pooling))}
        options = {} if pooling is None else {"pooling": pooling}
        return card_of("ClipBaseline", self.descriptor, [self.identity_branch], parts, options)

    def _encode(
        self,
        images: Tensor,
        valid: Tensor | None,
        cameras: Tensor | None,
        views: Tensor | None,
    ) -> Tensor:
        """Embed images, or the frames of tracklets, pooled."""
        if images.ndim != 5:
            if valid is not None:
                raise ValueError(f"{_OWNER}: valid belongs to tracklets (N, T, 3, H, W).")
            return self.towers.encode_image(images, cameras=cameras, views=views)

        num_tracklets, num_frames = images.shape[:2]
        if cameras is not None:
            cameras = cameras.repeat_interleave(num_frames)
        if views is not None:
            views = views.repeat_interleave(num_frames)

        frames = self.towers.encode_image(images.flatten(0, 1), cameras=cameras, views=views)
        frames = l2_normalize(frames).view(num_tracklets, num_frames, frames.shape[1])
        return self._pooled(frames, valid)

    def _pooled(self, frames: Tensor, valid: Tensor | None) -> Tensor:
        """Pool embeddings of frames."""
        if self.pooling is None:
            raise ValueError(
                f"{_OWNER}: tracklets need a pooling; pass pooling=FrameMean() when the method is "
                "built."
            )
        pooled: Tensor = self.pooling(frames, valid)
        return pooled

    def _requested_terms(
        self, labels: Tensor | None, terms: Collection[str] | None
    ) -> tuple[str, ...]:
        """Names of the terms to compute, in the order of their weights."""
        weighted = tuple(self.weighted_sum.weights)
        if terms is None:
            return () if labels is None else weighted

        if labels is None:
            raise ValueError(f"{_OWNER}: terms are computed from labels; pass labels, too.")
        for name in terms:
            if name not in weighted:
                raise ValueError(
                    f"{_OWNER}: unknown term {name!r}; this model has {', '.join(weighted)}."
                )
        if not terms:
            raise ValueError(f"{_OWNER}: terms is empty; pass None to compute all terms.")

        return tuple(name for name in weighted if name in terms)

    def _check_batch(
        self, labels: Tensor, tokens: Tensor | None, num_rows: int, requested: Sequence[str]
    ) -> None:
        """Raise ValueError if labels or tokens do not suit the batch and the requested terms."""
        if self.num_identities is not None and any(name in CLASS_TERMS for name in requested):
            check_identity_labels(_OWNER, labels, num_rows, self.num_identities)
        else:
            check_labels(_OWNER, "labels", labels, num_rows)

        text_terms = [name for name in requested if name in TEXT_TERMS]
        if not text_terms:
            return
        if tokens is None:
            raise ValueError(
                f"{_OWNER}: {text_terms[0]!r} compares images with captions; "
                "pass tokens=towers.tokenize(captions)."
            )
        if tokens.ndim != 2 or tokens.shape[0] != num_rows:
            raise fail(_OWNER, f"tokens of {num_rows} captions", describe(tokens))

    def _run_identity_branch(
        self, features: Tensor, labels: Tensor | None, requested: Sequence[str]
    ) -> IdentityBranchOutput:
        """Run the identity branch as far as the requested terms and the descriptor need it."""
        classifies = "id" in requested
        if self.identity_branch is None or not (classifies or self.descriptor == "post_neck"):
            return IdentityBranchOutput(features, features, None, None)

        output: IdentityBranchOutput = self.identity_branch(
            features, labels if classifies else None
        )
        return output

    def _values_of_terms(self, requested: Sequence[str], batch: _Batch) -> dict[str, Tensor]:
        """Values of the requested terms, before their weights."""
        values: dict[str, Tensor] = {}
        for name in _ORDER:
            if name not in requested:
                continue
            value = self._value_of_term(name, batch)
            if value is not None:
                values[name] = value
        return values

    def _value_of_term(self, name: str, batch: _Batch) -> Tensor | None:
        """Value of a term; ``None`` from an identity branch without a loss."""
        images, texts, labels = batch.images, batch.texts, batch.labels
        if name == "id":
            return batch.identity_loss
        if name == "id_text" and texts is not None:
            return self._run_identity_branch(texts, labels, ("id",)).loss

        loss = self.losses[name]
        value: Tensor
        if name in ("supcon_text", "triplet_text"):
            image_to_text = loss(images, labels, texts, labels)
            text_to_image = loss(texts, labels, images, labels)
            value = (image_to_text + text_to_image) / 2
        elif name in LABELLED_PAIR_TERMS:
            value = loss(images, texts, labels)
        elif name == "info_nce":
            value = loss(images, texts)
        elif name == "camera_prototype":
            value = loss(images, labels, batch.cameras)
        elif name == "self_supervision":
            value = loss(images, batch.image_ids)
        else:
            value = loss(images, labels)
        return value

    def _weighted_sum_of(self, requested: Sequence[str]) -> WeightedSum:
        """Weighted sum of the requested terms."""
        weights = self.weighted_sum.weights
        if len(requested) == len(weights):
            return self.weighted_sum
        return WeightedSum({name: weights[name] for name in requested})


def _check_num_identities(num_identities: int | None, weights: Collection[str]) -> None:
    """Raise ValueError if a weighted term needs classes and their number is missing or wrong."""
    if num_identities is not None:
        check_integer(_OWNER, "num_identities", num_identities, 1)
        return

    class_terms = [name for name in CLASS_TERMS if name in weights]
    if class_terms:
        raise ValueError(
            f"{_OWNER}: {', '.join(map(repr, class_terms))} needs the number of identities; "
            "pass num_identities."
        )


def _check_identity(identity: IdentityBranchFactory, weights: Collection[str]) -> None:
    """Raise ValueError if an identity branch is needed or given, and no image is classified."""
    if "id" in weights:
        return

    if "id_text" in weights:
        raise ValueError(
            f'{_OWNER}: "id_text" classifies captions as "id" classifies images; '
            'add a weight for "id", too.'
        )
    if identity is not IdentityBranch:
        raise ValueError(
            f'{_OWNER}: `identity` has no effect without a weight for "id"; add one to weights.'
        )


def _check_pooling(pooling: nn.Module | None, descriptor: str) -> None:
    """Raise ValueError if frames are pooled, and the descriptor is another than the pooled one."""
    if pooling is not None and descriptor == "post_neck":
        raise ValueError(
            f'{_OWNER}: frames are pooled before the neck, so that descriptor="post_neck" '
            "would compare frames with what is no frame; leave it out."
        )


def _check_cameras(cameras: Tensor | None, requested: Sequence[str]) -> None:
    """Raise ValueError if a requested term compares cameras, and there are none."""
    if "camera_prototype" in requested and cameras is None:
        raise ValueError(
            f"{_OWNER}: 'camera_prototype' compares within and across cameras; pass cameras."
        )


def _check_image_ids(image_ids: Tensor | None, num_rows: int, requested: Sequence[str]) -> None:
    """Raise ValueError if the numbers of the images are missing or do not suit the batch."""
    if "self_supervision" not in requested:
        return
    if image_ids is None:
        raise ValueError(
            f'{_OWNER}: "self_supervision" contrasts views of one image; pass image_ids, the '
            "number of the image that each row is a view of."
        )
    check_labels(_OWNER, "image_ids", image_ids, num_rows)


def _needs_text(terms: Collection[str]) -> bool:
    """Whether one of the terms compares images with texts."""
    return any(name in TEXT_TERMS for name in terms)


def _set_trainable_blocks(
    towers: ClipTowers,
    image_blocks: int | Literal["all"] | None,
    text_blocks: int | Literal["all"] | None,
    terms: Collection[str],
) -> None:
    """Choose what trains in both towers; the text tower trains only for terms on texts."""
    if image_blocks is not None:
        unfreeze_last_blocks(towers, image_blocks)

    if not _needs_text(terms):
        freeze(towers, "text")
        return

    if text_blocks is not None:
        unfreeze_last_blocks(towers, text_blocks, tower="text")
        freeze_temperature(towers)


def _default_losses(
    dim: int, num_identities: int | None, distributed: bool
) -> dict[str, Callable[[], nn.Module]]:
    """Builders of the default losses, in the order of their construction."""
    # None is replaced only where no weighted term needs classes, so that the value is never used.
    num_classes = num_identities or 0

    return {
        "triplet": partial(TripletLoss, distributed=distributed),
        "triplet_text": partial(TripletLoss, distributed=distributed),
        "center": partial(CenterLoss, dim, num_classes, distributed=distributed),
        "supcon_image": partial(SupConLoss, distributed=distributed),
        "recall_surrogate": partial(RecallSurrogateLoss, distributed=distributed),
        "smooth_ap": partial(SmoothAPLoss, distributed=distributed),
        "self_supervision": partial(SelfSupervisionLoss, dim, distributed=distributed),
        "supcon_text": partial(SupConLoss, distributed=distributed),
        "info_nce": partial(InfoNCELoss, distributed=distributed),
        "hard_negative": partial(HardNegativeContrastiveLoss, distributed=distributed),
        "sdm": partial(SDMLoss, distributed=distributed),
        "triplet_alignment": partial(TripletAlignmentLoss, distributed=distributed),
        "cmpm": partial(CMPMLoss, distributed=distributed),
        "prototype": partial(PrototypeMemoryLoss, dim, num_classes, distributed=distributed),
        "camera_prototype": _refuse_camera_prototype,
    }


def _refuse_camera_prototype() -> nn.Module:
    raise ValueError(
        f'{_OWNER}: "camera_prototype" needs the number of cameras; pass losses='
        '{"camera_prototype": CameraPrototypeLoss(dim, num_identities, num_cameras)}.'
    )
