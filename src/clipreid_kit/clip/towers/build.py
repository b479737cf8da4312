"""Build a model at the requested geometry: create it, load its weights, resize its table."""

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any, NamedTuple

from open_clip import CLIP, CoCa, CustomTextCLIP
from torch import Tensor, nn

from clipreid_kit._checks import fail
from clipreid_kit.clip.towers.architecture_check import check_architecture
from clipreid_kit.clip.towers.camera_embedding import CameraEmbedding, accepts_camera_embedding
from clipreid_kit.clip.towers.geometry import Geometry
from clipreid_kit.clip.towers.levels import level_widths
from clipreid_kit.clip.towers.load_weights import LoadReport, load_weights
from clipreid_kit.clip.towers.model_catalogue import WeightSource, build_model
from clipreid_kit.clip.towers.normalisation import Colour
from clipreid_kit.clip.towers.position_embedding import PositionResize
from clipreid_kit.clip.towers.position_table import has_native_table_rows
from clipreid_kit.clip.towers.read_weights import read_weights
from clipreid_kit.clip.towers.set_geometry import set_geometry
from clipreid_kit.clip.towers.state_dict_layout import adapt_to_towers, is_openai_layout
from clipreid_kit.clip.towers.vision_only import (
    VisionOnlyModel,
    build_vision_only,
    find_backbone_weights,
    normalisation_of,
    split_classifier,
    to_vision_only_layout,
)


class BuiltModel(NamedTuple):
    """A model of open_clip with the configuration that it was built from.

    Attributes:
        model: The model, on the CPU, in float32 and in training mode.
        config: The configuration, with ``quick_gelu`` where the weights need it.
        load_report: Report of the loaded weights, by the names of :class:`ClipTowers`; ``None`` for
            random weights.
    """

    model: nn.Module
    config: dict[str, Any]
    load_report: LoadReport | None


def build_with_weights(
    name: str,
    config: Mapping[str, Any],
    source: WeightSource,
    geometry: Geometry = Geometry(),  # noqa: B008 (an immutable tuple)
    seed: int = 0,
) -> BuiltModel:
    """Build a model from a configuration and a source of weights, at a geometry.

    Args:
        name: Name of the model, for errors.
        config: The configuration of open_clip.
        source: Source of the weights.
        geometry: Changes to the image tower.
        seed: Seed of random weights.

    Returns:
        The model, its configuration, and the report of the loaded weights.

    Raises:
        ValueError: If the weights cannot be read or belong to another model, or the image tower
            cannot have that geometry.
    """
    state = None if source.path is None else read_weights(source.path)
    config = dict(config)
    if source.quick_gelu or (state is not None and is_openai_layout(state)):
        config["quick_gelu"] = True
    return build_with_state(name, config, state, geometry, seed)


def build_with_state(
    name: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor] | None,
    geometry: Geometry = Geometry(),  # noqa: B008 (an immutable tuple)
    seed: int = 0,
) -> BuiltModel:
    """Build a model from a configuration and tensors, at a geometry.

    Args:
        name: Name of the model, for errors.
        config: The configuration of open_clip.
        state: The tensors; ``None`` for random weights.
        geometry: Changes to the image tower.
        seed: Seed of random weights.

    Returns:
        The model, its configuration, and the report of the loaded weights.

    Raises:
        ValueError: If the weights belong to another model, or the image tower cannot have that
            geometry.
    """
    if state is not None:
        check_architecture(name, config, state)

    config = dict(config)
    model: Any = build_model(config, seed)
    if state is None:
        set_geometry(model.visual, geometry)
        return BuiltModel(model, config, None)

    # A table with the native number of rows is for the native grid, even if the requested geometry
    # has as many patches: so it is loaded first and resized afterwards.
    load_first = geometry == Geometry() or has_native_table_rows(model.visual, state)
    target = _LikeTowers(model, geometry.position_resize)

    if load_first:
        report = load_weights(target, state)
        set_geometry(model.visual, geometry)
    else:
        set_geometry(model.visual, geometry)
        report = load_weights(target, state)
    return BuiltModel(model, config, report)


class BuiltBackbone(NamedTuple):
    """A model with an image tower alone, and the settings that belong to its weights.

    Attributes:
        model: The model, on the CPU, in float32 and in training mode.
        name: Library and name of the trunk, such as ``timm/resnet50``.
        config: Its configuration.
        image_mean: Mean of the training images by channel, of values in [0, 1].
        image_std: Standard deviation of the training images, likewise.
        load_report: Report of the loaded weights; ``None`` for random weights.
    """

    model: VisionOnlyModel
    name: str
    config: dict[str, Any]
    image_mean: Colour
    image_std: Colour
    load_report: LoadReport | None


def build_backbone(
    config: Mapping[str, Any],
    pretrained: str | PathLike[str] | None,
    geometry: Geometry,
    seed: int,
) -> BuiltBackbone:
    """Build a model with an image tower alone, with weights, at a geometry.

    Args:
        config: From :func:`backbone_config`.
        pretrained: A tag of the library, a file, or ``None`` for random weights.
        geometry: Changes to the image tower.
        seed: Seed of random weights.

    Raises:
        ValueError: If the model, its weights or that geometry cannot be had.
    """
    library, name = config["vision_cfg"]["library"], config["vision_cfg"]["backbone"]
    path, tag = find_backbone_weights(library, name, pretrained)
    model = build_vision_only(config, seed, tag)
    mean, std = normalisation_of(library, name, tag)

    report = None
    if path is not None:
        report = _load_backbone(model, read_weights(path), geometry)
    elif tag is not None:
        report = LoadReport(tuple(f"model.{key}" for key in model.state_dict()))
    set_geometry(model.visual, geometry)

    config = dict(config) | {"embed_dim": model.visual.embed_dim}
    return BuiltBackbone(model, f"{library}/{name}", config, mean, std, report)


def _load_backbone(
    model: VisionOnlyModel, state: Mapping[str, Tensor], geometry: Geometry
) -> LoadReport:
    """Load all weights of a trunk but its classifier, which the report names as unexpected."""
    state, classifier = split_classifier(model, state)

    # as for CLIP: a table with another number of rows than the native one is for that geometry
    if not has_native_table_rows(model.visual, to_vision_only_layout(model, state)):
        set_geometry(model.visual, geometry)

    report = load_weights(_LikeTowers(model, geometry.position_resize), state)
    return replace(report, unexpected=classifier)


def check_model_in_memory(model: nn.Module, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Check that a model of open_clip is the one that a configuration describes.

    Returns:
        The configuration, with ``quick_gelu`` as in the model.

    Raises:
        ValueError: If it is another model.
    """
    owner = "ClipTowers.from_model"
    if not isinstance(model, CLIP | CustomTextCLIP | CoCa):
        raise fail(
            owner,
            "a model of open_clip (CLIP, CustomTextCLIP or CoCa)",
            type(model).__name__,
            "Unwrap a compiled or distributed model; build others with from_timm or "
            "from_hugging_face.",
        )
    if not isinstance(config.get("text_cfg"), Mapping) or "embed_dim" not in config:
        raise fail(owner, "config as the name or the configuration of the model", repr(config))

    check_architecture(name, config, model.state_dict())
    sizes = {
        key: (getattr(model, key), int(config["text_cfg"][key]))
        for key in ("context_length", "vocab_size")
        if key in config["text_cfg"] and getattr(model, key, None) is not None
    }
    for key, (own, described) in sizes.items():
        if own != described:
            raise fail(owner, f"{key} of {described}, as in the configuration", own)

    kinds = [type(module).__name__ for module in model.modules()]
    return dict(config) | {"quick_gelu": "QuickGELU" in kinds}


def build_camera_embedding(
    visual: nn.Module, num_cameras: int, num_views: int, seed: int = 0
) -> CameraEmbedding:
    """Build the camera embedding for an image tower.

    Raises:
        ValueError: If nothing can be added to the tokens of that tower.
    """
    if not accepts_camera_embedding(visual):
        raise fail(
            "ClipTowers",
            "cameras and views for a ViT of open_clip only, as in CLIP-ReID",
            type(getattr(visual, "trunk", visual)).__name__,
            "Leave num_cameras and num_views at 0.",
        )

    width, _ = level_widths(visual)
    return CameraEmbedding(width, num_cameras=num_cameras, num_views=num_views, seed=seed)


def build_camera_embedding_if_any(
    visual: nn.Module, num_cameras: int, num_views: int, seed: int
) -> CameraEmbedding | None:
    """Build the camera embedding for an image tower; ``None`` for no cameras and no views."""
    if not num_cameras and not num_views:
        return None
    return build_camera_embedding(visual, num_cameras, num_views, seed)


class _LikeTowers(nn.Module):
    """A model under the name that it has in :class:`ClipTowers`, so that reports use its names."""

    def __init__(self, model: nn.Module, position_resize: PositionResize) -> None:
        super().__init__()
        self.model = model
        self.position_resize = position_resize

    def adapt_state_dict(
        self, state: Mapping[str, Tensor], source_image_size: tuple[int, int] | None = None
    ) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        return adapt_to_towers(self.model, state, source_image_size, self.position_resize)
