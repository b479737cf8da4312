"""Towers put together: a model built, its weights loaded, its geometry changed, in the order that loses nothing."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from clipreid_kit._checks import fail
from clipreid_kit.clip.towers.architecture_check import check_architecture
from clipreid_kit.clip.towers.camera_embedding import CameraEmbedding
from clipreid_kit.clip.towers.geometry import has_own_table_rows, set_geometry
from clipreid_kit.clip.towers.grid import Geometry
from clipreid_kit.clip.towers.levels import level_widths, takes_shift
from clipreid_kit.clip.towers.load_weights import load_weights, read_weights
from clipreid_kit.clip.towers.model_catalogue import WeightSource, build_model
from clipreid_kit.clip.towers.state_dict_layout import looks_like_openai

if TYPE_CHECKING:
    from clipreid_kit.clip.towers.clip_towers import ClipTowers


def assemble(
    kind: "type[ClipTowers]",
    name: str,
    config: Mapping[str, Any],
    source: WeightSource,
    geometry: Geometry = Geometry(),  # noqa: B008 (an immutable tuple)
    seed: int = 0,
) -> "ClipTowers":
    """Build towers from a configuration and a source of weights.

    Args:
        kind: The class to make.
        name: What to call the towers.
        config: The configuration of open_clip.
        source: Where the weights come from.
        geometry: What to change about the image tower.
        seed: Seed of random weights.

    Returns:
        The towers on the CPU, in float32 and in training mode.

    Raises:
        ValueError: If the weights cannot be read, belong to another model, or the geometry is impossible.
    """
    state = None if source.path is None else read_weights(source.path)
    if state is not None:
        check_architecture(name, config, state)
        if looks_like_openai(state):
            config = {**config, "quick_gelu": True}
    if source.quick_gelu:
        config = {**config, "quick_gelu": True}
    model: Any = build_model(config, seed)
    towers = kind(
        model, name=name, config=config, image_mean=source.image_mean, image_std=source.image_std
    )
    towers.position_resize = geometry.position_resize
    # a table with the native number of rows is native, also where the wanted geometry has as many patches
    native_first = state is not None and (
        geometry == Geometry() or has_own_table_rows(model.visual, state)
    )
    if state is not None and native_first:
        towers.load_report = load_weights(towers, state)
    set_geometry(model.visual, geometry)
    if state is not None and not native_first:
        towers.load_report = load_weights(towers, state)
    return towers


def build_camera_embedding(
    visual: nn.Module, num_cameras: int, num_views: int, seed: int = 0
) -> CameraEmbedding:
    """Build the camera embedding for an image tower.

    Raises:
        ValueError: If nothing can be added to the tokens of that tower.
    """
    if not takes_shift(visual):
        raise fail(
            "ClipTowers",
            "cameras and views for a ViT of open_clip only, as CLIP-ReID has it",
            type(getattr(visual, "trunk", visual)).__name__,
            "Leave num_cameras and num_views at 0.",
        )
    return CameraEmbedding(
        level_widths(visual)[0], num_cameras=num_cameras, num_views=num_views, seed=seed
    )
