"""Texts of identities for the second stage of CLIP-ReID: fixed, learned, or none."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from clipreid_kit._checks import check_embeddings, check_integer, fail
from clipreid_kit.clip.prompts.learner import IdentityPromptLearner
from clipreid_kit.clip.towers.clip_towers import ClipTowers

_TEXT_TERMS = ("image_to_text", "supcon")


def count_identities(
    owner: str,
    texts: Tensor | IdentityPromptLearner | None,
    num_identities: int | None,
    embed_dim: int,
    terms: Collection[str],
) -> int:
    """Count the identities that texts are for, and check that texts and losses suit each other.

    Args:
        owner: Name for error texts.
        texts: A row for each identity, their learned prompts, or ``None``.
        num_identities: Number of identities, if there are no texts to count.
        embed_dim: Width of the towers' embeddings.
        terms: Names of the losses in use.

    Returns:
        The number of identities.

    Raises:
        ValueError: If the number is missing or contradicts the texts, the rows have another width,
            or losses lack the texts that they compare with.
    """
    text_terms = [name for name in _TEXT_TERMS if name in terms]
    if texts is None:
        return _check_without_texts(owner, num_identities, text_terms)

    if isinstance(texts, Tensor):
        count = _count_rows(owner, texts, embed_dim)
    else:
        count = texts.num_identities
        if not text_terms:
            raise ValueError(
                f"{owner}: the prompts would not learn, because neither 'image_to_text' nor "
                "'supcon' has a weight; add one, or pass fixed texts: prompts.encode_all(towers)."
            )

    if num_identities not in (None, count):
        raise ValueError(
            f"{owner}: num_identities is {num_identities}, but there are texts for {count} "
            "identities; leave it out."
        )
    return count


def texts_of_all(towers: ClipTowers, texts: Tensor | IdentityPromptLearner) -> Tensor:
    """Return the text of each identity (C, D); learned prompts are encoded."""
    if isinstance(texts, Tensor):
        return texts
    return texts.encode(towers, torch.arange(texts.num_identities, device="cpu"))


def texts_of_rows(
    towers: ClipTowers,
    texts: Tensor | IdentityPromptLearner,
    all_texts: Tensor | None,
    labels: Tensor,
    cameras: Tensor | None,
    images: Tensor,
) -> Tensor:
    """Return the text of each row of a batch (N, D).

    Args:
        towers: The model.
        texts: Fixed texts or learned prompts.
        all_texts: Result of :func:`texts_of_all` for this batch, if it has been computed.
        labels: Identity of each row.
        cameras: Camera of each row, for prompts with camera words.
        images: Embedding of each row, for prompts that an image shifts.

    Returns:
        The texts; taken from ``all_texts`` if they depend on nothing but the identity.
    """
    if isinstance(texts, Tensor):
        return texts.index_select(0, labels.to(texts.device).long())

    used_cameras = cameras if texts.num_cameras else None
    instances = None if texts.instance_dim is None else images
    if all_texts is not None and used_cameras is None and instances is None:
        return all_texts.index_select(0, labels.to(all_texts.device).long())
    return texts.encode(towers, labels, cameras=used_cameras, instances=instances)


def _check_without_texts(owner: str, num_identities: int | None, text_terms: Sequence[str]) -> int:
    """Number of identities of a method without texts."""
    if text_terms:
        raise ValueError(
            f"{owner}: the term {text_terms[0]!r} compares with texts, and text_embeddings is "
            "None; pass texts, or weights without that term."
        )
    if num_identities is None:
        raise ValueError(f"{owner}: without texts to count, pass num_identities.")

    check_integer(owner, "num_identities", num_identities, 1)
    return num_identities


def _count_rows(owner: str, texts: Tensor, embed_dim: int) -> int:
    """Number of fixed texts, whose width has to be that of the towers."""
    check_embeddings(owner, "text_embeddings", texts)
    if texts.shape[1] != embed_dim or texts.shape[0] == 0:
        expected = f"text_embeddings (C, {embed_dim}) of at least one identity"
        raise fail(owner, expected, tuple(texts.shape))
    return texts.shape[0]
