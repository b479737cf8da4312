"""Import backbones of fast-reid, torchreid and TransReID into image towers without text."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal, NamedTuple

from torch import Tensor

from clipreid_kit._checks import check_positive
from clipreid_kit.clip.importers.openai_architecture import REID_SIZES, ImageSize
from clipreid_kit.clip.importers.report import ImportReport
from clipreid_kit.clip.towers.build import build_backbone
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.towers.geometry import Geometry, check_geometry
from clipreid_kit.clip.towers.load_weights import load_weights, on_one_line
from clipreid_kit.clip.towers.normalisation import Colour
from clipreid_kit.clip.towers.read_weights import find_tensors, read_weights
from clipreid_kit.clip.towers.vision_only import CEIL_POOL, backbone_config

_OWNER = "import_reid_backbone"
_TRUNK = "model.visual.trunk."
_HEAD = "a head beside the backbone"
_PERSON: ImageSize = (256, 128)
_HALF: Colour = (0.5, 0.5, 0.5)
_IMAGENET: tuple[Colour, Colour] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# (blocks of the four stages, whether they are bottlenecks) of the ResNets of torchvision
_RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}

# parts of names that show a layer which no ResNet of torchvision has
_OTHER_LAYERS = {
    ".bn1.IN.": "instance normalisation (IBN)",
    ".se.": "squeeze-and-excitation blocks",
    "NL_": "non-local blocks",
}
_OSNET = (".conv2a.", "conv1.conv.")


class ImportedBackbone(NamedTuple):
    """Result of :func:`import_reid_backbone`.

    Attributes:
        towers: The image tower, without text.
        project: Project that the checkpoint has the layout of.
        report: Where each tensor of the checkpoint went, by the names of ``towers``.
    """

    towers: ClipTowers
    project: Literal["fast-reid", "torchreid", "TransReID"]
    report: ImportReport


@dataclass
class _Plan:
    """Plan for turning a checkpoint into a tower.

    Attributes:
        config: Configuration of the trunk.
        geometry: Image size and stride.
        colours: Mean and standard deviation of the images.
        places: Names in the checkpoint, and names in the trunk.
        dropped: Names in the checkpoint, and why they are left out.
        replaced: Tensors that are loaded with other values than in the checkpoint.
    """

    config: dict[str, Any]
    geometry: Geometry
    colours: tuple[Colour, Colour]
    places: dict[str, str]
    dropped: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, Tensor] = field(default_factory=dict)


def import_reid_backbone(
    source: str | PathLike[str] | Mapping[str, Any],
    *,
    image_size: ImageSize | None = None,
    last_stride: int | None = None,
    camera_scale: float = 3.0,
) -> ImportedBackbone:
    """Import the backbone of a checkpoint of fast-reid, torchreid or TransReID.

    Use it to evaluate or fine-tune such a model with the parts of this library, in everything that
    needs no text. The embedding is the pooled feature before any neck. Code inside the file does
    not run.

    Args:
        source: The file, or its state dict: a ResNet of fast-reid or torchreid, or a ViT or DeiT of
            TransReID with patches that do not overlap, with or without its jigsaw branch.
        image_size: (height, width) in pixels. ``None`` finds a ViT's by the number of patches, and
            is 256 x 128 for ResNets.
        last_stride: Stride of a ResNet's last stage. ``None`` for the project's own: 1 in
            fast-reid, and 2 in torchreid (1 with its ``fc512``).
        camera_scale: ``MODEL.SIE_COE`` of TransReID: 3.0 in the published configurations.

    Returns:
        The tower in training mode on the CPU, and a report.

    Raises:
        ValueError: If the file is damaged, or its backbone is one that neither torchvision nor
            timm has, such as OSNet, a ResNet with IBN or a ViT with overlapping patches.

    Example:
        >>> imported = import_reid_backbone("market_bot_R50.pth")  # doctest: +SKIP
        >>> print(imported.report.summary())  # doctest: +SKIP

    Note:
        fast-reid pools the first feature map without padding, and so does the imported tower.
        TransReID adds a row of its camera embedding to every token: here it is the mean over the
        cameras, added to the position table, as for cameras that are not known.
    """
    check_positive(_OWNER, "camera_scale", camera_scale)
    tensors = find_tensors(source) if isinstance(source, Mapping) else read_weights(source)
    requested = check_geometry(image_size, None, last_stride, "bicubic")

    plan: _Plan
    project: Literal["fast-reid", "torchreid", "TransReID"]
    if "base.patch_embed.proj.weight" in tensors:
        project = "TransReID"
        plan = _plan_trans_reid(tensors, requested, camera_scale)
    elif "backbone.layer1.0.conv1.weight" in tensors:
        project = "fast-reid"
        plan = _plan_fast_reid(tensors, requested)
    elif "layer1.0.conv1.weight" in tensors and "conv1.weight" in tensors:
        project = "torchreid"
        plan = _plan_torchreid(tensors, requested)
    else:
        raise _unknown(tensors)

    towers, report = _build(tensors, plan)
    return ImportedBackbone(towers, project, report)


def _build(tensors: Mapping[str, Tensor], plan: _Plan) -> tuple[ClipTowers, ImportReport]:
    """Build a tower and load it."""
    built = build_backbone(plan.config, None, plan.geometry, seed=0)
    mean, std = plan.colours
    towers = ClipTowers(
        built.model, name=built.name, config=built.config, image_mean=mean, image_std=std
    )

    own = towers.state_dict().keys()
    places: dict[str, str] = {}
    values: dict[str, Tensor] = {}
    for name, place_in_trunk in plan.places.items():
        place = _TRUNK + place_in_trunk
        if place in own:
            places[name] = place
            values[place] = plan.replaced.get(name, tensors[name])

    loaded = load_weights(towers, values, strict=False, source_image_size=towers.image_size)
    if loaded.mismatched:
        names = on_one_line(loaded)
        raise ValueError(f"{_OWNER}: Shapes in the checkpoint disagree: {names}.")
    towers.load_report = loaded

    unexpected = [name for name in tensors if name not in places and name not in plan.dropped]
    missing = [name for name in own if name not in values]
    return towers, ImportReport(places, plan.dropped, tuple(unexpected), tuple(missing))


def _plan_fast_reid(tensors: Mapping[str, Tensor], requested: Geometry) -> _Plan:
    """A ResNet under ``backbone``, whose first pooling has no padding."""
    config = backbone_config("torchvision", _resnet_name(tensors, "backbone."))
    config["vision_cfg"]["stem_pool"] = CEIL_POOL
    dropped = _dropped(tensors, lambda name: name.startswith(("heads.", "pixel_")), _HEAD)

    colours = _IMAGENET
    if {"pixel_mean", "pixel_std"} <= tensors.keys():
        colours = _colour(tensors["pixel_mean"]), _colour(tensors["pixel_std"])
        dropped |= dict.fromkeys(("pixel_mean", "pixel_std"), "in image_mean and image_std")
    if "heads.pool_layer.p" in tensors:
        dropped["heads.pool_layer.p"] = "the exponent of GeM pooling; the tower takes the mean"

    return _Plan(
        config,
        _resnet_geometry(requested, last_stride=1),
        colours,
        _places(tensors, "backbone."),
        dropped,
    )


def _plan_torchreid(tensors: Mapping[str, Tensor], requested: Geometry) -> _Plan:
    """A ResNet under the names of torchvision."""
    config = backbone_config("torchvision", _resnet_name(tensors, ""))
    has_layer_behind = "fc.0.weight" in tensors
    dropped = _dropped(tensors, lambda name: name.startswith(("classifier.", "fc.")), _HEAD)
    geometry = _resnet_geometry(requested, last_stride=1 if has_layer_behind else 2)
    return _Plan(config, geometry, _IMAGENET, _places(tensors, ""), dropped)


def _plan_trans_reid(
    tensors: Mapping[str, Tensor], requested: Geometry, camera_scale: float
) -> _Plan:
    """A ViT under ``base``; with the jigsaw branch, its last block and norm are under ``b1``."""
    width, _, patch, _ = tensors["base.patch_embed.proj.weight"].shape
    depth = len({name.split(".")[2] for name in tensors if name.startswith("base.blocks.")})
    if "base.blocks.0.attn.qkv.bias" not in tensors:
        raise ValueError(
            f"{_OWNER}: The attention of this ViT has no biases, as in TransReID's vit_small, "
            "whose scale differs too; timm has no such model."
        )

    size = _vit_size(tensors["base.pos_embed"].shape[1] - 1, patch, requested.image_size)
    options = {
        "img_size": size,
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": max(1, width // 64),
    }
    config = backbone_config("timm", "vit_base_patch16_224", options)

    places = _places(tensors, "base.")
    dropped = _dropped(tensors, _is_trans_reid_head, _HEAD)
    if "b1.0.norm1.weight" in tensors:
        last = f"blocks.{depth - 1}."
        for name in [name for name in places if places[name].startswith((last, "norm."))]:
            del places[name]
            dropped[name] = "not run beside the jigsaw branch, which has copies under b1"
        places |= _places(tensors, "b1.0.", last) | _places(tensors, "b1.1.", "norm.")

    replaced = {}
    if "base.sie_embed" in tensors:
        mean = camera_scale * tensors["base.sie_embed"].float().mean(dim=0)
        replaced["base.pos_embed"] = tensors["base.pos_embed"].float() + mean
        dropped["base.sie_embed"] = "its mean over the cameras is in the position table"

    return _Plan(config, Geometry(size), (_HALF, _HALF), places, dropped, replaced)


def _is_trans_reid_head(name: str) -> bool:
    return name.startswith(("b2.", "bottleneck", "classifier", "base.fc."))


def _vit_size(num_patches: int, patch: int, image_size: ImageSize | None) -> ImageSize:
    """Find the image size whose patches, without overlap, are as many as the table has rows."""
    sizes = REID_SIZES if image_size is None else (image_size,)
    found = [size for size in sizes if (size[0] // patch) * (size[1] // patch) == num_patches]
    if len(found) == 1:
        return found[0]

    raise ValueError(
        f"{_OWNER}: The position table has {num_patches} patches, which are not those of one image "
        f"size with patches of {patch} that do not overlap. Pass image_size; overlapping patches "
        "(STRIDE_SIZE below the patch size) are not supported by timm's ViTs."
    )


def _resnet_geometry(requested: Geometry, *, last_stride: int) -> Geometry:
    return Geometry(
        requested.image_size or _PERSON, last_stride=requested.last_stride or last_stride
    )


def _resnet_name(tensors: Mapping[str, Tensor], prefix: str) -> str:
    """Name in torchvision of the ResNet below a prefix."""
    names = [name for name in tensors if name.startswith(prefix)]
    for part, layer in _OTHER_LAYERS.items():
        if any(part in name for name in names):
            raise ValueError(
                f"{_OWNER}: This ResNet has {layer}, which those of torchvision and timm have not "
                "in this form; it cannot be imported."
            )

    counts = []
    for stage in range(1, 5):
        stem = f"{prefix}layer{stage}."
        blocks = {name.removeprefix(stem).split(".")[0] for name in names if name.startswith(stem)}
        counts.append(len(blocks))

    found = _RESNETS.get((tuple(counts), f"{prefix}layer1.0.conv3.weight" in tensors))
    if found is None:
        raise ValueError(
            f"{_OWNER}: torchvision has no ResNet with {counts} blocks in its stages like this one."
        )
    return found


def _places(tensors: Mapping[str, Tensor], prefix: str, inside: str = "") -> dict[str, str]:
    """Map the names below a prefix to the same names in the trunk, or in a part of it."""
    return {name: inside + name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}


def _dropped(
    tensors: Mapping[str, Tensor], concerns: Callable[[str], bool], reason: str
) -> dict[str, str]:
    return {name: reason for name in tensors if concerns(name)}


def _colour(values: Tensor) -> Colour:
    """Three values of 0 to 255 as fractions."""
    red, green, blue = (float(value) / 255 for value in values.flatten())
    return red, green, blue


def _unknown(tensors: Mapping[str, Tensor]) -> ValueError:
    if any(part in name for name in tensors for part in _OSNET):
        return ValueError(
            f"{_OWNER}: This is an OSNet, which neither torchvision nor timm has; it cannot be "
            "imported. Export it to ONNX with its own project, and index its embeddings."
        )
    return ValueError(
        f"{_OWNER}: No ResNet of fast-reid or torchreid and no ViT of TransReID is among these "
        f"{len(tensors)} tensors, the first {next(iter(tensors))}. For a checkpoint of CLIP-ReID "
        "use import_clip_reid, for others ClipTowers.from_timm or from_torchvision with the file."
    )
