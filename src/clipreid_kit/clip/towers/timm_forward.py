"""Run a trunk of timm at the levels that methods train on."""

from typing import Any

from torch import Tensor

from clipreid_kit.clip.towers.geometry import OpenClip

_OWNER = "encode_image_levels"


def run_timm(visual: OpenClip, images: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
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
    num_prefix = int(getattr(trunk, "num_prefix_tokens", 0)) if hasattr(trunk, "blocks") else 0
    options: dict[str, Any] = {}
    if num_prefix:
        options = {"output_fmt": "NLC", "return_prefix_tokens": True}
    final, (before_last, _) = trunk.forward_intermediates(images, indices=2, **options)

    outputs: dict[str, Tensor] = {}
    outputs["previous"] = _timm_previous(trunk, before_last, has_prefix=bool(num_prefix))
    outputs["unprojected"] = trunk.forward_head(final, pre_logits=True)

    is_sequence = final.ndim == 3
    outputs["patches"] = final[:, num_prefix:] if is_sequence else final.flatten(2).transpose(1, 2)

    if "projected" in wanted:
        outputs["projected"] = visual.head(trunk.forward_head(final))

    if "projected_patches" in wanted:
        if not is_sequence or getattr(trunk, "attn_pool", None) is not None:
            raise ValueError(
                f"{_OWNER}: This tower projects what it has pooled, so it has no "
                "projected_patches; request patches instead."
            )
        tokens = trunk.head_drop(trunk.fc_norm(outputs["patches"]))
        outputs["projected_patches"] = visual.head(trunk.head(tokens))
    return outputs


def _timm_previous(trunk: OpenClip, before_last: OpenClip, *, has_prefix: bool) -> Tensor:
    """Reduce the output of the last block but one to one row for each image."""
    if not has_prefix:
        mean: Tensor = before_last.mean(dim=(2, 3))
        return mean

    patches, prefix_tokens = before_last
    row: Tensor = patches.mean(dim=1) if trunk.cls_token is None else prefix_tokens[:, 0]
    return row
