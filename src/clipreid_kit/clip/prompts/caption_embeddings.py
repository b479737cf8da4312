"""Texts of identities from the captions of their images."""

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.towers.tokenizer import TooLong
from clipreid_kit.distances import at_least_float32


@torch.no_grad()
def caption_embeddings(
    towers: ClipTowers,
    captions: Sequence[Collection[str]],
    *,
    too_long: TooLong = "error",
    batch_size: int = 256,
) -> Float[Tensor, "c d"]:
    """Embed identities by the mean of their captions, without gradient.

    Use it as the texts of :class:`ClipReID` where no prompts are learned.

    Args:
        towers: The model, in the mode that it is in.
        captions: For each identity, in the order of the labels, its captions. Equal ones count once.
        too_long: As for ``towers.tokenize``.
        batch_size: Captions encoded at once.

    Returns:
        A row for each identity, float32 (float64 of such towers), not normalised; none for no identities.

    Raises:
        ValueError: If an identity has no caption or an empty one.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit")
        >>> caption_embeddings(towers, [["a red coat", "a coat"], ["a blue bag"]]).shape
        torch.Size([2, 128])
    """
    owner = "caption_embeddings"
    check_integer(owner, "batch_size", batch_size, 1)
    listed = [[] if isinstance(own, str) else list(own) for own in captions]
    bare = [
        label
        for label, own in enumerate(listed)
        if not own or not all(str(text).strip() for text in own)
    ]
    if bare:
        got = f"none, an empty one or a bare text for label {bare[0]}" + (
            f" and {len(bare) - 1} more" * (len(bare) > 1)
        )
        raise fail(owner, "a collection of captions for every identity", got)
    pairs = [(label, text) for label, own in enumerate(listed) for text in sorted(set(own))]
    device = towers.logit_scale.device
    if not pairs:
        return torch.zeros(0, towers.embed_dim, device=device)
    tokens = towers.tokenize([text for _, text in pairs], too_long=too_long)
    rows = torch.cat(
        [at_least_float32(towers.encode_text(part)) for part in torch.split(tokens, batch_size)]
    )
    owners = torch.tensor([label for label, _ in pairs], device=rows.device)
    sums = rows.new_zeros(len(listed), rows.shape[1]).index_add_(0, owners, rows)
    return sums / torch.bincount(owners, minlength=len(listed))[:, None]
