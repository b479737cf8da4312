"""Run an image tower: for the embedding alone, or for several levels from one forward."""

from collections.abc import Collection

from jaxtyping import Float
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_dense, describe, fail
from clipreid_kit.clip.towers.backbone import BackboneTower
from clipreid_kit.clip.towers.camera_embedding import CameraEmbedding, TokenOffset
from clipreid_kit.clip.towers.geometry import OpenClip, grid_of, image_size_of
from clipreid_kit.clip.towers.levels import LEVELS, ImageLevels, level_widths
from clipreid_kit.clip.towers.observed import is_observed
from clipreid_kit.clip.towers.patch_masking import PatchMasking
from clipreid_kit.clip.towers.resnet_forward import run_resnet
from clipreid_kit.clip.towers.timm_forward import run_timm
from clipreid_kit.clip.towers.vit_forward import run_vit

_OWNER = "encode_image_levels"
_SHORTER_IN_TRAINING = (VisionTransformer, ModifiedResNet)  # for the class token alone


def encode_images(
    model: OpenClip,
    images: Tensor,
    *,
    embed_dim: int,
    camera_embedding: CameraEmbedding | None = None,
    patch_masking: PatchMasking | None = None,
    cameras: Tensor | None = None,
    views: Tensor | None = None,
) -> Float[Tensor, "n d"]:
    """Embed images.

    In evaluation mode, without cameras, the result is open_clip's to the bit. In training mode it
    is to rounding: the last block of a ViT and the attention pool of a ResNet then run for the
    class token alone, unless they have hooks.

    Args:
        model: A model of open_clip.
        images: Images of the size that its image tower is built for.
        embed_dim: Width of the embeddings.
        camera_embedding: Embedding to add to the tokens. ``None`` to add nothing.
        patch_masking: Masking of patches in training mode. ``None`` to mask none.
        cameras: Camera of each image, or ``None``.
        views: View of each image, or ``None``.

    Returns:
        One row for each image, not normalised.

    Raises:
        ValueError: If the images, cameras or views do not suit the tower.
    """
    visual = model.visual
    _check_images(images, image_size_of(visual))
    _check_cameras(camera_embedding, cameras, views)
    images = _as_weights_are(visual, images)

    if images.shape[0] == 0:  # len() would fix the batch size of an exported graph
        return images.new_zeros(0, embed_dim)

    masking = _masking_in_training(patch_masking)
    recomputes = getattr(visual, "grad_checkpointing", False)
    runs_by_levels = recomputes or (visual.training and _may_run_shorter(visual))
    if camera_embedding is None and masking is None and not runs_by_levels:
        embeddings: Tensor = model.encode_image(images, normalize=False)
        return embeddings

    offset = _token_offset(camera_embedding, cameras, views)
    return _run_levels(visual, images, frozenset(("projected",)), offset, masking)["projected"]


def encode_levels(
    model: OpenClip,
    images: Tensor,
    levels: Collection[str],
    *,
    embed_dim: int,
    camera_embedding: CameraEmbedding | None = None,
    patch_masking: PatchMasking | None = None,
    cameras: Tensor | None = None,
    views: Tensor | None = None,
) -> ImageLevels:
    """Run an image tower once and return the requested levels.

    Unless a patch token is requested, the last block of a ViT and the attention pool of a ResNet
    run for the class token alone, which is equal to rounding.

    Args:
        model: A model of open_clip.
        images: Images of the size that its image tower is built for.
        levels: Names of the levels to return, at least one.
        embed_dim: Width of the embeddings.
        camera_embedding: Embedding to add to the tokens. ``None`` to add nothing.
        patch_masking: Masking of patches in training mode. ``None`` to mask none.
        cameras: Camera of each image, or ``None``.
        views: View of each image, or ``None``.

    Returns:
        The levels, ``None`` where not requested.

    Raises:
        ValueError: If the images, cameras or views do not suit the tower, or a level is unknown or
            one that the tower does not have.
    """
    visual = model.visual
    _check_images(images, image_size_of(visual))
    _check_cameras(camera_embedding, cameras, views)
    _check_levels(levels)
    images = _as_weights_are(visual, images)

    if images.shape[0] == 0:
        outputs = _empty_levels(visual, images, embed_dim)
    else:
        offset = _token_offset(camera_embedding, cameras, views)
        masking = _masking_in_training(patch_masking)
        outputs = _run_levels(visual, images, frozenset(levels), offset, masking)

    requested = {level: outputs[level] if level in levels else None for level in LEVELS}
    return ImageLevels(**requested, grid=grid_of(visual))


def _run_levels(
    visual: nn.Module,
    images: Tensor,
    wanted: frozenset[str],
    offset: TokenOffset | None,
    masking: PatchMasking | None,
) -> dict[str, Tensor]:
    """Run the image tower by its kind; the result may hold more levels than wanted."""
    if isinstance(visual, BackboneTower):
        return visual.run(images, wanted)
    if isinstance(visual, VisionTransformer):
        return run_vit(visual, images, wanted, offset, masking)
    if isinstance(visual, ModifiedResNet):
        return run_resnet(visual, images, wanted)
    if isinstance(visual, TimmModel):
        return run_timm(visual, images, wanted)
    raise fail("ClipTowers", "an image tower of open_clip", type(visual).__name__)


def _may_run_shorter(visual: nn.Module) -> bool:
    """Return whether a tower can run for the class token alone, and has no hooks as a whole."""
    if not isinstance(visual, _SHORTER_IN_TRAINING):
        return False
    return not is_observed(visual, getattr(visual, "transformer", visual))


def _check_images(images: Tensor, image_size: tuple[int, int]) -> None:
    """Require floating-point images (N, 3, H, W) of one size."""
    owner = "encode_image"
    if not isinstance(images, Tensor):
        raise fail(
            owner,
            "images as a tensor (N, 3, H, W)",
            type(images).__name__,
            "Transform and stack them: torch.stack([transform(image) for image in images]).",
        )

    check_dense(owner, "images", images)
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise fail(owner, "images as floating-point (N, 3, H, W)", describe(images))

    if tuple(images.shape[2:]) != image_size:
        raise fail(
            owner,
            f"images of {image_size[0]} x {image_size[1]}",
            f"{images.shape[2]} x {images.shape[3]}",
            "Resize the images, or build the towers with that image_size.",
        )


def _check_cameras(
    camera_embedding: CameraEmbedding | None, cameras: Tensor | None, views: Tensor | None
) -> None:
    if camera_embedding is None and (cameras is not None or views is not None):
        raise ValueError(
            "encode_image: These towers have no camera embedding for cameras or views; build them "
            "with num_cameras or num_views, or leave both out."
        )


def _check_levels(levels: Collection[str]) -> None:
    if isinstance(levels, str) or not levels:
        raise fail(_OWNER, "levels as a sequence of at least one name", repr(levels))

    for level in levels:
        check_choice(_OWNER, "each level", level, LEVELS)


def _as_weights_are(visual: nn.Module, images: Tensor) -> Tensor:
    """Move images to the device and dtype of the tower."""
    weight = next(visual.parameters())
    return images.to(weight.device, weight.dtype)


def _token_offset(
    camera_embedding: CameraEmbedding | None,
    cameras: Tensor | None,
    views: Tensor | None,
) -> TokenOffset | None:
    if camera_embedding is None:
        return None
    return TokenOffset(camera_embedding(cameras, views), camera_embedding.tokens)


def _masking_in_training(masking: PatchMasking | None) -> PatchMasking | None:
    """The masking in training mode; ``None`` in evaluation mode."""
    return masking if masking is not None and masking.training else None


def _empty_levels(visual: nn.Module, images: Tensor, embed_dim: int) -> dict[str, Tensor]:
    """Levels of no images, with the widths that images would have."""
    previous_width, width = level_widths(visual)
    patch_width = visual.shape.patch_width if isinstance(visual, BackboneTower) else width
    rows, columns = grid_of(visual)
    num_patches = rows * columns

    return {
        "previous": images.new_zeros(0, previous_width),
        "unprojected": images.new_zeros(0, width),
        "projected": images.new_zeros(0, embed_dim),
        "patches": images.new_zeros(0, num_patches, patch_width),
        "projected_patches": images.new_zeros(0, num_patches, embed_dim),
    }
