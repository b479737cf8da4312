"""The levels of an image tower that methods train on, from one forward; only what is asked for is computed."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.clip.checkpointing import run_block
from clipreid_kit.clip.grid import OpenClip, check_images, grid_of, image_size_of

if TYPE_CHECKING:
    from clipreid_kit.clip.towers import ClipTowers

Level = Literal["previous", "unprojected", "projected", "patches", "projected_patches"]

LEVELS: tuple[Level, ...] = ("previous", "unprojected", "projected", "patches", "projected_patches")
_OWNER = "encode_image_levels"
_PATCHES = frozenset(("patches", "projected_patches"))


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


class Shift(NamedTuple):
    """What is added to the tokens before the position table: rows (N, W) or (W,), to one token or to all."""

    rows: Tensor
    tokens: Literal["class", "all"]


def run_image_tower(
    towers: "ClipTowers",
    images: Tensor,
    levels: Collection[str] | None,
    cameras: Tensor | None,
    views: Tensor | None,
) -> ImageLevels:
    """Run the image tower of towers, whatever it is, on pictures that are checked here.

    Args:
        towers: The towers.
        images: Pictures of their size.
        levels: What to keep; ``None`` for the embedding alone, with the bits that open_clip gives.
        cameras: Camera of each picture, or ``None``.
        views: View of each picture, or ``None``.

    Returns:
        The levels.

    Raises:
        ValueError: If the pictures, the levels or the cameras are not of this tower.
    """
    visual = towers.model.visual
    check_images(images, image_size_of(visual))
    embedding = towers.camera_embedding
    if embedding is None and (cameras is not None or views is not None):
        raise fail("encode_image", "no cameras and views", "some", "Build the towers with num_cameras or num_views.")
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
    visual: nn.Module, images: Float[Tensor, "n 3 h w"], wanted: Collection[str], shift: Shift | None = None
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
        found = _vit(visual, images, frozenset(wanted), shift)
    elif isinstance(visual, ModifiedResNet):
        found = _resnet(visual, images, frozenset(wanted))
    elif isinstance(visual, TimmModel):
        found = _timm(visual, images, frozenset(wanted))
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
    return ImageLevels(previous, unprojected, projected, patches, projected_patches, grid_of(visual))


def _nothing(visual: nn.Module, images: Tensor, wanted: Collection[str], embed_dim: int) -> ImageLevels:
    previous, width = level_widths(visual)
    rows, columns = grid_of(visual)
    widths = {"previous": previous, "unprojected": width, "patches": width}
    found: dict[str, Tensor] = {
        level: images.new_zeros(0, *([rows * columns] if level in _PATCHES else []), widths.get(level, embed_dim))
        for level in LEVELS
    }
    return _levels(visual, found, wanted)


def _vit(visual: OpenClip, images: Tensor, wanted: frozenset[str], shift: Shift | None) -> dict[str, Tensor]:
    if wanted & _PATCHES:
        if visual.attn_pool is not None:
            raise fail(_OWNER, "levels that the tower has", "patches of a tower with attentional pooling")
        if visual.training and getattr(visual.patch_dropout, "prob", 0.0) > 0:
            raise fail(_OWNER, "no patch dropout where patches are asked for", visual.patch_dropout.prob)
    blocks = visual.transformer.resblocks
    checkpointed = visual.transformer.grad_checkpointing
    x = _vit_tokens(visual, images, shift)
    for block in blocks[:-1]:
        x = run_block(block, x, checkpointed)
    found = {"previous": x[:, 0]}
    if wanted == {"previous"}:
        return found
    plain = visual.attn_pool is None and visual.pool_type == "tok"
    if plain and not wanted & _PATCHES and type(blocks[-1]) is ResidualAttentionBlock:
        x = run_block(_ClassTokenOnly(blocks[-1]), x, checkpointed)
    else:
        x = run_block(blocks[-1], x, checkpointed)
    if plain and not wanted & _PATCHES:
        found["unprojected"] = visual.ln_post(x[:, 0])
    else:
        found["unprojected"], found["patches"] = visual._pool(x)  # noqa: SLF001 (pooling has no public name there)
    return {**found, **_projected(visual, found, wanted)}


def _vit_tokens(visual: OpenClip, images: Tensor, shift: Shift | None) -> Tensor:
    x = visual.conv1(images).flatten(2).transpose(1, 2)
    first = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
    if shift is not None:
        rows = shift.rows.to(x.dtype).expand(x.shape[0], -1)[:, None]
        first = first + rows
        x = x + rows if shift.tokens == "all" else x
    x = torch.cat([first, x], dim=1) + visual.positional_embedding.to(x.dtype)
    tokens: Tensor = visual.ln_pre(visual.patch_dropout(x))
    return tokens


class _ClassTokenOnly:
    """A block that is read at its class token alone: every token is a key, one is a query."""

    def __init__(self, block: OpenClip) -> None:
        self.block = block

    def __call__(self, x: Tensor) -> Tensor:
        block = self.block
        keys = block.ln_1(x)
        x = x[:, :1] + block.ls_1(block.attention(keys[:, :1], keys, keys))
        out: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
        return out


def _projected(visual: OpenClip, found: dict[str, Tensor], wanted: frozenset[str]) -> dict[str, Tensor]:
    projected = {}
    for level, source in (("projected", "unprojected"), ("projected_patches", "patches")):
        if level in wanted:
            projected[level] = found[source] if visual.proj is None else found[source] @ visual.proj
    return projected


def _resnet(visual: OpenClip, images: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
    checkpointed = getattr(visual, "grad_checkpointing", False)
    x = images
    for stage in (visual.stem, visual.layer1, visual.layer2, visual.layer3):
        x = run_block(stage, x, checkpointed, owner=visual)
    found = {"previous": x.mean(dim=(2, 3))} if "previous" in wanted else {}
    if wanted == {"previous"}:
        return found
    x = run_block(visual.layer4, x, checkpointed, owner=visual)
    found.update(unprojected=x.mean(dim=(2, 3)), patches=x.flatten(2).transpose(1, 2))
    if "projected_patches" in wanted:
        tokens = _attention_pool(visual.attnpool, x, every_place=True)
        found.update(projected=tokens[:, 0], projected_patches=tokens[:, 1:])
    elif "projected" in wanted:
        found["projected"] = _attention_pool(visual.attnpool, x, every_place=False)[:, 0]
    return found


def _attention_pool(pool: OpenClip, x: Tensor, *, every_place: bool) -> Tensor:
    """Pool as OpenAI's model does; the query is the mean alone, or the mean and every place of the map."""
    tokens = x.flatten(2).transpose(1, 2)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
    tokens = tokens + pool.positional_embedding.to(tokens.dtype)
    query = pool.q_proj(tokens if every_place else tokens[:, :1])
    heads = [
        part.unflatten(2, (pool.num_heads, -1)).transpose(1, 2)
        for part in (query, pool.k_proj(tokens), pool.v_proj(tokens))
    ]
    mixed = F.scaled_dot_product_attention(*heads)
    pooled: Tensor = pool.c_proj(mixed.transpose(1, 2).flatten(2))
    return pooled


def _timm(visual: OpenClip, images: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
    trunk = visual.trunk
    if wanted == {"projected"}:
        return {"projected": visual(images)}
    tokens_first = hasattr(trunk, "blocks")
    prefix = int(getattr(trunk, "num_prefix_tokens", 0)) if tokens_first else 0
    options: dict[str, Any] = {"output_fmt": "NLC", "return_prefix_tokens": True} if prefix else {}
    final, (before, _) = trunk.forward_intermediates(images, indices=2, **options)
    found = {}
    if prefix:
        patches, first = before
        found["previous"] = first[:, 0] if trunk.cls_token is not None else patches.mean(dim=1)
    else:
        found["previous"] = before.mean(dim=(2, 3))
    found["unprojected"] = trunk.forward_head(final, pre_logits=True)
    found["patches"] = final[:, prefix:] if final.ndim == 3 else final.flatten(2).transpose(1, 2)
    if "projected" in wanted:
        found["projected"] = visual.head(trunk.forward_head(final))
    if "projected_patches" in wanted:
        if final.ndim != 3 or getattr(trunk, "attn_pool", None) is not None:
            raise fail(_OWNER, "levels that the tower has", "projected_patches of a tower that projects what it pooled")
        found["projected_patches"] = visual.head(trunk.head(trunk.head_drop(trunk.fc_norm(found["patches"]))))
    return found
