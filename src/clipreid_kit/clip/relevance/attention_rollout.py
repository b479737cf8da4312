"""Attention rollout: how much of each patch flows into the embedding, by attention alone."""

import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit.clip.relevance._recorded_attention import recorded_attention
from clipreid_kit.clip.relevance._unchanged import Embed, evaluated
from clipreid_kit.clip.relevance._vit_layout import vit_layout
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers


def attention_rollout(
    towers: ClipTowers, images: Float[Tensor, "n 3 h w"], *, embed: Embed | None = None
) -> Float[Tensor, "n r c"]:
    r"""Multiply the attention of all layers of a ViT, from the patches to what is read.

    It shows where a ViT looks, whatever the image is compared with; what a match was decided by is
    for :func:`attention_relevance`.

    .. math::
        \tilde A_l = \left(\tfrac{1}{2} \, E_h[A_l] + \tfrac{1}{2} I\right) \tilde A_{l-1}

    with :math:`E_h` the mean over heads, and the identity for the residual connection.

    Args:
        towers: Towers with a ViT that reads its class token, or the mean of its patches.
        images: Images of :attr:`ClipTowers.image_size`, normalised.
        embed: Embeds images through these towers, such as a method or
            ``lambda x: towers.encode_image(x, cameras=cameras)``; ``None`` for
            ``towers.encode_image``.

    Returns:
        (N, rows, columns) of :attr:`ClipTowers.grid`, each >= 0; with the share of the class token
        they sum to 1. No maps for no images. The towers are left as they were.

    Raises:
        ValueError: If the image tower is no such ViT, or the images do not suit it.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(32, 16))
        >>> attention_rollout(towers, torch.zeros(2, 3, 32, 16)).shape
        torch.Size([2, 4, 2])

    References:
        Abnar & Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, eq. 1.
    """
    owner = "attention_rollout"
    check_towers(owner, towers)
    layout = vit_layout(towers.model.visual)
    if layout is None:
        raise ValueError(
            f"{owner}: {towers.name} is no ViT that reads a class token or the mean of its "
            "patches. Use grad_cam."
        )
    if len(images) == 0:
        return images.new_zeros(0, *towers.grid)

    with evaluated(towers), recorded_attention(owner, layout.layers) as recorded, torch.no_grad():
        (embed or towers.encode_image)(images)

    length = recorded.layers[0].shape[-1]
    identity = torch.eye(length, dtype=torch.float32, device=recorded.layers[0].device)
    rollout = identity.expand(len(images), -1, -1)
    for attention in recorded.layers:
        mean = attention.detach().float().mean(dim=1)
        # a last block for the class token alone has one row
        rollout = (0.5 * mean + 0.5 * identity[: mean.shape[1]]) @ rollout

    return layout.readout(rollout, towers.grid)
