"""Run a ViT of open_clip at the levels that methods train on."""

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor

from clipreid_kit.clip.towers.camera_embedding import TokenOffset
from clipreid_kit.clip.towers.geometry import OpenClip
from clipreid_kit.clip.towers.levels import PATCH_LEVELS
from clipreid_kit.clip.towers.observed import is_observed
from clipreid_kit.clip.towers.patch_masking import PatchMasking
from clipreid_kit.clip.towers.recompute import run_block

_OWNER = "encode_image_levels"


def run_vit(
    visual: OpenClip,
    images: Tensor,
    wanted: frozenset[str],
    offset: TokenOffset | None,
    masking: PatchMasking | None = None,
) -> dict[str, Tensor]:
    """Run a ViT; without patch levels, its last block runs for the class token alone.

    A last block with hooks runs for all tokens, as these expect.

    Args:
        visual: The image tower.
        images: Images of its size, on its device and in its dtype.
        wanted: Names of the levels to compute, at least one.
        offset: What to add to the tokens. ``None`` to add nothing.
        masking: How patches are masked. ``None`` to mask none.

    Returns:
        The wanted levels by name, and those that come with them at no cost.

    Raises:
        ValueError: If patch levels are wanted and the tower has none, or drops some of them.
    """
    if masking is not None and masking.kind == "drop" and wanted & PATCH_LEVELS:
        raise ValueError(
            f"{_OWNER}: Patches that are dropped leave no complete grid in training mode; replace "
            'them with mask_patches(..., kind="zeros") or kind="learned", or do not request '
            "patches."
        )
    return run_vit_blocks(visual, vit_tokens(visual, images, offset, masking), wanted)


def run_vit_blocks(
    visual: OpenClip, x: Tensor, wanted: frozenset[str], first_block: int = 0
) -> dict[str, Tensor]:
    """Run the blocks of a ViT from one on, and its head; as :func:`run_vit`.

    Args:
        visual: The image tower.
        x: What enters the first of these blocks (N, L, W).
        wanted: Names of the levels to compute, at least one.
        first_block: Number of blocks that have run already.

    Returns:
        The wanted levels by name, and those that come with them at no cost.

    Raises:
        ValueError: As for :func:`run_vit`.
    """
    wants_patches = bool(wanted & PATCH_LEVELS)
    if wants_patches:
        _check_vit_patches(visual)

    blocks = visual.transformer.resblocks
    recompute = visual.transformer.grad_checkpointing

    for block in blocks[first_block:-1]:
        x = run_block(block, x, recompute)

    outputs = {"previous": x[:, 0]}
    if wanted == {"previous"}:
        return outputs

    reads_class_token = visual.attn_pool is None and visual.pool_type == "tok"
    class_token_alone = reads_class_token and not wants_patches

    is_plain = type(blocks[-1]) is ResidualAttentionBlock and not is_observed(blocks[-1])
    if class_token_alone and is_plain:
        x = run_block(_ClassTokenOnly(blocks[-1]), x, recompute)
    else:
        x = run_block(blocks[-1], x, recompute)

    if class_token_alone:
        outputs["unprojected"] = visual.ln_post(x[:, 0])
    else:
        # open_clip has no public name for its pooling
        outputs["unprojected"], outputs["patches"] = visual._pool(x)  # noqa: SLF001

    if "projected" in wanted:
        outputs["projected"] = _project(visual, outputs["unprojected"])
    if "projected_patches" in wanted:
        outputs["projected_patches"] = _project(visual, outputs["patches"])
    return outputs


def _check_vit_patches(visual: OpenClip) -> None:
    if visual.attn_pool is not None:
        raise ValueError(
            f"{_OWNER}: A tower with attentional pooling has no patch levels; "
            "request previous, unprojected or projected."
        )

    drop_rate = getattr(visual.patch_dropout, "prob", 0.0)
    if visual.training and drop_rate > 0:
        raise ValueError(
            f"{_OWNER}: Patch dropout of {drop_rate} leaves no complete grid of patches in "
            "training mode; set `patch_dropout` to 0 or do not request patches."
        )


def vit_tokens(
    visual: OpenClip,
    images: Tensor,
    offset: TokenOffset | None,
    masking: PatchMasking | None = None,
) -> Tensor:
    """Embed the patches, put the class token first, and add camera rows and positions."""
    patches = visual.conv1(images).flatten(2).transpose(1, 2)
    masked = None if masking is None else masking.draw(patches)
    if masking is not None and masked is not None:
        patches = masking.replace(patches, masked)

    class_token = visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)

    if offset is not None:
        rows = offset.rows.to(patches.dtype).expand(patches.shape[0], -1)[:, None]
        class_token = class_token + rows
        if offset.tokens == "all":
            patches = patches + rows

    x = torch.cat([class_token, patches], dim=1)
    x = x + visual.positional_embedding.to(x.dtype)
    if masking is not None and masked is not None:
        x = torch.cat([x[:, :1], masking.drop(x[:, 1:], masked)], dim=1)

    tokens: Tensor = visual.ln_pre(visual.patch_dropout(x))
    return tokens


def _project(visual: OpenClip, tokens: Tensor) -> Tensor:
    return tokens if visual.proj is None else tokens @ visual.proj


class _ClassTokenOnly:
    """A transformer block at its class token alone: one query against the keys of all tokens."""

    def __init__(self, block: OpenClip) -> None:
        self.block = block

    def __call__(self, x: Tensor) -> Tensor:
        block = self.block
        keys = block.ln_1(x)
        x = x[:, :1] + block.ls_1(block.attention(keys[:, :1], keys, keys))
        out: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
        return out
