"""Describe a trained method as JSON, and build it again.

Only what the descriptor needs is kept and built: towers, necks, prompt, inversion, interaction and
token selections.
Classifiers, losses and texts of identities serve training alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from clipreid_kit.clip.methods._frame_pooling import build_pooling
from clipreid_kit.clip.methods.baseline import ClipBaseline
from clipreid_kit.clip.methods.clip_reid import ClipReID
from clipreid_kit.clip.methods.identity_branch import IdentityBranch
from clipreid_kit.clip.methods.prompt_sg import PromptSG
from clipreid_kit.clip.methods.text_to_person import TextToPerson
from clipreid_kit.clip.prompts.composer import PromptComposer
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.towers.load_weights import load_weights
from clipreid_kit.modules import MultiModalInteraction, TextualInversionMLP, TokenSelection

_OWNER = "build_method"
_VERSION = 1

# of checkpoints, by the first word of a tensor's name: they have no effect on the descriptor
_TRAINING_ONLY = (
    *("losses", "weighted_sum", "text_embeddings", "prompts"),
    *("classification", "masked_language"),
)


def build_method(
    card: Mapping[str, Any], towers: ClipTowers, tensors: Mapping[str, Tensor]
) -> nn.Module:
    """Build a trained method again, as far as its descriptor needs it.

    Use it to encode images with a checkpoint, without the code that trained it: what the method
    was built with is in the card that :class:`TrainingCheckpoints` writes. Classifiers and losses
    are left out.

    Args:
        card: The entry ``"method"`` of :func:`read_card`, as ``method.method_card()`` returns it.
        towers: The trained towers.
        tensors: The trained tensors beside the towers, by the method's names.

    Returns:
        The method in evaluation mode. With labels it cannot be called: it has no classifier.

    Raises:
        ValueError: If the card is damaged, of a later version, or of a method with modules of your
            own; or if the tensors are not those of the method.

    Example:
        >>> import torch
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32))
        >>> trained = ClipBaseline(towers, 5, descriptor="post_neck").eval()
        >>> beside = {k: v for k, v in trained.state_dict().items() if not k.startswith("towers.")}
        >>> method = build_method(trained.method_card(), towers, beside)
        >>> images = torch.randn(2, 3, 64, 32)
        >>> torch.equal(method(images).embedding, trained(images).embedding)
        True
    """
    _check_card(card)
    try:
        method = _BUILDERS[card["kind"]](card, towers)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{_OWNER}: the card of the method is damaged ({type(error).__name__}: {error}). Train "
            "or save the method again."
        ) from None

    _load(method, tensors)
    return method.eval()


def descriptor_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a method that can have an effect on its descriptor, by name."""
    return {name: tensor for name, tensor in tensors.items() if not _serves_training(name)}


def _check_card(card: Mapping[str, Any]) -> None:
    """Raise ValueError for a card that this version cannot build."""
    if card.get("version") != _VERSION:
        raise ValueError(
            f"{_OWNER}: the method's card has version {card.get('version')!r}, and this version "
            f"of clipreid_kit builds version {_VERSION}. Update clipreid_kit."
        )
    if card.get("kind") not in _BUILDERS:
        raise ValueError(
            f"{_OWNER}: the card is of the method {card.get('kind')!r}, and known are "
            f"{', '.join(_BUILDERS)}. Build the method in your own code and pass it."
        )
    if card.get("own_modules"):
        raise ValueError(
            f"{_OWNER}: the method has modules of your own ({', '.join(card['own_modules'])}), "
            "which a card cannot describe. Build the method in your own code and pass it."
        )


def _load(method: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load all tensors beside the towers, and require that none is missing or left over."""
    wanted = [name for name in method.state_dict() if not name.startswith("towers.")]
    kept = descriptor_tensors(tensors)

    missing = [name for name in wanted if name not in kept]
    unexpected = [name for name in kept if name not in wanted]
    if missing or unexpected:
        named = ", ".join([*missing, *unexpected][:3])
        raise ValueError(
            f"{_OWNER}: the checkpoint is not of the method of its card: {len(missing)} tensors "
            f"are missing and {len(unexpected)} left over ({named}, ...)."
        )

    if kept:
        own = {name: value for name, value in method.state_dict().items() if name not in kept}
        load_weights(method, own | kept)


def _serves_training(name: str) -> bool:
    """Return whether a tensor has no effect on the descriptor."""
    return name.partition(".")[0] in _TRAINING_ONLY or ".classifier." in name


def _baseline(card: Mapping[str, Any], towers: ClipTowers) -> nn.Module:
    necks = card["necks"]
    return ClipBaseline(
        towers,
        None if not necks else 1,
        weights={"id": 1.0} if necks else {"supcon_image": 1.0},
        identity=_NeckFactory(necks) if necks else IdentityBranch,
        image_blocks=None,
        text_blocks=None,
        descriptor=card["descriptor"],
        pooling=build_pooling(card.get("pooling")),
    )


def _clip_reid(card: Mapping[str, Any], towers: ClipTowers) -> nn.Module:
    return ClipReID(
        towers,
        None,
        num_identities=1,
        weights={"id": 1.0},
        identity=_NeckFactory(card["necks"]),
        levels=card["levels"],
        image_blocks=None,
        descriptor=card["descriptor"],
    )


def _prompt_sg(card: Mapping[str, Any], towers: ClipTowers) -> nn.Module:
    inversion = card["inversion"]
    composer = card["composer"]
    return PromptSG(
        towers,
        1,
        weights={"id": 1.0},
        identity=_NeckFactory(card["necks"]),
        composer=PromptComposer(towers, composer["texts"], num_tokens=composer["num_tokens"]),
        inversion=None if inversion is None else TextualInversionMLP(**inversion),
        interaction=MultiModalInteraction(**card["interaction"]),
        prompt=card["prompt"],
        id_levels=card["id_levels"],
        unit_representation=card["unit_representation"],
        image_blocks=None,
        descriptor=card["descriptor"],
    )


def _text_to_person(card: Mapping[str, Any], towers: ClipTowers) -> nn.Module:
    chosen = card["selections"]
    selections = None
    if chosen is not None:
        patches, words = (TokenSelection(**options) for options in chosen)
        selections = (patches, words)

    return TextToPerson(
        towers,
        weights={"sdm": 1.0},
        selections=selections,
        image_blocks=None,
        text_blocks=None,
    )


_BUILDERS = {
    "ClipBaseline": _baseline,
    "ClipReID": _clip_reid,
    "PromptSG": _prompt_sg,
    "TextToPerson": _text_to_person,
}


class _NeckFactory:
    """Builds the identity branches of a method in their order, each as a neck alone."""

    def __init__(self, necks: Sequence[Mapping[str, Any]]) -> None:
        self._necks = list(necks)

    def __call__(
        self, dim: int, num_identities: int | None, *, distributed: bool
    ) -> IdentityBranch:
        del num_identities
        neck = self._necks.pop(0)
        return IdentityBranch(
            dim,
            None,
            use_neck=neck["use_neck"],
            reduced_dim=neck["reduced_dim"],
            distributed=distributed,
        )
