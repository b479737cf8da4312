"""Run a trunk of timm at the levels that methods train on."""

import inspect
from typing import Any

from torch import Tensor

from clipreid_kit.clip.towers.trunk_features import TrunkFeatures

Timm = Any  # a trunk of timm, or open_clip's module around one, whose attributes have no types

_OWNER = "encode_image_levels"


def run_timm(visual: Timm, images: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
    """Run a trunk of timm with all its tokens.

    Args:
        visual: The image tower around the trunk.
        images: Images of its size, on its device and in its dtype.
        wanted: Names of the levels to compute, at least one.

    Returns:
        The wanted levels by name, and those that come with them at no cost.

    Raises:
        ValueError: If projected patches are wanted of a tower that projects what it has pooled.
    """
    if wanted == {"projected"}:
        return {"projected": visual(images)}

    trunk = visual.trunk
    final, features = _run_trunk(trunk, images)
    outputs = {
        "previous": features.previous,
        "unprojected": features.pooled,
        "patches": features.patches,
    }

    if "projected" in wanted:
        outputs["projected"] = visual.head(trunk.forward_head(final))

    if "projected_patches" in wanted:
        check_projects_patches(trunk)
        tokens = trunk.head_drop(trunk.fc_norm(features.patches))
        outputs["projected_patches"] = visual.head(trunk.head(tokens))
    return outputs


def timm_features(trunk: Timm, images: Tensor) -> TrunkFeatures:
    """Run a trunk of timm at all its levels.

    Args:
        trunk: The trunk.
        images: Images of its size, on its device and in its dtype.

    Returns:
        The levels.
    """
    return _run_trunk(trunk, images)[1]


def check_projects_patches(trunk: Timm) -> None:
    """Raise ValueError if a trunk has no head that its patch tokens could pass one by one."""
    if not hasattr(trunk, "fc_norm") or getattr(trunk, "attn_pool", None) is not None:
        raise ValueError(
            f"{_OWNER}: This tower projects what it has pooled, so it has no "
            "projected_patches; request patches instead."
        )


def _run_trunk(trunk: Timm, images: Tensor) -> tuple[Tensor, TrunkFeatures]:
    """Run a trunk; return its last output as it is, and all levels."""
    num_prefix = int(getattr(trunk, "num_prefix_tokens", 0)) if hasattr(trunk, "blocks") else 0
    options: dict[str, Any] = {}
    if num_prefix and _returns_prefix_tokens(trunk):
        options = {"output_fmt": "NLC", "return_prefix_tokens": True}

    final, (before_last, last) = trunk.forward_intermediates(images, indices=2, **options)
    if options:
        previous = _class_token_or_mean(trunk, *before_last)
        grid = _token_grid(trunk, final.shape[1] - num_prefix, images)
    else:
        previous = before_last.mean(dim=(2, 3))
        grid = (int(last.shape[2]), int(last.shape[3]))

    if final.ndim == 3:
        patches = final[:, final.shape[1] - grid[0] * grid[1] :]
    elif getattr(trunk, "output_fmt", "NCHW") == "NHWC":
        patches = final.flatten(1, 2)
    else:
        patches = final.flatten(2).transpose(1, 2)

    pooled = trunk.forward_head(final, pre_logits=True)
    return final, TrunkFeatures(previous, patches, pooled, grid)


def _class_token_or_mean(trunk: Timm, patches: Tensor, prefix_tokens: Tensor) -> Tensor:
    """Reduce the output of a block to one row for each image."""
    row: Tensor = patches.mean(dim=1) if trunk.cls_token is None else prefix_tokens[:, 0]
    return row


def _returns_prefix_tokens(trunk: Timm) -> bool:
    """Whether a ViT also returns its class token at each block, and knows its grid."""
    parameters = inspect.signature(trunk.forward_intermediates).parameters
    knows_grid = hasattr(getattr(trunk, "patch_embed", None), "dynamic_feat_size")
    return knows_grid and "return_prefix_tokens" in parameters


def _token_grid(trunk: Timm, num_tokens: int, images: Tensor) -> tuple[int, int]:
    """(rows, columns) of the patch tokens of a ViT."""
    rows, columns = trunk.patch_embed.dynamic_feat_size(tuple(images.shape[2:]))
    if rows * columns == num_tokens:
        return int(rows), int(columns)
    return 1, num_tokens
