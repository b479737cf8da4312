"""Relevance map of a match, by the method that suits an image tower."""

from jaxtyping import Float
from torch import Tensor

from clipreid_kit.clip.relevance._unchanged import Embed
from clipreid_kit.clip.relevance._vit_layout import vit_layout
from clipreid_kit.clip.relevance.attention_relevance import attention_relevance
from clipreid_kit.clip.relevance.grad_cam import grad_cam
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers


def similarity_map(
    towers: ClipTowers,
    images: Float[Tensor, "n 3 h w"],
    targets: Float[Tensor, "m d"],
    *,
    embed: Embed | None = None,
) -> Float[Tensor, "n r c"]:
    """Map what a match was decided by, over the image, with the method that suits the tower.

    That is :func:`attention_relevance` for a ViT, and :func:`grad_cam` for a ResNet, another
    convolutional network, and a ViT that pools by attention. For a pair of images, call it twice:
    each image with the other's embedding as its target.

    Args:
        towers: The towers.
        images: Images of :attr:`ClipTowers.image_size`, normalised.
        targets: Embeddings (N, D) of other images or of texts, or (1, D) for all images.
        embed: Embeds images through these towers, such as a method; ``None`` for
            ``towers.encode_image``.

    Returns:
        (N, rows, columns) of :attr:`ClipTowers.grid`, each >= 0; only their proportions within an
        image have a meaning. The towers are left as they were.

    Raises:
        ValueError: If the tower suits neither method, or images and targets do not suit it.

    Example:
        >>> import torch
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(32, 16))
        >>> first, second = torch.rand(2, 1, 3, 32, 16)
        >>> similarity_map(towers, first, towers.encode_image(second)).shape
        torch.Size([1, 4, 2])
    """
    check_towers("similarity_map", towers)
    explain = grad_cam if vit_layout(towers.model.visual) is None else attention_relevance
    return explain(towers, images, targets, embed=embed)
