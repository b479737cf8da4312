"""Text-to-person method: pair losses, token selection, masked words and noisy pairs."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_integer, check_labels, describe, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.clip.methods._terms import (
    build_losses,
    card_of,
    check_identity_labels,
    check_method_options,
)
from clipreid_kit.clip.methods.identity_branch import IdentityBranch, IdentityBranchFactory
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
from clipreid_kit.clip.tuning.freezing import freeze_temperature, unfreeze_last_blocks
from clipreid_kit.distances import at_least_float32, l2_normalize
from clipreid_kit.distributed import gather
from clipreid_kit.losses import CMPMLoss, SDMLoss, TripletAlignmentLoss, WeightedSum
from clipreid_kit.losses.weighted_sum import Weight
from clipreid_kit.modules import MaskedLanguageHead, TokenSelection, mask_tokens

_OWNER = "TextToPerson"

PAIR_TERMS = ("sdm", "triplet_alignment", "cmpm")
CLASS_TERMS = ("id", "id_text")
TERMS = (*CLASS_TERMS, *PAIR_TERMS, "masked_language")

IRRA_WEIGHTS: Mapping[str, Weight] = MappingProxyType(
    {"id": 0.5, "id_text": 0.5, "sdm": 1.0, "masked_language": 1.0}
)


class TextToPersonOutput(NamedTuple):
    """Output of :class:`TextToPerson`.

    Attributes:
        embedding: Image descriptor for retrieval, L2-normalised: the global embedding (N, D), or
            with token selection both embeddings joined (N, D + D').
        text_embedding: The same of the texts (N, D) or (N, D + D'); ``None`` without tokens.
        loss: Weighted sum of the terms; ``None`` without labels.
        terms: Contribution of each term to the loss, by name and without gradient, for logging;
            empty without labels.
    """

    embedding: Tensor
    text_embedding: Tensor | None
    loss: Tensor | None
    terms: dict[str, Tensor]


class _Embedded(NamedTuple):
    """Embeddings of one side of a batch.

    Attributes:
        pooled: Global embeddings (N, D), not normalised.
        selected: Token selection embeddings (N, D'); ``None`` without token selection.
        patches: Projected patches of images (N, T, D); ``None`` where no part looks at them.
    """

    pooled: Tensor
    selected: Tensor | None
    patches: Tensor | None

    def spaces(self) -> list[Tensor]:
        """The embeddings in which pairs are compared."""
        return [self.pooled] if self.selected is None else [self.pooled, self.selected]

    def descriptor(self) -> Tensor:
        """Unit rows whose cosine is the mean cosine over the spaces."""
        return l2_normalize(torch.cat([l2_normalize(space) for space in self.spaces()], dim=1))


@fixed_options(not_kept=("weights", "image_blocks", "text_blocks"))
class TextToPerson(nn.Module):
    r"""Text-to-person retrieval: both towers, with the parts of IRRA, RDE and TBPS-CLIP.

    Use it to find persons by sentences. Its default weights are those of IRRA: similarity
    distribution matching, one identity classifier for both modalities, and masked words. With two
    token selections and ``{"triplet_alignment": 1.0}`` it is RDE, whose weights of noisy pairs are
    the argument ``pair_weights``::

        head = MaskedLanguageHead(towers.embed_dim, towers.vocabulary_size)
        model = TextToPerson(towers, num_identities=11003, masked_language=head)
        model(images, labels, tokens=towers.tokenize(captions)).loss.backward()

        parts = TokenSelection(512, 1024), TokenSelection(512, 1024)  # of patches, of words
        model = TextToPerson(towers, weights={"triplet_alignment": 1.0}, selections=parts)

    .. math::
        L = \sum_k w_k \sum_{e} L_k(f^e, t^e, y) + w_{id} \operatorname{CE}(h(f), y)
        + w_{text} \operatorname{CE}(h(t), y) + w_{mlm} L_{mlm}

    where :math:`f` and :math:`t` are embeddings of images and captions, and :math:`e` runs over the
    global embedding and, if there is one, that of token selection. The terms:

    ``"sdm"``, ``"triplet_alignment"``, ``"cmpm"``
        ``SDMLoss()``, ``TripletAlignmentLoss()`` and ``CMPMLoss()``, summed over the embeddings.
    ``"id"``, ``"id_text"``
        Cross-entropy of the images and of the captions, by one classifier for both. IRRA takes the
        mean of the two.
    ``"masked_language"``
        Words of the captions are masked, and guessed with the help of the images.

    Args:
        towers: The model.
        num_identities: Number of training identities C, labelled from 0. ``None`` is allowed
            without ``"id"`` and ``"id_text"``; labels may then be any integers.
        weights: Weight of each term in use: a number, or a callable from ``step`` to one. Defaults
            to IRRA's: 1 for ``"sdm"`` and ``"masked_language"``, 0.5 for ``"id"`` and
            ``"id_text"``.
        losses: Loss module of each pair term that is not to use its default. With
            ``reduction="none"`` its values can be weighted by ``pair_weights``.
        identity: Builds the identity branch, called as ``identity(D, C, distributed=distributed)``.
        selections: A :class:`TokenSelection` for patches and one for words, of equal ``dim``; the
            widths of their tokens are ``towers.embed_dim``. ``None`` compares the global embeddings
            alone.
        masked_language: Guesses the masked words; needs a weight for ``"masked_language"``.
        mask_id: Token that hides a word. ``None`` takes ``towers.vocabulary_size - 3``, of CLIP the
            last word of the vocabulary, as IRRA does.
        image_blocks: As for :class:`ClipBaseline`.
        text_blocks: As for :class:`ClipBaseline`.
        distributed: Gather the rows of all ranks in the identity loss and the default losses.

    Raises:
        ValueError: If a term is unknown, a part that a term needs is missing or has no term, or
            widths disagree; in ``forward``, if tokens are missing or a label (on the CPU) is out of
            range.

    Example:
        >>> import torch
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32))
        >>> parts = TokenSelection(towers.embed_dim, 32), TokenSelection(towers.embed_dim, 32)
        >>> model = TextToPerson(towers, weights={"triplet_alignment": 1.0}, selections=parts)
        >>> tokens = towers.tokenize(["a red coat", "a red coat", "a blue cup", "a cup"])
        >>> output = model(torch.randn(4, 3, 64, 32), torch.tensor([0, 0, 3, 3]), tokens=tokens)
        >>> output.embedding.shape, output.text_embedding.shape, list(output.terms)
        (torch.Size([4, 160]), torch.Size([4, 160]), ['triplet_alignment'])

    Note:
        The importance of a token is its cosine with the global embedding, where RDE takes the
        attention in the last block. The mean over a batch counts a pair of weight 0 with 0, as RDE
        does.

    References:
        Jiang and Ye, IRRA, CVPR 2023. Qin et al., RDE, CVPR 2024. Cao et al., An Empirical Study of
        CLIP for Text-Based Person Search (TBPS-CLIP), AAAI 2024.
    """

    num_identities: Final[int | None]
    distributed: Final[bool]

    def __init__(
        self,
        towers: ClipTowers,
        num_identities: int | None = None,
        *,
        weights: Mapping[str, Weight] = IRRA_WEIGHTS,
        losses: Mapping[str, nn.Module] | None = None,
        identity: IdentityBranchFactory = IdentityBranch,
        selections: tuple[TokenSelection, TokenSelection] | None = None,
        masked_language: MaskedLanguageHead | None = None,
        mask_id: int | None = None,
        image_blocks: int | Literal["all"] | None = "all",
        text_blocks: int | Literal["all"] | None = "all",
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_towers(_OWNER, towers)
        check_method_options(
            _OWNER, weights=weights, losses=losses, known_terms=TERMS, descriptor="pre_neck"
        )
        classifies = any(name in CLASS_TERMS for name in weights)
        _check_classes(num_identities, classifies)
        _check_selections(towers, selections, weights)
        _check_masked_language(towers, masked_language, weights)

        branch = identity(towers.embed_dim, num_identities, distributed=distributed)
        _train_blocks(towers, image_blocks, text_blocks)

        self.towers = towers
        self.num_identities = num_identities
        self.weighted_sum = WeightedSum(weights)
        self.classification = branch if classifies else None
        self.selections = None if selections is None else nn.ModuleList(selections)
        self.masked_language = masked_language
        self.mask_id = towers.vocabulary_size - 3 if mask_id is None else mask_id
        self.distributed = distributed
        self.losses = build_losses(weights, losses, _default_losses(distributed))

    def forward(
        self,
        images: Float[Tensor, "n 3 h w"],
        labels: Integer[Tensor, " n"] | None = None,
        *,
        tokens: Integer[Tensor, "n l"] | None = None,
        cameras: Integer[Tensor, " n"] | None = None,
        views: Integer[Tensor, " n"] | None = None,
        pair_weights: Float[Tensor, " n"] | None = None,
        step: int | None = None,
    ) -> TextToPersonOutput:
        """Compute the descriptors, and with labels the losses.

        Args:
            images: Images as ``towers.encode_image`` takes them.
            labels: Identities. They affect the losses only, never the descriptor.
            tokens: A caption for each image, from ``towers.tokenize``; required with labels.
            cameras: For towers with a camera embedding.
            views: For towers with a view embedding.
            pair_weights: Weight of each image and its caption in the pair terms, such as those of
                :func:`divide_pairs`. Their losses must have ``reduction="none"``.
            step: Passed to weights that are callables.

        Returns:
            Descriptors, and with labels the loss and its terms.

        Raises:
            ValueError: If shapes disagree, tokens are missing, a label is out of range, or a loss
                has no values to weight.
        """
        if labels is not None:
            self._check_batch(labels, tokens, images.shape[0])
            if pair_weights is not None:
                self._check_pair_weights(pair_weights, images.shape[0])

        image = self._embed_images(images, cameras, views, for_loss=labels is not None)
        if tokens is None:  # then there are no labels, either
            return TextToPersonOutput(image.descriptor(), None, None, {})

        text = self._embed_texts(tokens)
        output = TextToPersonOutput(image.descriptor(), text.descriptor(), None, {})
        if labels is None:
            return output

        values = self._terms(image, text, tokens, labels.to(images.device), pair_weights)
        loss, contributions = self.weighted_sum(values, step=step)
        return output._replace(loss=loss, terms=contributions)

    def encode_text(self, tokens: Integer[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Embed texts in the space of the image descriptors, L2-normalised.

        Args:
            tokens: Rows from ``towers.tokenize``.
        """
        return self._embed_texts(tokens).descriptor()

    @torch.no_grad()
    def pair_losses(
        self,
        images: Float[Tensor, "n 3 h w"],
        labels: Integer[Tensor, " n"],
        tokens: Integer[Tensor, "n l"],
        *,
        cameras: Integer[Tensor, " n"] | None = None,
        views: Integer[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "e n"]:
        """Values of the pair terms for each pair, in each embedding: for :func:`clean_probability`.

        Call it in evaluation mode, on batches of the training set without augmentation.

        Args:
            images: As in ``forward``.
            labels: As in ``forward``.
            tokens: As in ``forward``.
            cameras: As in ``forward``.
            views: As in ``forward``.

        Returns:
            A row for the global embedding and, with token selection, one for that.

        Raises:
            ValueError: As ``forward``, also if a loss has no values.
        """
        self._check_batch(labels, tokens, images.shape[0])
        self._check_pair_values()
        image = self._embed_images(images, cameras, views, for_loss=False)
        text = self._embed_texts(tokens)

        labels = labels.to(images.device)
        rows = []
        for first, second in zip(image.spaces(), text.spaces(), strict=True):
            values = [loss(first, second, labels) for loss in self.losses.values()]
            rows.append(torch.stack(values).sum(dim=0))
        return torch.stack(rows)

    def method_card(self) -> dict[str, Any]:
        """Describe the method for :func:`build_method`, in JSON's types; checkpoints keep it."""
        chosen = None
        if self.selections is not None:
            chosen = [_selection_card(selection) for selection in self.selections]
        return card_of("TextToPerson", "pre_neck", [], {}, {"selections": chosen})

    def _embed_images(
        self, images: Tensor, cameras: Tensor | None, views: Tensor | None, *, for_loss: bool
    ) -> _Embedded:
        needs_patches = self.selections is not None or (
            for_loss and self.masked_language is not None
        )
        if not needs_patches:
            pooled = self.towers.encode_image(images, cameras=cameras, views=views)
            return _Embedded(pooled, None, None)

        levels = self.towers.encode_image_levels(
            images, ("projected", "projected_patches"), cameras=cameras, views=views
        )
        pooled = cast("Tensor", levels.projected)
        patches = cast("Tensor", levels.projected_patches)
        if self.selections is None:
            return _Embedded(pooled, None, patches)

        selected = self.selections[0](patches, _importance(patches, pooled))
        return _Embedded(pooled, selected, patches)

    def _embed_texts(self, tokens: Tensor) -> _Embedded:
        if self.selections is None:
            return _Embedded(self.towers.encode_text(tokens), None, None)

        tokens, end = self._without_padding(tokens)
        states = self.towers.encode_text_tokens(tokens)
        row = torch.arange(len(states), device=states.device)
        pooled = states[row, end.to(states.device)]

        is_word = _is_word(tokens, end).to(states.device)
        selected = self.selections[1](states, _importance(states, pooled), is_word)
        return _Embedded(pooled, selected, None)

    def _without_padding(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens up to the last end of a text, and the position of each end."""
        end = self.towers.end_of_text(tokens)

        # A compiled graph runs the length that it is given.
        can_cut = self.towers.text_is_causal and not torch.compiler.is_compiling()
        if not can_cut or len(end) == 0:
            return tokens, end
        return tokens[:, : int(end.max()) + 1], end

    def _terms(
        self,
        image: _Embedded,
        text: _Embedded,
        tokens: Tensor,
        labels: Tensor,
        pair_weights: Tensor | None,
    ) -> dict[str, Tensor]:
        """Values of the terms, in the order of their weights."""
        values = self._class_terms(image.pooled, text.pooled, labels)
        values |= self._pair_terms(image, text, labels, pair_weights)
        if self.masked_language is not None and image.patches is not None:
            values["masked_language"] = self._masked_language(tokens, image.patches)

        return {name: values[name] for name in self.weighted_sum.weights}

    def _class_terms(self, images: Tensor, texts: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropies of both modalities, by one classifier."""
        values: dict[str, Tensor] = {}
        if self.classification is None:
            return values

        for name, features in (("id", images), ("id_text", texts)):
            if name in self.weighted_sum.weights:
                values[name] = self.classification(features, labels).loss
        return values

    def _pair_terms(
        self, image: _Embedded, text: _Embedded, labels: Tensor, pair_weights: Tensor | None
    ) -> dict[str, Tensor]:
        """Pair losses, each summed over the embeddings."""
        values: dict[str, Tensor] = {}
        for name, loss in self.losses.items():
            of_spaces = []
            for first, second in zip(image.spaces(), text.spaces(), strict=True):
                of_pairs = loss(first, second, labels)
                of_spaces.append(_weighted_mean(of_pairs, loss, pair_weights))
            values[name] = torch.stack(of_spaces).sum()
        return values

    def _masked_language(self, tokens: Tensor, patches: Tensor) -> Tensor:
        """Loss of guessing masked words."""
        tokens, end = self._without_padding(tokens)
        masked = mask_tokens(
            tokens, _is_word(tokens, end), self.mask_id, self.towers.vocabulary_size
        )
        words = self.towers.encode_text_tokens(masked.tokens)

        targets = masked.targets.to(words.device)
        head = cast("MaskedLanguageHead", self.masked_language)
        loss = cast("Tensor", head(words, patches, targets).loss)
        return self._mean_over_ranks(loss, (targets >= 0).sum())

    def _mean_over_ranks(self, mean: Tensor, count: Tensor) -> Tensor:
        """Mean over the masked words of all ranks, given that of this rank and their number."""
        if not self.distributed:
            return mean
        total = gather((mean * count)[None]).sum()
        return total / gather(count[None]).sum().clamp(min=1)

    def _check_batch(self, labels: Tensor, tokens: Tensor | None, num_rows: int) -> None:
        """Raise ValueError if labels or tokens do not suit the batch."""
        if self.classification is not None and self.num_identities is not None:
            check_identity_labels(_OWNER, labels, num_rows, self.num_identities)
        else:
            check_labels(_OWNER, "labels", labels, num_rows)

        if tokens is None or tokens.ndim != 2 or tokens.shape[0] != num_rows:
            got = "none" if tokens is None else describe(tokens)
            raise fail(_OWNER, f"tokens of {num_rows} captions", got)

    def _check_pair_weights(self, pair_weights: Tensor, num_rows: int) -> None:
        """Raise ValueError if the weights do not suit the batch, or weigh nothing."""
        if pair_weights.shape != (num_rows,):
            raise fail(_OWNER, f"pair_weights of {num_rows} pairs", describe(pair_weights))
        self._check_pair_values()

    def _check_pair_values(self) -> None:
        """Raise ValueError if a pair term has only a mean, or there is no pair term."""
        missing = "values of single pairs to weight"
        remedy = 'give each pair term a loss with reduction="none".'
        if not self.losses:
            raise ValueError(f"{_OWNER}: there are no {missing}; {remedy}")

        for name, loss in self.losses.items():
            if getattr(loss, "reduction", "mean") != "none":
                raise ValueError(f"{_OWNER}: the loss of {name!r} has no {missing}; {remedy}")


def _importance(tokens: Tensor, pooled: Tensor) -> Tensor:
    """Cosine of each token (N, T, D) with the global embedding of its row, without gradient."""
    tokens = at_least_float32(tokens.detach())
    pooled = at_least_float32(pooled.detach())
    return torch.nn.functional.cosine_similarity(tokens, pooled[:, None, :], dim=2)


def _is_word(tokens: Tensor, end: Tensor) -> Tensor:
    """Mask of the tokens that are words, between the start and the end of a text."""
    position = torch.arange(tokens.shape[1], device=tokens.device)
    return (position > 0) & (position < end.to(tokens.device)[:, None])


def _weighted_mean(value: Tensor, loss: nn.Module, pair_weights: Tensor | None) -> Tensor:
    """Mean of the values of pairs, weighted if there are weights; a scalar loss as it is."""
    if value.ndim == 0 or not len(value):
        return value.sum()
    if pair_weights is None:
        return value.mean()

    weights = pair_weights.to(value)
    if getattr(loss, "distributed", False):  # the values are those of all ranks
        weights = gather(weights)
    return (weights * value).mean()


def _selection_card(selection: Any) -> dict[str, Any]:  # noqa: ANN401 (a TokenSelection)
    """Arguments that build a token selection."""
    return {
        "token_dim": selection.token_dim,
        "dim": selection.dim,
        "ratio": selection.ratio,
        "hidden_dim": selection.mlp[0].out_features,
    }


def _default_losses(distributed: bool) -> dict[str, Callable[[], nn.Module]]:
    """Builders of the default pair losses."""
    return {
        "sdm": partial(SDMLoss, distributed=distributed),
        "triplet_alignment": partial(TripletAlignmentLoss, distributed=distributed),
        "cmpm": partial(CMPMLoss, distributed=distributed),
    }


def _train_blocks(
    towers: ClipTowers,
    image_blocks: int | Literal["all"] | None,
    text_blocks: int | Literal["all"] | None,
) -> None:
    """Choose what trains in both towers; ``None`` leaves a tower as it is."""
    if image_blocks is not None:
        unfreeze_last_blocks(towers, image_blocks)
    if text_blocks is not None:
        unfreeze_last_blocks(towers, text_blocks, tower="text")
        freeze_temperature(towers)


def _check_classes(num_identities: int | None, classifies: bool) -> None:
    if num_identities is not None:
        check_integer(_OWNER, "num_identities", num_identities, 1)
    elif classifies:
        raise ValueError(
            f"{_OWNER}: 'id' and 'id_text' need the number of identities; pass num_identities."
        )


def _check_selections(
    towers: ClipTowers,
    selections: tuple[TokenSelection, TokenSelection] | None,
    terms: Collection[str],
) -> None:
    if selections is None:
        return
    if not any(name in PAIR_TERMS for name in terms):
        raise ValueError(
            f"{_OWNER}: selections are trained by pair terms; add one of {', '.join(PAIR_TERMS)} "
            "to weights."
        )

    first, second = selections
    if first.dim != second.dim:
        got = f"{first.dim} and {second.dim}"
        raise fail(_OWNER, "selections of patches and words with one dim", got)
    for selection in selections:
        if selection.token_dim != towers.embed_dim:
            raise fail(_OWNER, f"selections of token_dim {towers.embed_dim}", selection.token_dim)


def _check_masked_language(
    towers: ClipTowers, head: MaskedLanguageHead | None, terms: Collection[str]
) -> None:
    if (head is None) == ("masked_language" in terms):
        missing = "the part" if head is None else "a weight"
        raise ValueError(
            f"{_OWNER}: masked_language needs {missing}: pass masked_language=, and its name in "
            "weights, both or neither."
        )
    if head is None:
        return

    sizes = (towers.embed_dim, towers.embed_dim, towers.vocabulary_size)
    got = (head.dim, head.visual_dim, head.vocabulary_size)
    if got != sizes:
        expected = f"a head with dim, visual_dim and vocabulary_size {sizes}"
        raise fail(_OWNER, expected, f"one with {got}")
