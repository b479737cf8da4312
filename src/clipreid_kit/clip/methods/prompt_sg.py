"""PromptSG: a pseudo word composed from each image guides where to look in that image."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_integer, describe, fail
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
from clipreid_kit.clip.prompts.composer import PromptComposer
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
from clipreid_kit.clip.tuning.freezing import freeze, freeze_projection, unfreeze_last_blocks
from clipreid_kit.distances import l2_normalize
from clipreid_kit.losses import SupConLoss, TripletLoss, WeightedSum
from clipreid_kit.losses.weighted_sum import Balance, Weight
from clipreid_kit.modules import MultiModalInteraction, TextualInversionMLP

_OWNER = "PromptSG"
TERMS = ("id", "triplet", "supcon")
PAPER_WEIGHTS: Mapping[str, Weight] = MappingProxyType({"id": 1.0, "triplet": 1.0, "supcon": 0.5})


class PromptSGOutput(NamedTuple):
    """Output of :class:`PromptSG`.

    Attributes:
        embedding: Descriptor for retrieval (N, D'), L2-normalised.
        representation: Representation of the interaction module (N, D), of length 1 with
            ``unit_representation``.
        projected: Image embedding that the pseudo word is made from (N, D), not normalised.
        pseudo_tokens: Pseudo words (N, W); ``None`` with a simplified prompt or a given text.
        text_embeddings: Text embedding that each image was attended with (N, D).
        attention: Attention of each patch (N, T); rows sum to 1.
        logits: Logits of the identities (N, C), from the representation; ``None`` without labels or
            without the term ``"id"``.
        loss: Weighted sum of the terms; ``None`` without labels.
        terms: Contribution of each term to the loss, by name and without gradient, for logging;
            empty without labels.
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


@fixed_options(not_kept=("weights", "balance", "image_blocks", "distributed"))
class PromptSG(nn.Module):
    r"""PromptSG in one stage: a text composed from each image guides the attention to its patches.

    Use it where identities are too many or too short-lived for a prompt each: the pseudo word is
    computed from the image. With labels a forward pass returns the loss, without them only the
    descriptor::

        model = PromptSG(towers, num_identities=751)
        model(images, labels).loss.backward()
        model.eval()(images).embedding           # composed: one text per image
        text = model.composer.encode_plain(towers)
        model(images, text=text).embedding       # simplified: one text for all, encoded once

    .. math::
        s_* = f_\theta(v), \quad
        l = \operatorname{Text}(\text{"A photo of a } s_* \text{ person"}), \quad
        r = \operatorname{Interaction}(l, X) \\
        L = L_{ID}(r) + L_{Triplet} + \lambda\, \big( L_{SupCon}(v, l) + L_{SupCon}(l, v) \big),
        \quad \lambda = 0.5

    where v is the image embedding and X are its patch tokens. The terms, with their default losses:

    ``"id"``
        Cross-entropy of the classifier; see :class:`IdentityBranch` and ``id_levels``.
    ``"triplet"``
        ``TripletLoss(margin=0.3)`` on each of ``triplet_levels``.
    ``"supcon"``
        ``SupConLoss(temperature=0.07)``; the printed formula is ``SupConLoss(positives="sum")``.

    Three options cover what the paper leaves open:

    ``triplet_levels``
        The paper takes the final hidden state and those of the two layers before it, as CLIP-ReID
        does. ``"image"``: the representation, and the last two levels of the image tower;
        ``"interaction"``: the last three states of the interaction module; ``"final"``: the
        representation alone.
    ``id_levels``
        ``"representation"``: the representation is classified; ``"both"``: the image embedding as
        well, by an identity branch of its own.
    ``unit_representation``
        Whether the representation is brought to length 1 before it is classified and compared.

    Args:
        towers: The model. The text tower is frozen, but gradient passes through it to the pseudo
            word. All of it is put into training mode, as this module is.
        num_identities: Number of training identities C, labelled from 0.
        weights: Weight of each term in use: a number, or a callable from ``step`` to one. ``None``
            uses the paper's, ``{"id": 1.0, "triplet": 1.0, "supcon": 0.5}``, without SupCon for
            ``prompt="simplified"``.
        losses: Loss module of each term that is not to use its default; every one needs a weight.
        identity: Builds an identity branch, called as ``identity(D, C, distributed=distributed)``.
            Without a weight for ``"id"``, C is ``None`` and the branch is the neck alone.
        composer: The sentence. Defaults to ``PromptComposer(towers)``, a photo of a person.
        inversion: The inversion network. Defaults to ``TextualInversionMLP(D, text width)``.
        interaction: The interaction module. Defaults to ``MultiModalInteraction(D, 2)``, which
            needs D to be a multiple of 8.
        prompt: ``"composed"`` from each image, or ``"simplified"``: the sentence without a pseudo
            word, as the paper trains "without composing". A composed model can use either in
            ``forward``.
        triplet_levels: ``"image"``, ``"interaction"`` or ``"final"``; see above.
        id_levels: ``"representation"`` or ``"both"``; see above.
        unit_representation: See above.
        balance: Automatic balance of the terms, as of :class:`WeightedSum`.
        image_blocks: Number of last blocks of the image tower to train, or ``"all"``; the rest is
            frozen. ``None`` leaves ``requires_grad`` and the policy of running statistics as they
            are, except for what no term trains.
        descriptor: ``"pre_neck"`` or ``"post_neck"``: the representation before or after the neck.
        distributed: Gather the rows of all ranks in the identity loss and the default losses.
            Losses that you pass have their own switch.

    Raises:
        ValueError: If a term is unknown, a loss has no weight, SupCon is used without composed
            prompts, or an option is out of its range; in ``forward``, if a label (on the CPU) is
            out of range.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32))
        >>> model = PromptSG(towers, num_identities=5)
        >>> output = model(torch.randn(4, 3, 64, 32), torch.tensor([0, 0, 3, 3]))
        >>> sorted(output.terms), output.embedding.shape
        (['id', 'supcon', 'triplet'], torch.Size([4, 128]))

    Note:
        Parts that no term trains are frozen, because DistributedDataParallel requires a gradient
        for every trainable parameter: the projection of the towers under simplified prompts, a neck
        without a classifier.

    References:
        Yang et al., A Pedestrian is Worth One Prompt: Towards Language Guidance Person
        Re-Identification, CVPR 2024.
    """

    num_identities: Final[int]
    prompt: Final[Literal["composed", "simplified"]]
    id_levels: Final[Literal["representation", "both"]]

    def __init__(
        self,
        towers: ClipTowers,
        num_identities: int,
        *,
        weights: Mapping[str, Weight] | None = None,
        losses: Mapping[str, nn.Module] | None = None,
        identity: IdentityBranchFactory = IdentityBranch,
        composer: PromptComposer | None = None,
        inversion: nn.Module | None = None,
        interaction: MultiModalInteraction | None = None,
        prompt: Literal["composed", "simplified"] = "composed",
        triplet_levels: Literal["image", "interaction", "final"] = "image",
        id_levels: Literal["representation", "both"] = "representation",
        unit_representation: bool = False,
        balance: Balance = "none",
        image_blocks: int | Literal["all"] | None = "all",
        descriptor: Literal["pre_neck", "post_neck"] = "pre_neck",
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_towers(_OWNER, towers)
        check_choice(_OWNER, "prompt", prompt, ("composed", "simplified"))
        check_choice(_OWNER, "triplet_levels", triplet_levels, ("image", "interaction", "final"))
        check_choice(_OWNER, "id_levels", id_levels, ("representation", "both"))
        check_integer(_OWNER, "num_identities", num_identities, 1)
        if weights is None:
            weights = _paper_weights(prompt)
        check_method_options(
            _OWNER, weights=weights, losses=losses, known_terms=TERMS, descriptor=descriptor
        )
        _check_prompt(prompt, weights, inversion)

        # Built in this order, which fixes the order of their random numbers.
        dim = towers.embed_dim
        if composer is None:
            composer = PromptComposer(towers)
        if inversion is None and prompt == "composed":
            inversion = TextualInversionMLP(dim, towers.text_width)
        if interaction is None:
            interaction = MultiModalInteraction(dim, visual_dim=towers.width)

        num_classes = num_identities if "id" in weights else None
        num_branches = 2 if id_levels == "both" else 1
        branches = [
            identity(dim, num_classes, distributed=distributed) for _ in range(num_branches)
        ]
        check_neck(_OWNER, descriptor, branches)

        # Nothing is frozen before all options have been checked.
        freeze(towers, "text")
        if image_blocks is not None:
            unfreeze_last_blocks(towers, image_blocks)

        self.towers = towers
        self.num_identities = num_identities
        self.prompt = prompt
        self.triplet_levels = triplet_levels
        self.id_levels = id_levels
        self.unit_representation = unit_representation
        self.descriptor = descriptor
        self.composer = composer
        self.inversion = inversion
        self.interaction = interaction
        self.identity_branches = nn.ModuleList(branches)
        self.weighted_sum = WeightedSum(weights, balance=balance, distributed=distributed)
        self.losses = build_losses(weights, losses, _default_losses(distributed))

        self._freeze_untrained(weights)
        self.train()  # the towers, too: they may have been left in evaluation mode

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
        """Compute the descriptor, and with labels the losses.

        Args:
            images: Images as ``towers.encode_image`` takes them.
            labels: Identities. They affect the losses only, never the descriptor.
            cameras: For towers with a camera embedding.
            views: For towers with a view embedding.
            variant: Variant of the composer's sentence: one for all images, or one for each.
            text: Text embeddings to attend with, (1, D) for all images or (N, D); no prompt is
                composed then.
            step: Passed to weights that are callables.

        Returns:
            Features, and with labels the logits, the loss and its terms.

        Raises:
            ValueError: If shapes disagree, a label is out of range, a weight needs a step, or
                SupCon would compare images with a text that is the same for all.
        """
        if labels is not None:
            check_identity_labels(_OWNER, labels, images.shape[0], self.num_identities)

        levels = self._encode_levels(images, cameras, views, with_losses=labels is not None)
        text, pseudo_tokens = self._text_embeddings(
            levels.projected, variant, text, contrasted=labels is not None
        )
        interaction = self.interaction(text, levels.patches)
        representation = interaction.embedding
        if self.unit_representation:
            representation = l2_normalize(representation)

        if labels is not None:
            labels = labels.to(representation.device)
        branches = self._run_identity_branches(representation, levels.projected, labels)

        described = branches[0].post_neck if self.descriptor == "post_neck" else representation
        output = PromptSGOutput(
            embedding=l2_normalize(described),
            representation=representation,
            projected=levels.projected,
            pseudo_tokens=pseudo_tokens,
            text_embeddings=text,
            attention=interaction.attention,
            logits=branches[0].logits if branches else None,
            loss=None,
            terms={},
        )
        if labels is None:
            return output

        states = (*interaction.states[:-1], representation)
        values = self._terms(levels, states, text, branches, labels)
        loss, contributions = self.weighted_sum(values, step=step)
        return output._replace(loss=loss, terms=contributions)

    def adapt_state_dict(
        self, state: Mapping[str, Tensor], source_image_size: tuple[int, int] | None = None
    ) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Rename the tensors of a checkpoint of version 0.1; called by :func:`load_weights`."""
        del source_image_size  # the towers resize their own position tables
        return rename_from_0_1(state, self.losses.keys()), ()

    def method_card(self) -> dict[str, Any]:
        """Describe the method for :func:`build_method`, in JSON's types; checkpoints keep it."""
        templates = self.composer.templates
        parts = {
            "composer": (self.composer, PromptComposer),
            "inversion": (self.inversion, TextualInversionMLP),
            "interaction": (self.interaction, MultiModalInteraction),
        }
        options = {
            "prompt": self.prompt,
            "id_levels": self.id_levels,
            "unit_representation": self.unit_representation,
            "composer": {"texts": list(templates.texts), "num_tokens": templates.num_tokens},
            "inversion": _inversion_card(self.inversion),
            "interaction": _interaction_card(self.interaction),
        }
        return card_of("PromptSG", self.descriptor, self.identity_branches, parts, options)

    def _freeze_untrained(self, terms: Collection[str]) -> None:
        """Freeze what no term trains, as it has no gradient."""
        projected_is_classified = len(self.identity_branches) == 2 and "id" in terms
        if self.prompt == "simplified" and not projected_is_classified:
            freeze_projection(self.towers)

        if "id" not in terms:
            self.identity_branches.requires_grad_(requires_grad=False)
        if set(terms) == {"supcon"}:
            self.interaction.requires_grad_(requires_grad=False)

    def _encode_levels(
        self, images: Tensor, cameras: Tensor | None, views: Tensor | None, *, with_losses: bool
    ) -> "_Levels":
        """Features of the levels in use; the earlier ones only where the triplet loss uses them."""
        names: tuple[Literal["projected", "patches", "previous", "unprojected"], ...]
        names = ("projected", "patches")
        if with_losses and "triplet" in self.losses and self.triplet_levels == "image":
            names = (*names, "previous", "unprojected")

        levels = self.towers.encode_image_levels(images, names, cameras=cameras, views=views)
        if levels.projected is None or levels.patches is None:
            raise ValueError(f"{_OWNER}: {self.towers.name} has no patch tokens; use other towers.")
        return _Levels(levels.projected, levels.patches, levels.previous, levels.unprojected)

    def _text_embeddings(
        self,
        projected: Tensor,
        variant: int | Tensor,
        text: Tensor | None,
        *,
        contrasted: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Text of each image (N, D), and the pseudo tokens that it was composed with."""
        if text is not None:
            self._check_text(text, projected, contrasted=contrasted)
            return text.to(projected).expand(projected.shape[0], -1), None

        if self.inversion is not None:
            pseudo_tokens: Tensor = self.inversion(projected)
            prompts = self.composer(self.towers, pseudo_tokens, variant)
            return self.towers.encode_text_embeddings(*prompts), pseudo_tokens

        plain = self.composer.encode_plain(self.towers)
        if isinstance(variant, int):
            return plain[variant].expand(projected.shape[0], -1), None
        return plain.index_select(0, variant.to(plain.device).long()), None

    def _check_text(self, text: Tensor, projected: Tensor, *, contrasted: bool) -> None:
        """Raise ValueError if a given text does not suit the batch."""
        num_rows, dim = projected.shape
        if text.ndim != 2 or text.shape[1] != dim or text.shape[0] not in (1, num_rows):
            raise fail(_OWNER, f"text (1, {dim}) or ({num_rows}, {dim})", describe(text))
        if contrasted and "supcon" in self.losses and text.shape[0] != num_rows:
            raise ValueError(
                f"{_OWNER}: SupCon compares each image with a text of its own, and text has one "
                "row for all; leave out the text, or the labels."
            )

    def _run_identity_branches(
        self, representation: Tensor, projected: Tensor, labels: Tensor | None
    ) -> list[IdentityBranchOutput]:
        """Output of each branch; none where neither losses nor the descriptor need them."""
        if labels is None and self.descriptor == "pre_neck":
            return []

        # There is a second branch only for id_levels="both".
        pairs = zip(self.identity_branches, (representation, projected), strict=False)
        return [branch(features, labels) for branch, features in pairs]

    def _terms(
        self,
        levels: "_Levels",
        states: Sequence[Tensor],
        text: Tensor,
        branches: Sequence[IdentityBranchOutput],
        labels: Tensor,
    ) -> dict[str, Tensor]:
        """Values of the terms; their order fixes the order in which gradients are summed."""
        values: dict[str, Tensor] = {}

        identity_losses = [branch.loss for branch in branches if branch.loss is not None]
        if identity_losses:
            values["id"] = torch.stack(identity_losses).sum()

        if "triplet" in self.losses:
            triplet = self.losses["triplet"]
            rows = self._triplet_features(levels, states)
            values["triplet"] = torch.stack([triplet(row, labels) for row in rows]).sum()

        if "supcon" in self.losses:
            supcon = self.losses["supcon"]
            image_to_text = supcon(levels.projected, labels, text, labels)
            text_to_image = supcon(text, labels, levels.projected, labels)
            values["supcon"] = image_to_text + text_to_image

        return values

    def _triplet_features(self, levels: "_Levels", states: Sequence[Tensor]) -> list[Tensor]:
        """Features of the levels that the triplet loss is computed on."""
        representation = states[-1]
        if self.triplet_levels == "final":
            return [representation]
        if self.triplet_levels == "interaction":
            return list(states[-3:])

        earlier = (levels.previous, levels.unprojected)
        return [*(level for level in earlier if level is not None), representation]


class _Levels(NamedTuple):
    """Features of an image tower (N, ...); the last two only where a loss uses them."""

    projected: Tensor
    patches: Tensor
    previous: Tensor | None
    unprojected: Tensor | None


def _paper_weights(prompt: str) -> dict[str, Weight]:
    """Weights of the paper, without SupCon where the prompt is the same for all images."""
    weights = dict(PAPER_WEIGHTS)
    if prompt == "simplified":
        del weights["supcon"]
    return weights


def _inversion_card(inversion: nn.Module | None) -> dict[str, Any] | None:
    """Arguments of the inversion network; ``None`` without one, or for one of another class."""
    if not isinstance(inversion, TextualInversionMLP):
        return None
    return {
        "in_dim": inversion.in_dim,
        "token_dim": inversion.token_dim,
        "variant": inversion.variant,
        "hidden_dim": inversion.hidden_dim,
        "affine": inversion.affine,
        "token_std": inversion.fixed_std,
    }


def _interaction_card(interaction: MultiModalInteraction) -> dict[str, Any]:
    """Arguments of the interaction module."""
    return {
        "dim": interaction.dim,
        "num_self_blocks": len(interaction.blocks),
        "visual_dim": interaction.visual_dim,
        "num_heads": interaction.num_heads,
        "sequence": interaction.sequence,
        "readout": interaction.readout,
        "residual": interaction.residual,
        "norm": interaction.norm,
        "input_norm": interaction.input_norm,
        "mlp_ratio": interaction.mlp_ratio,
        "dropout": interaction.dropout,
    }


def _check_prompt(prompt: str, weights: Mapping[str, Weight], inversion: nn.Module | None) -> None:
    """Raise ValueError for parts that a simplified prompt does not use."""
    if prompt == "composed":
        return
    if "supcon" in weights:
        raise ValueError(
            f'{_OWNER}: the term "supcon" needs prompt="composed"; a simplified prompt is the same '
            "for all images."
        )
    if inversion is not None:
        raise ValueError(
            f'{_OWNER}: the inversion network has no effect with prompt="simplified"; leave it out.'
        )


def _default_losses(distributed: bool) -> dict[str, Callable[[], nn.Module]]:
    """Builders of the default losses, in the order of their construction."""
    return {
        "triplet": partial(TripletLoss, distributed=distributed),
        "supcon": partial(SupConLoss, distributed=distributed),
    }
