"""Run a ResNet of open_clip at the levels that methods train on."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipreid_kit.clip.towers.geometry import OpenClip
from clipreid_kit.clip.towers.observed import is_observed, is_plain_linear
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
        pooled = pool_every_position(visual.attnpool, x)
        outputs["projected"] = pooled[:, 0]
        outputs["projected_patches"] = pooled[:, 1:]
    elif "projected" in wanted:
        outputs["projected"] = _pool(visual.attnpool, x)
    return outputs


def _pool(pool: OpenClip, x: Tensor) -> Tensor:
    """Pool a feature map by the shortest way that runs all hooks and adapters."""
    if is_observed(pool):
        pooled: Tensor = pool(x)
        return pooled
    if is_plain_linear(pool.k_proj) and is_plain_linear(pool.v_proj):
        return pool_mean_token(pool, x)
    return pool_every_position(pool, x)[:, 0]


def pool_every_position(pool: OpenClip, x: Tensor) -> Float[Tensor, "n t d"]:
    """Pool a feature map by attention; queries are its mean and every position."""
    tokens = _tokens(pool, x)
    query, key, value = (
        _by_head(project(tokens), pool.num_heads).transpose(1, 2)
        for project in (pool.q_proj, pool.k_proj, pool.v_proj)
    )

    mixed = F.scaled_dot_product_attention(query, key, value)
    pooled: Tensor = pool.c_proj(mixed.transpose(1, 2).flatten(2))
    return pooled


def pool_mean_token(pool: OpenClip, x: Tensor) -> Float[Tensor, "n d"]:
    """Pool a feature map by attention for the query of its mean alone.

    It is row 0 of :func:`pool_every_position`, to rounding. There, every token t has a key
    ``k = W_k t + b_k`` and a value ``v = W_v t + b_v`` in each head. For a single query q,

        q . k = (W_k' q) . t + q . b_k,        sum of a v = W_v (sum of a t) + b_v,

    so each matrix is applied once to an image, and not once to every token.
    """
    tokens = _tokens(pool, x)
    query = _by_head(pool.q_proj(tokens[:, 0]), pool.num_heads)  # (N, H, D / H)
    query = query * query.shape[2] ** -0.5  # before any product: float16 ends at 65504

    # Similarity of the query to every token's key.
    key_weight = pool.k_proj.weight.unflatten(0, (pool.num_heads, -1))
    key_bias = _by_head(pool.k_proj.bias, pool.num_heads)
    on_tokens = torch.einsum("nhd,hdw->nhw", query, key_weight)
    similarity = on_tokens @ tokens.transpose(1, 2) + (query * key_bias).sum(2, keepdim=True)

    # Mixture of the tokens, and its value.
    attention = similarity.softmax(dim=2)
    value_weight = pool.v_proj.weight.unflatten(0, (pool.num_heads, -1))
    value = torch.einsum("nhw,hdw->nhd", attention @ tokens, value_weight)

    pooled: Tensor = pool.c_proj(value.flatten(1) + pool.v_proj.bias)
    return pooled


def _tokens(pool: OpenClip, x: Tensor) -> Tensor:
    """The mean of a feature map and its positions, with position embeddings."""
    tokens = x.flatten(2).transpose(1, 2)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
    placed: Tensor = tokens + pool.positional_embedding.to(tokens.dtype)
    return placed


def _by_head(x: Tensor, num_heads: int) -> Tensor:
    """Divide the last dimension among heads: (..., W) to (..., H, W / H)."""
    return x.view(*x.shape[:-1], num_heads, -1)
