"""Text embeddings of identities from the captions of their images."""

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_integer
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
from clipreid_kit.clip.towers.tokenizer import TooLong
from clipreid_kit.distances import at_least_float32

_OWNER = "caption_embeddings"


@torch.no_grad()
def caption_embeddings(
    towers: ClipTowers,
    captions: Sequence[Collection[str]],
    *,
    too_long: TooLong = "error",
    batch_size: int = 256,
) -> Float[Tensor, "c d"]:
    """Embed each identity as the mean of its captions, without gradient.

    Use it for the texts of :class:`ClipReID` where no prompts are learned.

    Args:
        towers: The model, in the mode that it is in.
        captions: Captions of each identity, in the order of the labels. Equal captions count once.
        too_long: What to do with captions that are too long; see ``towers.tokenize``.
        batch_size: Number of captions encoded at once, at least 1.

    Returns:
        A row for each identity, float32 (float64 for towers in float64), not normalised; no rows
        for no identities.

    Raises:
        ValueError: If an identity has no captions, an empty one, or a single string in place of a
            collection.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit")
        >>> caption_embeddings(towers, [["a red coat", "a coat"], ["a blue bag"]]).shape
        torch.Size([2, 128])
    """
    check_towers(_OWNER, towers)
    check_integer(_OWNER, "batch_size", batch_size, 1)
    for label, of_identity in enumerate(captions):
        _check_captions(label, of_identity)

    texts: list[str] = []
    labels: list[int] = []
    for label, of_identity in enumerate(captions):
        distinct = sorted(set(of_identity))
        texts += distinct
        labels += [label] * len(distinct)
    if not texts:
        return torch.zeros(
            0, towers.embed_dim, dtype=torch.float32, device=towers.logit_scale.device
        )

    tokens = towers.tokenize(texts, too_long=too_long)
    blocks = [
        at_least_float32(towers.encode_text(block)) for block in torch.split(tokens, batch_size)
    ]
    rows = torch.cat(blocks)

    label_of_row = torch.tensor(labels, device=rows.device)
    sums = rows.new_zeros(len(captions), rows.shape[1]).index_add_(0, label_of_row, rows)
    counts = torch.bincount(label_of_row, minlength=len(captions))
    return sums / counts[:, None]


def _check_captions(label: int, captions: Collection[str]) -> None:
    """Raise ValueError if an identity's captions are missing, empty or no collection."""
    if isinstance(captions, str):
        raise ValueError(
            f"{_OWNER}: the captions of label {label} are a single string; "
            "pass a list of captions for each identity."
        )
    if len(captions) == 0:
        raise ValueError(f"{_OWNER}: label {label} has no captions; pass at least one.")
    if not all(str(caption).strip() for caption in captions):
        raise ValueError(f"{_OWNER}: label {label} has an empty caption; leave it out.")
