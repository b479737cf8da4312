"""Grad-CAM of a similarity: which positions of a feature map speak for it."""

from typing import Any

import torch
from jaxtyping import Float
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from clipreid_kit._checks import check_integer
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
    stages_before: int = 0,
) -> Float[Tensor, "n r c"]:
    r"""Relevance of each position of a feature map for the similarity to a target.

    .. math::
        \alpha_k = \frac{1}{Z} \sum_{ij} \frac{\partial s}{\partial F^k_{ij}}, \qquad
        M_{ij} = \left(\sum_k \alpha_k F^k_{ij}\right)^+

    with s the cosine similarity and F the output of a stage, of Z positions. What follows, such as
    CLIP's attention pool, is part of the derivative.

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
        stages_before: How many stages before the last one. Each halves the patches that a map
            consists of, and its features know less of the whole; a ResNet has four stages.

    Returns:
        (N, rows, columns): those of :attr:`ClipTowers.grid` for the last stage, and twice, four and
        eight times as many before. Only their proportions within an image have a meaning. No maps
        for no images. The towers are left as they were.

    Raises:
        ValueError: If the image tower is a ViT that reads its class token, of an unknown kind, has
            no such stage, or images and targets do not suit it.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(64, 32))
        >>> images = torch.rand(2, 3, 64, 32)
        >>> grad_cam(towers, images, towers.encode_image(images.flip(0))).shape
        torch.Size([2, 2, 1])
        >>> grad_cam(towers, images, towers.encode_image(images), stages_before=2).shape
        torch.Size([2, 8, 4])

    References:
        Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
        Localization, ICCV 2017, eq. 1 and 2.
    """
    check_towers(_OWNER, towers)
    check_integer(_OWNER, "stages_before", stages_before, 0)
    stages = _stages(towers)
    if stages_before >= len(stages):
        raise ValueError(
            f"{_OWNER}: stages_before is {stages_before}, and {towers.name} has {len(stages)} "
            f"stages; pass at most {len(stages) - 1}."
        )

    stage = stages[-1 - stages_before]
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


def _stages(towers: ClipTowers) -> list[nn.Module]:
    """The modules whose outputs are feature maps, of which the embedding is read from the last."""
    visual: Any = towers.model.visual
    if isinstance(visual, ModifiedResNet):
        return [visual.layer1, visual.layer2, visual.layer3, visual.layer4]

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
    return blocks


def _as_positions(output: Tensor, grid: tuple[int, int]) -> Tensor:
    """Bring a feature map, or tokens whose patches come last, to (N, rows, columns, channels).

    The map of an earlier stage is a multiple of the grid.
    """
    rows, columns = grid
    if output.ndim == 3:
        patches = output[:, output.shape[1] - rows * columns :]
        return patches.reshape(-1, rows, columns, output.shape[2])

    height, width = output.shape[2:]
    scale = height // rows
    if (height, width) == (scale * rows, scale * columns):
        return output.permute(0, 2, 3, 1)
    return output
