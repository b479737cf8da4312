"""What each kind of image tower computes for its levels: ViTs and ResNets of open_clip, trunks of timm."""

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor

from clipreid_kit._checks import fail
from clipreid_kit.clip.towers.camera_embedding import Shift
from clipreid_kit.clip.towers.grid import OpenClip
from clipreid_kit.clip.tuning.gradient_checkpointing import run_block

PATCHES = frozenset(("patches", "projected_patches"))
_OWNER = "encode_image_levels"


def vit_levels(
    visual: OpenClip, images: Tensor, wanted: frozenset[str], shift: Shift | None
) -> dict[str, Tensor]:
    """Run a ViT of open_clip; without patches the last block runs for the class token alone."""
    if wanted & PATCHES:
        if visual.attn_pool is not None:
            raise fail(
                _OWNER, "levels that the tower has", "patches of a tower with attentional pooling"
            )
        if visual.training and getattr(visual.patch_dropout, "prob", 0.0) > 0:
            raise fail(
                _OWNER, "no patch dropout where patches are asked for", visual.patch_dropout.prob
            )
    blocks = visual.transformer.resblocks
    checkpointed = visual.transformer.grad_checkpointing
    x = _vit_tokens(visual, images, shift)
    for block in blocks[:-1]:
        x = run_block(block, x, checkpointed)
    found = {"previous": x[:, 0]}
    if wanted == {"previous"}:
        return found
    plain = visual.attn_pool is None and visual.pool_type == "tok"
    if plain and not wanted & PATCHES and type(blocks[-1]) is ResidualAttentionBlock:
        x = run_block(_ClassTokenOnly(blocks[-1]), x, checkpointed)
    else:
        x = run_block(blocks[-1], x, checkpointed)
    if plain and not wanted & PATCHES:
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


def _projected(
    visual: OpenClip, found: dict[str, Tensor], wanted: frozenset[str]
) -> dict[str, Tensor]:
    projected = {}
    for level, source in (("projected", "unprojected"), ("projected_patches", "patches")):
        if level in wanted:
            projected[level] = found[source] if visual.proj is None else found[source] @ visual.proj
    return projected


def resnet_levels(visual: OpenClip, images: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
    """Run a ResNet of open_clip; without projected patches its attention pool runs for the mean token alone."""
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


def timm_levels(visual: OpenClip, images: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
    """Run a trunk of timm, whole."""
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
            raise fail(
                _OWNER,
                "levels that the tower has",
                "projected_patches of a tower that projects what it pooled",
            )
        found["projected_patches"] = visual.head(
            trunk.head(trunk.head_drop(trunk.fc_norm(found["patches"])))
        )
    return found
