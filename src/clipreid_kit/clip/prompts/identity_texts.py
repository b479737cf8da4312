"""Texts of identities for CLIP-ReID's second stage: fixed, still learned, or none."""

from collections.abc import Collection

import torch
from torch import Tensor

from clipreid_kit._checks import check_embeddings, check_integer, fail
from clipreid_kit.clip.prompts.learner import IdentityPromptLearner
from clipreid_kit.clip.towers.clip_towers import ClipTowers

_COMPARING = ("image_to_text", "supcon")


def count_identities(
    owner: str,
    texts: Tensor | IdentityPromptLearner | None,
    num_identities: int | None,
    embed_dim: int,
    terms: Collection[str],
) -> int:
    """Count the identities that texts are for.

    Args:
        owner: Who asks, for error texts.
        texts: A row for each, their learned prompts, or nothing.
        num_identities: Their number, where there are no texts.
        embed_dim: Width of the towers.
        terms: Names of the losses in use.

    Returns:
        Their number.

    Raises:
        ValueError: If the number is missing or another one, the rows are of another width, or losses and texts do
            not need each other.
    """
    comparing = [name for name in _COMPARING if name in terms]
    if texts is None:
        if comparing:
            raise fail(
                owner,
                f"texts for {comparing[0]!r}",
                "None",
                "Give them, or weights without that term.",
            )
        if num_identities is None:
            raise fail(owner, "num_identities, without texts to count", "None")
        check_integer(owner, "num_identities", num_identities, 1)
        return num_identities
    if isinstance(texts, Tensor):
        check_embeddings(owner, "text_embeddings", texts)
        if texts.shape[1] != embed_dim or texts.shape[0] == 0:
            raise fail(
                owner, f"texts (C, {embed_dim}) of at least one identity", tuple(texts.shape)
            )
        count = texts.shape[0]
    else:
        count = texts.num_identities
        if not comparing:
            remedy = "They would learn nothing: give texts.encode_all(towers)."
            raise fail(
                owner,
                f"a weight for {' or '.join(_COMPARING)} with prompts that learn",
                "none",
                remedy,
            )
    if num_identities not in (None, count):
        raise fail(owner, f"num_identities of the texts, {count}", num_identities, "Leave it out.")
    return count


def texts_of_all(towers: ClipTowers, texts: Tensor | IdentityPromptLearner) -> Tensor:
    """Give a text for each identity (C, D), encoded now if it is still learned."""
    return (
        texts
        if isinstance(texts, Tensor)
        else texts.encode(towers, torch.arange(texts.num_identities))
    )


def texts_of_rows(
    towers: ClipTowers,
    texts: Tensor | IdentityPromptLearner,
    everyone: Tensor | None,
    labels: Tensor,
    cameras: Tensor | None,
    images: Tensor,
) -> Tensor:
    """Give the text of each row of a batch (N, D).

    Args:
        towers: The model.
        texts: As above.
        everyone: :func:`texts_of_all` of this batch, where it has been computed.
        labels: Identity of each row.
        cameras: Camera of each row, for prompts with words for cameras.
        images: Embedding of each row, for prompts that an image shifts.
    """
    if isinstance(texts, Tensor):
        return texts.index_select(0, labels.to(texts.device).long())
    with_cameras = cameras if texts.num_cameras else None
    instances = None if texts.instance_dim is None else images
    if everyone is not None and with_cameras is None and instances is None:
        return everyone.index_select(0, labels.to(everyone.device).long())
    return texts.encode(towers, labels, cameras=with_cameras, instances=instances)
