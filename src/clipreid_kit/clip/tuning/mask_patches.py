"""Have a ViT see random patches only while it is trained."""

from typing import Any

from open_clip.transformer import VisionTransformer

from clipreid_kit._checks import check_number, fail
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
from clipreid_kit.clip.towers.patch_masking import PatchMasking, PatchMaskKind

_OWNER = "mask_patches"


def mask_patches(
    towers: ClipTowers, share: float, kind: PatchMaskKind = "drop", *, seed: int = 0
) -> None:
    """Mask random patch tokens of the image tower in training mode.

    Use it before the optimiser is made. In evaluation mode nothing is masked, and embeddings are
    those without it, to the bit. :func:`save_towers` keeps the masking, and its learned vector.

    Args:
        towers: Towers with a ViT of open_clip; changed in place: their ``patch_masking`` is new.
        share: Share of the patch tokens that is masked in each image, in [0, 1); 0 removes the
            masking.
        kind: ``"drop"`` leaves the tokens out, so that a step is faster; levels of patches are then
            an error in training mode. ``"zeros"`` and ``"learned"`` replace their embeddings. See
            :class:`PatchMasking`.
        seed: Seed of the learned vector.

    Raises:
        ValueError: If the image tower is not a ViT of open_clip, or an option is out of range.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit")
        >>> mask_patches(towers, 0.5)
        >>> towers.patch_masking
        PatchMasking(share=0.5, kind='drop')
    """
    check_towers(_OWNER, towers)
    visual: Any = towers.model.visual
    if not isinstance(visual, VisionTransformer):
        raise ValueError(
            f"{_OWNER}: The image tower of {towers.name} is not a ViT of open_clip, and has no "
            "patch tokens to mask. Mask stripes of the images instead, with StripeMasking."
        )

    check_number(_OWNER, "share", share)
    if share == 0:
        towers.patch_masking = None
        return

    weight = visual.conv1.weight
    masking = PatchMasking(weight.shape[0], share, kind, seed=seed)
    num_patches = towers.grid[0] * towers.grid[1]
    if round(share * num_patches) == num_patches:
        raise fail(_OWNER, f"a share that leaves one of {num_patches} patches", share)
    towers.patch_masking = masking.to(weight.device, weight.dtype).train(towers.training)
