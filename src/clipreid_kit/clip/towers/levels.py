"""The levels of an image tower that methods train on: their names, result types and widths."""

from typing import Any, Literal, NamedTuple

from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from clipreid_kit.clip.towers.backbone import BackboneTower

Level = Literal["previous", "unprojected", "projected", "patches", "projected_patches"]

LEVELS: tuple[Level, ...] = ("previous", "unprojected", "projected", "patches", "projected_patches")
PATCH_LEVELS: frozenset[str] = frozenset(("patches", "projected_patches"))


class ImageLevels(NamedTuple):
    """Output of an image tower at each level; ``None`` for a level that was not requested.

    Attributes:
        previous: (N, ``previous_width``): the class token after the last block but one, before any
            normalisation. For a ResNet, the mean of ``layer3``'s feature map; for a tower without a
            class token (SigLIP), the mean of the patch tokens after that block.
        unprojected: (N, ``width``): the class token after the last normalisation, before the
            projection. For a ResNet, the mean of ``layer4``'s feature map; for a tower that pools
            in another way, the pooled token.
        projected: (N, ``embed_dim``): the embedding, not normalised.
        patches: (N, T, ``width``): the patch tokens at the level ``unprojected``, row by row of the
            grid. For a ResNet, the positions of ``layer4``'s feature map.
        projected_patches: (N, T, ``embed_dim``): the patch tokens through the projection. For a
            ResNet, the output of the attention pool at each position.
        grid: (rows, columns) of the patch tokens.
    """

    previous: Tensor | None
    unprojected: Tensor | None
    projected: Tensor | None
    patches: Tensor | None
    projected_patches: Tensor | None
    grid: tuple[int, int]

    def __repr__(self) -> str:
        """Show the shape of each level instead of its values."""
        shapes = [f"{level}={_shape(getattr(self, level))}" for level in LEVELS]
        return f"ImageLevels({', '.join(shapes)}, grid={self.grid})"


class TowerEmbeddings(NamedTuple):
    """Embeddings from one forward of both towers; ``None`` for a tower that had no input."""

    image: Tensor | None
    text: Tensor | None

    def __repr__(self) -> str:
        """Show the shapes of the embeddings instead of their values."""
        return f"TowerEmbeddings(image={_shape(self.image)}, text={_shape(self.text)})"


def level_widths(visual: nn.Module) -> tuple[int, int]:
    """Return the widths of ``previous`` and ``unprojected`` for an image tower."""
    tower: Any = visual

    if isinstance(visual, BackboneTower):
        return visual.shape.previous_width, visual.shape.width

    if isinstance(visual, VisionTransformer):
        return int(tower.conv1.out_channels), int(tower.ln_post.normalized_shape[0])

    if isinstance(visual, ModifiedResNet):
        width = int(tower.attnpool.q_proj.in_features)
        return width // 2, width

    # a trunk of timm: the stages differ in width only where it lists several
    width = int(tower.trunk.num_features)
    channels = [int(stage["num_chs"]) for stage in getattr(tower.trunk, "feature_info", [])]
    if len(channels) > 1:
        return channels[-2], width
    return width, width


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)
