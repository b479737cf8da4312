"""Relevance of patches for a similarity, by the attention that its gradient weighs."""

import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit.clip.relevance._recorded_attention import recorded_attention
from clipreid_kit.clip.relevance._unchanged import Embed, evaluated, similarities
from clipreid_kit.clip.relevance._vit_layout import vit_layout
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers


def attention_relevance(
    towers: ClipTowers,
    images: Float[Tensor, "n 3 h w"],
    targets: Float[Tensor, "m d"],
    *,
    embed: Embed | None = None,
) -> Float[Tensor, "n r c"]:
    r"""Relevance of each patch of a ViT for the similarity of an image and its target.

    .. math::
        \bar A_l = E_h\left[(\nabla A_l \odot A_l)^+\right], \qquad R \leftarrow R + \bar A_l R

    from :math:`R = I`, with :math:`\nabla A_l` the gradient of the cosine similarity with respect
    to the attention of layer l, and :math:`E_h` the mean over heads.

    Args:
        towers: Towers with a ViT that reads its class token, or the mean of its patches.
        images: Images of :attr:`ClipTowers.image_size`, normalised.
        targets: What each image is compared with: embeddings (N, D) of other images or of texts, or
            (1, D) for all.
        embed: Embeds images through these towers, such as a method; ``None`` for
            ``towers.encode_image``.

    Returns:
        (N, rows, columns) of :attr:`ClipTowers.grid`, each >= 0; only their proportions within an
        image have a meaning. No maps for no images. The towers are left as they were: modes, hooks,
        gradients and all.

    Raises:
        ValueError: If the image tower is no such ViT, or images and targets do not suit it.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(32, 16))
        >>> images = torch.rand(2, 3, 32, 16)
        >>> texts = towers.encode_text(towers.tokenize(["a red coat"]))
        >>> attention_relevance(towers, images, texts).shape
        torch.Size([2, 4, 2])

    References:
        Chefer, Gur & Wolf, Generic Attention-model Explainability for Interpreting Bi-Modal and
        Encoder-Decoder Transformers, ICCV 2021, eq. 5 and 6.
    """
    owner = "attention_relevance"
    check_towers(owner, towers)
    layout = vit_layout(towers.model.visual)
    if layout is None:
        raise ValueError(
            f"{owner}: {towers.name} is no ViT that reads a class token or the mean of its "
            "patches. Use grad_cam."
        )
    if len(images) == 0:
        return images.new_zeros(0, *towers.grid)

    with evaluated(towers), recorded_attention(owner, layout.layers) as recorded:
        similarity = similarities(owner, towers, images, targets, embed)
        relevance = relevance_of(similarity.sum(), recorded.layers)
    return layout.readout(relevance, towers.grid)


def relevance_of(value: Tensor, layers: list[Tensor]) -> Tensor:
    """Relevance (N, L', L) of each token for each token of the last layer, for a value.

    Args:
        value: The similarities, summed; the images of a batch do not affect each other.
        layers: Attention (N, heads, L, L) of each layer; of the last one perhaps fewer rows.
    """
    # zeros of a layer that the value does not depend on
    gradients = torch.autograd.grad(value, layers, allow_unused=True, materialize_grads=True)
    length = layers[0].shape[-1]
    identity = torch.eye(length, dtype=torch.float32, device=value.device)
    relevance = identity.expand(len(layers[0]), -1, -1)

    for attention, gradient in zip(layers, gradients, strict=True):
        weighted = (gradient * attention).detach().float().clamp(min=0).mean(dim=1)
        relevance = relevance[:, : weighted.shape[1]] + weighted @ relevance
    return relevance
