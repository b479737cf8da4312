"""Run towers for an explanation and leave them as they were."""

import contextlib
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipreid_kit._checks import check_embeddings, describe, fail
from clipreid_kit.clip.towers.clip_towers import ClipTowers

Embed = Callable[[Tensor], Tensor]


@contextlib.contextmanager
def evaluated(towers: nn.Module) -> Iterator[None]:
    """Set evaluation mode with gradients, also within ``no_grad``; restore every module's mode."""
    modes = [(module, module.training) for module in towers.modules()]
    towers.eval()
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def similarities(
    owner: str, towers: ClipTowers, images: Tensor, targets: Tensor, embed: Embed | None
) -> Tensor:
    """Embed images, and return the cosine of each with its target.

    Args:
        owner: The public function, for the error text.
        towers: The towers.
        images: (N, 3, H, W).
        targets: (N, D), or (1, D) for all images.
        embed: Embeds images through the towers; ``None`` for ``towers.encode_image``.

    Raises:
        ValueError: If targets and embeddings do not suit each other, or a target is not finite.
    """
    check_embeddings(owner, "targets", targets)
    if not targets.isfinite().all():
        raise fail(owner, "finite targets", "NaN or infinity")

    embeddings = (embed or towers.encode_image)(images.detach().clone())
    fits_rows = len(targets) in (1, len(embeddings))
    if not fits_rows or targets.shape[1] != embeddings.shape[1]:
        expected = f"targets (1, {embeddings.shape[1]}) or {tuple(embeddings.shape)}"
        remedy = "Take them from the same model: encode_image or encode_text."
        raise fail(owner, expected, describe(targets), remedy)

    targets = targets.detach().clone().to(embeddings)
    return F.cosine_similarity(embeddings.float(), targets.float(), dim=1)
