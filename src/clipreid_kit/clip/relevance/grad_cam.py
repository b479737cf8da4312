"""Grad-CAM of a similarity: which positions of the last feature map speak for it."""

from typing import Any

import torch
from jaxtyping import Float
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from clipreid_kit.clip.relevance._unchanged import Embed, evaluated, similarities
from clipreid_kit.clip.relevance._vit_layout import vit_layout
from clipreid_kit.clip.towers.backbone import BackboneTower
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
from clipreid_kit.clip.towers.trunk_blocks import trunk_blocks

_OWNER = "grad_cam"


def grad_cam(
    towers: ClipTowers,
    images: Float[Tensor, "n 3 h w"],
    targets: Float[Tensor, "m d"],
    *,
    embed: Embed | None = None,
    positive_only: bool = True,
) -> Float[Tensor, "n r c"]:
    r"""Relevance of each position of the last feature map for the similarity to a target.

    .. math::
        \alpha_k = \frac{1}{Z} \sum_{ij} \frac{\partial s}{\partial F^k_{ij}}, \qquad
        M_{ij} = \left(\sum_k \alpha_k F^k_{ij}\right)^+

    with s the cosine similarity and F the output of the last stage, of Z positions. What follows,
    such as CLIP's attention pool, is part of the derivative.

    Args:
        towers: Towers with a ResNet or another convolutional network, or with a ViT that pools all
            its patches by attention, as SigLIP's does.
        images: Images of :attr:`ClipTowers.image_size`, normalised.
        targets: What each image is compared with: embeddings (N, D) of other images or of texts, or
            (1, D) for all.
        embed: Embeds images through these towers, such as a method; ``None`` for
            ``towers.encode_image``.
        positive_only: Whether positions that speak against the similarity are 0, as in the paper,
            or negative.

    Returns:
        (N, rows, columns) of :attr:`ClipTowers.grid`; only their proportions within an image have a
        meaning. No maps for no images. The towers are left as they were.

    Raises:
        ValueError: If the image tower is a ViT that reads its class token, of an unknown kind, or
            images and targets do not suit it.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(64, 32))
        >>> images = torch.rand(2, 3, 64, 32)
        >>> grad_cam(towers, images, towers.encode_image(images.flip(0))).shape
        torch.Size([2, 2, 1])

    References:
        Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
        Localization, ICCV 2017, eq. 1 and 2.
    """
    check_towers(_OWNER, towers)
    stage = _last_stage(towers)
    if len(images) == 0:
        return images.new_zeros(0, *towers.grid)

    found: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Tensor) -> Tensor:  # noqa: ANN401 (a hook)
        # nothing before the map is needed: the graph begins here
        found.append(output.detach().requires_grad_())
        return found[-1]

    handle = stage.register_forward_hook(keep)
    try:
        with evaluated(towers):
            similarity = similarities(_OWNER, towers, images, targets, embed)
            (gradient,) = torch.autograd.grad(similarity.sum(), found[-1])
    finally:
        handle.remove()

    features = _as_positions(found[-1], towers.grid).detach().float()
    weights = _as_positions(gradient, towers.grid).float().mean(dim=(1, 2), keepdim=True)
    relevance = (weights * features).sum(dim=3)
    return relevance.clamp(min=0) if positive_only else relevance


def _last_stage(towers: ClipTowers) -> nn.Module:
    """The module whose output is the last feature map that the embedding is read from."""
    visual: Any = towers.model.visual
    if isinstance(visual, ModifiedResNet):
        stage: nn.Module = visual.layer4
        return stage

    blocks: list[nn.Module] = []
    layout = vit_layout(visual)
    if isinstance(visual, TimmModel | BackboneTower) and (
        layout is None or not layout.reads_class_token
    ):
        blocks = list(trunk_blocks(visual.trunk).values())
    if not blocks:
        raise ValueError(
            f"{_OWNER}: the last feature map of {towers.name} does not reach its embedding, or is "
            "unknown. For a ViT with a class token use attention_relevance."
        )
    return blocks[-1]


def _as_positions(output: Tensor, grid: tuple[int, int]) -> Tensor:
    """Bring a feature map, or tokens whose patches come last, to (N, rows, columns, channels)."""
    rows, columns = grid
    if output.ndim == 3:
        patches = output[:, output.shape[1] - rows * columns :]
        return patches.reshape(-1, rows, columns, output.shape[2])
    if tuple(output.shape[2:]) == grid:
        return output.permute(0, 2, 3, 1)
    return output
