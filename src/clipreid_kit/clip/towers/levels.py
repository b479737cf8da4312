"""The levels of an image tower that methods train on, from one forward; only what is asked for is computed."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jaxtyping import Float
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.clip.towers.camera_embedding import Shift
from clipreid_kit.clip.towers.grid import check_images, grid_of, image_size_of
from clipreid_kit.clip.towers.image_forward import PATCHES, resnet_levels, timm_levels, vit_levels

if TYPE_CHECKING:
    from clipreid_kit.clip.towers.clip_towers import ClipTowers

Level = Literal["previous", "unprojected", "projected", "patches", "projected_patches"]

LEVELS: tuple[Level, ...] = ("previous", "unprojected", "projected", "patches", "projected_patches")
_OWNER = "encode_image_levels"


class ImageLevels(NamedTuple):
    """What an image tower gives at each level; ``None`` for a level that was not asked for.

    Attributes:
        previous: (N, ``previous_width``): the class token after the last block but one, before any
            normalisation; the mean of ``layer3``'s map for ResNets, and of that block's patch tokens for
            towers without a class token (SigLIP).
        unprojected: (N, ``width``): the class token after the last normalisation, before the projection; the
            mean of ``layer4``'s map for ResNets, the pooled token where a tower pools in another way.
        projected: (N, ``embed_dim``): the embedding, not normalised.
        patches: (N, T, ``width``): the patch tokens beside ``unprojected``, row by row of the grid; the places
            of ``layer4``'s map for ResNets.
        projected_patches: (N, T, ``embed_dim``): the patch tokens through the projection; for ResNets what the
            attention pool gives for each place.
        grid: (rows, columns) of the patch tokens.
    """

    previous: Tensor | None
    unprojected: Tensor | None
    projected: Tensor | None
    patches: Tensor | None
    projected_patches: Tensor | None
    grid: tuple[int, int]


class TowerEmbeddings(NamedTuple):
    """What one forward of both towers gives; ``None`` for a tower that had no input."""

    image: Tensor | None
    text: Tensor | None


def run_image_tower(
    towers: "ClipTowers",
    images: Tensor,
    levels: Collection[str] | None,
    cameras: Tensor | None,
    views: Tensor | None,
    *,
    shifted: bool = True,
) -> ImageLevels:
    """Run the image tower of towers, whatever it is, on pictures that are checked here.

    Args:
        towers: The towers.
        images: Pictures of their size.
        levels: What to keep; ``None`` for the embedding alone, with the bits that open_clip gives.
        cameras: Camera of each picture, or ``None``.
        views: View of each picture, or ``None``.
        shifted: Whether the towers' camera embedding takes part, if they have one.

    Returns:
        The levels.

    Raises:
        ValueError: If the pictures, the levels or the cameras are not of this tower.
    """
    visual = towers.model.visual
    check_images(images, image_size_of(visual))
    embedding = towers.camera_embedding if shifted else None
    if embedding is None and (cameras is not None or views is not None):
        raise fail(
            "encode_image",
            "no cameras and views",
            "some",
            "Build the towers with num_cameras or num_views.",
        )
    weight = next(visual.parameters())
    images = images.to(weight.device, weight.dtype)
    if levels is not None:
        _check_levels(levels)
    if images.shape[0] == 0:  # len() would fix the batch size of an exported graph
        return _nothing(visual, images, levels or ("projected",), towers.embed_dim)
    shift = None if embedding is None else Shift(embedding(cameras, views), embedding.tokens)
    if levels is None:
        levels = ("projected",)
        if shift is None and not getattr(visual, "grad_checkpointing", False):
            projected = towers.model.encode_image(images, normalize=False)
            return ImageLevels(None, None, projected, None, None, grid_of(visual))
    return image_levels(visual, images, levels, shift)


def image_levels(
    visual: nn.Module,
    images: Float[Tensor, "n 3 h w"],
    wanted: Collection[str],
    shift: Shift | None = None,
) -> ImageLevels:
    """Run an image tower and keep the levels that are asked for.

    Where no patch token is asked for, the last block of a ViT and the attention pool of a ResNet run for the
    class token alone, which is equal to rounding.

    Args:
        visual: The image tower of an open_clip model.
        images: Pictures of its size.
        wanted: Names of :data:`Level`, at least one.
        shift: What to add to the tokens; ``None`` for nothing.

    Returns:
        The levels.

    Raises:
        ValueError: If a level is unknown, or the tower does not have it.
    """
    _check_levels(wanted)
    if isinstance(visual, VisionTransformer):
        found = vit_levels(visual, images, frozenset(wanted), shift)
    elif isinstance(visual, ModifiedResNet):
        found = resnet_levels(visual, images, frozenset(wanted))
    elif isinstance(visual, TimmModel):
        found = timm_levels(visual, images, frozenset(wanted))
    else:
        raise fail("ClipTowers", "an image tower of open_clip", type(visual).__name__)
    return _levels(visual, found, wanted)


def level_widths(visual: nn.Module) -> tuple[int, int]:
    """Tell the widths of ``previous`` and ``unprojected`` for an image tower."""
    tower: Any = visual
    if isinstance(visual, VisionTransformer):
        return int(tower.conv1.out_channels), int(tower.ln_post.normalized_shape[0])
    if isinstance(visual, ModifiedResNet):
        width = int(tower.attnpool.q_proj.in_features)
        return width // 2, width
    trunk = tower.trunk
    channels = [int(stage["num_chs"]) for stage in getattr(trunk, "feature_info", [])]
    return channels[-2] if len(channels) > 1 else int(trunk.num_features), int(trunk.num_features)


def takes_shift(visual: nn.Module) -> bool:
    """Say whether camera rows can be added to the tokens of an image tower."""
    return isinstance(visual, VisionTransformer)


def _check_levels(wanted: Collection[str]) -> None:
    if isinstance(wanted, str) or not wanted:
        raise fail(_OWNER, "levels as a sequence of names, at least one", repr(wanted))
    for level in wanted:
        check_choice(_OWNER, "each level", level, LEVELS)


def _levels(visual: nn.Module, found: dict[str, Tensor], wanted: Collection[str]) -> ImageLevels:
    previous, unprojected, projected, patches, projected_patches = (
        found[level] if level in wanted else None for level in LEVELS
    )
    return ImageLevels(
        previous, unprojected, projected, patches, projected_patches, grid_of(visual)
    )


def _nothing(
    visual: nn.Module, images: Tensor, wanted: Collection[str], embed_dim: int
) -> ImageLevels:
    previous, width = level_widths(visual)
    rows, columns = grid_of(visual)
    widths = {"previous": previous, "unprojected": width, "patches": width}
    found: dict[str, Tensor] = {
        level: images.new_zeros(
            0, *([rows * columns] if level in PATCHES else []), widths.get(level, embed_dim)
        )
        for level in LEVELS
    }
    return _levels(visual, found, wanted)
