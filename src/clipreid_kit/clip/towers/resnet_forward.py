"""Run a ResNet of open_clip at the levels that methods train on."""

import torch
import torch.nn.functional as F
from torch import Tensor

from clipreid_kit.clip.towers.geometry import OpenClip
from clipreid_kit.clip.towers.recompute import run_block


def run_resnet(visual: OpenClip, images: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
    """Run a ResNet; without projected patches, its attention pool runs for the mean token alone.

    Args:
        visual: The image tower.
        images: Images of its size, on its device and in its dtype.
        wanted: Names of the levels to compute, at least one.

    Returns:
        The wanted levels by name, and those that come with them at no cost.
    """
    recompute = getattr(visual, "grad_checkpointing", False)
    outputs: dict[str, Tensor] = {}

    x = images
    for stage in (visual.stem, visual.layer1, visual.layer2, visual.layer3):
        x = run_block(stage, x, recompute, batch_norm_owner=visual)

    if "previous" in wanted:
        outputs["previous"] = x.mean(dim=(2, 3))
    if wanted == {"previous"}:
        return outputs

    x = run_block(visual.layer4, x, recompute, batch_norm_owner=visual)
    outputs["unprojected"] = x.mean(dim=(2, 3))
    outputs["patches"] = x.flatten(2).transpose(1, 2)

    if "projected_patches" in wanted:
        tokens = _attention_pool(visual.attnpool, x, every_position=True)
        outputs["projected"] = tokens[:, 0]
        outputs["projected_patches"] = tokens[:, 1:]
    elif "projected" in wanted:
        outputs["projected"] = _attention_pool(visual.attnpool, x, every_position=False)[:, 0]
    return outputs


def _attention_pool(pool: OpenClip, x: Tensor, *, every_position: bool) -> Tensor:
    """Pool a feature map; the query is its mean, or its mean and every position."""
    tokens = x.flatten(2).transpose(1, 2)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
    tokens = tokens + pool.positional_embedding.to(tokens.dtype)

    query = pool.q_proj(tokens if every_position else tokens[:, :1])
    key = pool.k_proj(tokens)
    value = pool.v_proj(tokens)
    heads = [
        part.unflatten(2, (pool.num_heads, -1)).transpose(1, 2) for part in (query, key, value)
    ]

    mixed = F.scaled_dot_product_attention(*heads)
    pooled: Tensor = pool.c_proj(mixed.transpose(1, 2).flatten(2))
    return pooled
