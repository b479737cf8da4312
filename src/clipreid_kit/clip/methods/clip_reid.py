"""CLIP-ReID, second stage: train the image tower against the texts of all identities."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_choice
from clipreid_kit._fixed_options import fixed_options
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
from clipreid_kit.clip.prompts.identity_texts import count_identities, texts_of_all, texts_of_rows
from clipreid_kit.clip.prompts.learner import IdentityPromptLearner
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
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

_OWNER = "ClipReID"

TERMS = ("id", "triplet", "image_to_text", "supcon", "arcface", "center")
PAPER_WEIGHTS: Mapping[str, Weight] = MappingProxyType(
    {"id": 0.25, "triplet": 1.0, "image_to_text": 1.0}
)


class ClipReIDOutput(NamedTuple):
    """Output of :class:`ClipReID`.

    Attributes:
        embedding: Descriptor for retrieval (N, W + D), L2-normalised; (N, D) for
            ``levels="projected"``.
        unprojected: Features before the projection (N, W), not normalised.
        projected: Features at the level that CLIP compares with text (N, D), not normalised.
        previous: Features of the second-to-last block (N, P); ``None`` without labels.
        logits: Logits of the identities, from the classifier of each level (N, C); ``None`` without
            labels or without the term ``"id"``.
        loss: Weighted sum of the terms; ``None`` without labels.
        terms: Contribution of each term to the loss, by name and without gradient, for logging;
            empty without labels.
    """

    embedding: Tensor
    unprojected: Tensor
    projected: Tensor
    previous: Tensor | None
    logits: tuple[Tensor, ...] | None
    loss: Tensor | None
    terms: dict[str, Tensor]


@fixed_options(not_kept=("weights", "image_blocks", "distributed"))
class ClipReID(nn.Module):
    r"""Second stage of CLIP-ReID: identity branches on two levels, and losses against texts.

    Use it after :class:`ClipReIDPromptStage`, or with texts from any other source. With labels a
    forward pass returns the loss, without them only the descriptor::

        model = ClipReID(towers, stage.prompts.encode_all(towers))
        model(images, labels).loss.backward()
        model.eval()(images).embedding

    .. math::
        L = w_{id} \sum_{k=1}^{2}
        \operatorname{CE}_\varepsilon\big(h_k(\operatorname{BN}_k(f_k)), y\big)
        + w_{tri} \sum_{k=0}^{2} \operatorname{Triplet}(f_k, y)
        + w_{i2t} \operatorname{CE}_\varepsilon\big(f_2\, T^T, y\big)

    where :math:`f_0` are the features of the second-to-last block, :math:`f_1` the unprojected and
    :math:`f_2` the projected ones, and :math:`T` are the texts of all C identities. The terms, with
    their default losses:

    ``"id"``
        Cross-entropy of the classifier on each level; see :class:`IdentityBranch`.
    ``"triplet"``
        ``TripletLoss(margin=0.3)`` on each of the three levels.
    ``"image_to_text"``
        ``ImageToTextCELoss(1.0, normalize=False)``: raw dot products with smoothed labels, as in
        the paper.
    ``"supcon"``
        ``SupConLoss()`` between images and the texts of the batch, by cosine, in both directions;
        not in the paper.
    ``"arcface"``, ``"center"``
        ``ArcFaceLoss(D, C)`` and ``CenterLoss(D, C)`` on the projected level, after the neck; not
        in the paper.

    Args:
        towers: The model. The text tower is frozen, and all of it is put into training mode, as
            this module is.
        text_embeddings: A text for each identity (C, D), from learned prompts or descriptions; kept
            as a buffer. An :class:`IdentityPromptLearner` instead continues to learn: its texts are
            encoded again for every batch, those of all identities for ``"image_to_text"``. ``None``
            trains without texts and the terms that compare with them: the paper's baseline has the
            weights ``{"id": 0.25, "triplet": 1.0}``.
        num_identities: Number of identities C, where there are no texts to count. ``None`` counts
            the texts.
        weights: Weight of each term in use: a number, or a callable from ``step`` to one. Defaults
            to the paper's for ViT towers, ``{"id": 0.25, "triplet": 1.0, "image_to_text": 1.0}``;
            for ResNet towers the paper has 1 throughout.
        losses: Loss module of each term that is not to use its default; every one needs a weight.
        identity: Builds the identity branch of a level, called as
            ``identity(width, C, distributed=distributed)``. Without a weight for ``"id"``, C is
            ``None`` and the branch is the neck alone.
        levels: ``"both"`` as in the paper, or ``"projected"``: identity branch, triplet loss and
            descriptor on the projected level alone.
        image_blocks: Number of last blocks of the image tower to train, or ``"all"``; the rest is
            frozen. ``None`` leaves ``requires_grad`` and the policy of running statistics as they
            are.
        descriptor: ``"pre_neck"`` (the paper) or ``"post_neck"``: features before or after the
            necks.
        distributed: Gather the rows of all ranks in the identity loss and the default losses.
            Losses that you pass have their own switch.

    Raises:
        ValueError: If a term is unknown or has no texts, a loss has no weight, the texts have
            another width than the towers, or an option is out of its range; in ``forward``, if a
            label (on the CPU) is out of range.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32))
        >>> model = ClipReID(towers, torch.randn(5, towers.embed_dim))
        >>> output = model(torch.randn(4, 3, 64, 32), torch.tensor([0, 0, 3, 3]))
        >>> sorted(output.terms), output.embedding.shape
        (['id', 'image_to_text', 'triplet'], torch.Size([4, 256]))

    Note:
        Parts that no term trains, such as a neck without a classifier, are frozen, because
        DistributedDataParallel requires a gradient for every trainable parameter. A checkpoint with
        other identities loads with ``load_weights(model, state, strict=False)``, which skips and
        reports classifiers and texts.

    References:
        Li, Sun and Li, CLIP-ReID, AAAI 2023, eq. 5 to 8.
    """

    text_embeddings: Tensor | None

    num_identities: Final[int]
    levels: Final[Literal["both", "projected"]]

    def __init__(
        self,
        towers: ClipTowers,
        text_embeddings: Float[Tensor, "c d"] | IdentityPromptLearner | None,
        *,
        num_identities: int | None = None,
        weights: Mapping[str, Weight] = PAPER_WEIGHTS,
        losses: Mapping[str, nn.Module] | None = None,
        identity: IdentityBranchFactory = IdentityBranch,
        levels: Literal["both", "projected"] = "both",
        image_blocks: int | Literal["all"] | None = "all",
        descriptor: Literal["pre_neck", "post_neck"] = "pre_neck",
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_towers(_OWNER, towers)
        check_choice(_OWNER, "levels", levels, ("both", "projected"))
        check_method_options(
            _OWNER, weights=weights, losses=losses, known_terms=TERMS, descriptor=descriptor
        )
        num_identities = count_identities(
            _OWNER, text_embeddings, num_identities, towers.embed_dim, weights
        )

        widths = (towers.width, towers.embed_dim) if levels == "both" else (towers.embed_dim,)
        num_classes = num_identities if "id" in weights else None
        branches = [identity(width, num_classes, distributed=distributed) for width in widths]
        check_neck(_OWNER, descriptor, branches)

        # nothing is frozen before all options have been checked
        freeze(towers, "text")
        if image_blocks is not None:
            unfreeze_last_blocks(towers, image_blocks)

        self.towers = towers
        self._keep_texts(text_embeddings)
        self.num_identities = num_identities
        self.levels = levels
        self.descriptor = descriptor
        self.weighted_sum = WeightedSum(weights)
        self.identity_branches = nn.ModuleList(branches)
        self.losses = build_losses(
            weights, losses, _default_losses(branches[-1].out_dim, num_identities, distributed)
        )

        self._freeze_unused_necks(weights)
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
        """Compute the descriptor, and with labels the losses.

        Args:
            images: Images as ``towers.encode_image`` takes them.
            labels: Identities, which are rows of the texts. They affect the losses only, never the
                descriptor.
            cameras: For towers with a camera embedding.
            views: For towers with a view embedding.
            step: Passed to weights that are callables.

        Returns:
            Features, and with labels the logits, the loss and its terms.

        Raises:
            ValueError: If shapes disagree, a label is out of range, or a weight needs a step.
        """
        if labels is not None:
            check_identity_labels(_OWNER, labels, images.shape[0], self.num_identities)

        previous, unprojected, projected = self._encode_levels(
            images, cameras, views, with_previous=labels is not None
        )
        features = [unprojected, projected] if self.levels == "both" else [projected]

        # Moved to the device of the towers; labels given on the CPU can be read there without a
        # wait.
        targets = None if labels is None else labels.to(projected.device)
        branches = self._run_identity_branches(features, targets)

        described = features
        if self.descriptor == "post_neck":
            described = [branch.post_neck for branch in branches]
        embedding = l2_normalize(torch.cat(described, dim=1))
        if labels is None or targets is None:
            return ClipReIDOutput(embedding, unprojected, projected, None, None, None, {})

        # The order of these steps fixes the order in which gradients are summed.
        values = self._image_terms(previous, features, branches, targets)
        values |= self._text_terms(projected, labels, targets, cameras)
        loss, contributions = self.weighted_sum(values, step=step)

        logits = tuple(branch.logits for branch in branches if branch.logits is not None)
        return ClipReIDOutput(
            embedding, unprojected, projected, previous, logits or None, loss, contributions
        )

    def adapt_state_dict(
        self, state: Mapping[str, Tensor], source_image_size: tuple[int, int] | None = None
    ) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Rename the tensors of a checkpoint of version 0.1; called by :func:`load_weights`."""
        del source_image_size  # the towers resize their own position tables
        return rename_from_0_1(state, self.losses.keys()), ()

    def method_card(self) -> dict[str, Any]:
        """Describe the method for :func:`build_method`, in JSON's types; checkpoints keep it."""
        options = {"levels": self.levels}
        return card_of("ClipReID", self.descriptor, self.identity_branches, {}, options)

    def _keep_texts(self, texts: Tensor | IdentityPromptLearner | None) -> None:
        """Keep fixed texts as a buffer, and learned ones as a module."""
        fixed = texts.detach().clone() if isinstance(texts, Tensor) else None
        self.register_buffer("text_embeddings", fixed)
        self.prompts = texts if isinstance(texts, IdentityPromptLearner) else None

    def _freeze_unused_necks(self, terms: Collection[str]) -> None:
        """Freeze the necks that no term reaches, as they have no gradient."""
        if "id" in terms:
            return

        num_used = 1 if "arcface" in terms or "center" in terms else 0
        for branch in self.identity_branches[: len(self.identity_branches) - num_used]:
            branch.requires_grad_(requires_grad=False)

    def _encode_levels(
        self, images: Tensor, cameras: Tensor | None, views: Tensor | None, *, with_previous: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Previous (only where the triplet loss uses them), unprojected and projected features."""
        names: tuple[Literal["previous", "unprojected", "projected"], ...]
        names = ("unprojected", "projected")
        if with_previous and "triplet" in self.losses and self.levels == "both":
            names = ("previous", *names)

        levels = self.towers.encode_image_levels(images, names, cameras=cameras, views=views)
        if levels.unprojected is None or levels.projected is None:
            raise ValueError(
                f"{_OWNER}: {self.towers.name} has no level before its projection; "
                "use other towers."
            )
        return levels.previous, levels.unprojected, levels.projected

    def _run_identity_branches(
        self, features: Sequence[Tensor], labels: Tensor | None
    ) -> list[IdentityBranchOutput]:
        """Output of the branch on each level; empty if neither losses nor descriptor need it."""
        if labels is None and self.descriptor == "pre_neck":
            return []

        pairs = zip(self.identity_branches, features, strict=True)
        return [branch(level, labels) for branch, level in pairs]

    def _image_terms(
        self,
        previous: Tensor | None,
        features: Sequence[Tensor],
        branches: Sequence[IdentityBranchOutput],
        labels: Tensor,
    ) -> dict[str, Tensor]:
        """Values of the terms that look at images alone."""
        values: dict[str, Tensor] = {}

        identity_losses = [branch.loss for branch in branches if branch.loss is not None]
        if identity_losses:
            values["id"] = torch.stack(identity_losses).sum()

        if "triplet" in self.losses:
            levels = features if previous is None else [previous, *features]
            triplets = [self.losses["triplet"](level, labels) for level in levels]
            values["triplet"] = torch.stack(triplets).sum()

        for name in ("arcface", "center"):
            if name in self.losses:
                values[name] = self.losses[name](branches[-1].post_neck, labels)

        return values

    def _text_terms(
        self, projected: Tensor, labels: Tensor, targets: Tensor, cameras: Tensor | None
    ) -> dict[str, Tensor]:
        """Values of the terms that compare images with texts; ``targets`` are on the device."""
        values: dict[str, Tensor] = {}
        texts = self.prompts if self.text_embeddings is None else self.text_embeddings
        if texts is None:
            return values

        all_texts = None
        if "image_to_text" in self.losses:
            all_texts = texts_of_all(self.towers, texts)
            values["image_to_text"] = self.losses["image_to_text"](projected, targets, all_texts)

        if "supcon" in self.losses:
            loss = self.losses["supcon"]
            rows = texts_of_rows(self.towers, texts, all_texts, labels, cameras, projected)
            image_to_text = loss(projected, targets, rows, targets)
            text_to_image = loss(rows, targets, projected, targets)
            values["supcon"] = image_to_text + text_to_image

        return values


def _default_losses(
    dim: int, num_identities: int, distributed: bool
) -> dict[str, Callable[[], nn.Module]]:
    """Builders of the default losses, in the order of their construction."""
    return {
        "triplet": partial(TripletLoss, distributed=distributed),
        "image_to_text": partial(ImageToTextCELoss, 1.0, normalize=False, distributed=distributed),
        "supcon": partial(SupConLoss, distributed=distributed),
        "arcface": partial(ArcFaceLoss, dim, num_identities, distributed=distributed),
        "center": partial(CenterLoss, dim, num_identities, distributed=distributed),
    }
