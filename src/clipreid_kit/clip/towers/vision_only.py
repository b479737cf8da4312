"""Models with an image tower alone: any trunk of timm or torchvision, with or without weights."""

import difflib
from collections.abc import Collection, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from clipreid_kit._checks import fail
from clipreid_kit.clip.towers.backbone import BackboneTower, Library
from clipreid_kit.clip.towers.normalisation import Colour, as_colour
from clipreid_kit.clip.towers.torchvision_forward import remove_classifier

_TRUNK = "visual.trunk."
_PREFIXES = ("model.", "towers.", "backbone.")
CEIL_POOL = "ceil"  # a ResNet's first pooling without padding, as in fast-reid
_TORCHVISION_SIDE = 224  # of all its models but some ViTs, which know theirs

# errors of both libraries for options that a model does not have, and for a failed download
_UNBUILDABLE = (
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class VisionOnlyModel(nn.Module):
    """A model with an image tower and no text tower, under the names that open_clip uses.

    Args:
        visual: The image tower.
    """

    def __init__(self, visual: BackboneTower) -> None:
        super().__init__()
        self.visual = visual

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Return the embeddings of images."""
        embeddings: Tensor = self.visual(images)
        return F.normalize(embeddings, dim=-1) if normalize else embeddings


def backbone_config(
    library: Library,
    name: str,
    options: Mapping[str, Any] | None = None,
    embed_dim: int | None = None,
) -> dict[str, Any]:
    """Describe a model with an image tower alone, as the card of a checkpoint keeps it.

    Args:
        library: The library that has the trunk.
        name: Name of the trunk in it, without a tag.
        options: Arguments of its constructor.
        embed_dim: Width of a projection; ``None`` for none.
    """
    vision = {
        "library": library,
        "backbone": name,
        "options": dict(options or {}),
        "projection": embed_dim,
    }
    return {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": None}


def build_vision_only(
    config: Mapping[str, Any], seed: int, tag: str | None = None
) -> VisionOnlyModel:
    """Build a model with an image tower alone, in float32 on the CPU.

    The global generator is neither read nor changed.

    Args:
        config: From :func:`backbone_config`.
        seed: Seed of random weights.
        tag: Tag of the library's pretrained weights; ``None`` for random ones.

    Raises:
        ValueError: If the library has no such model or tag, the model does not take the options or
            has unknown levels, or a download fails.
    """
    vision = config["vision_cfg"]
    library: Library = vision["library"]
    name, options = vision["backbone"], dict(vision["options"])

    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        if library == "timm":
            trunk, classifier, image_size = _timm_trunk(name, options, tag)
        else:
            trunk, classifier, image_size = _torchvision_trunk(name, options, tag)

        if vision.get("stem_pool") == CEIL_POOL:
            trunk.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
        visual = BackboneTower(trunk.float(), library, image_size, vision["projection"], classifier)
    return VisionOnlyModel(visual)


def normalisation_of(library: Library, name: str, tag: str | None) -> tuple[Colour, Colour]:
    """Return the mean and standard deviation that a model's images are normalised with."""
    settings = None
    if library == "timm" and timm.is_model(name):
        settings = timm.get_pretrained_cfg(name if tag is None else f"{name}.{tag}")

    if settings is None:
        return as_colour(IMAGENET_DEFAULT_MEAN), as_colour(IMAGENET_DEFAULT_STD)
    return as_colour(settings.mean), as_colour(settings.std)


def find_backbone_weights(
    library: Library, name: str, pretrained: str | PathLike[str] | None
) -> tuple[Path | None, str | None]:
    """Tell a file of weights from a tag of the library.

    Returns:
        The file and the tag, of which at most one is not ``None``.

    Raises:
        ValueError: If there is neither such a file nor such a tag.
    """
    if pretrained is None:
        return None, None

    path = Path(pretrained)
    if path.is_file():
        return path, None

    tags = _tags_of(library, name)
    if str(pretrained) in tags:
        return None, str(pretrained)

    known = ", ".join(tags) if tags else "none"
    raise fail(
        f"ClipTowers.from_{library}",
        f"pretrained as a file that exists, or a tag of {name}",
        repr(str(pretrained)),
        f"Its tags: {known}.",
    )


def to_vision_only_layout(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a checkpoint to those of a model with an image tower alone.

    Args:
        model: The model.
        state: Tensors under its own names, or under those of its trunk in timm or torchvision; also
            below ``model.``, ``towers.`` or ``backbone.``.

    Returns:
        A new mapping under the model's names; a tensor that the model does not have keeps its name.
    """
    own = model.state_dict().keys()
    renamed = {_own_name(key, own): tensor for key, tensor in state.items()}
    return renamed if len(renamed) == len(state) else dict(state)


def split_classifier(
    model: VisionOnlyModel, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Take the classifier that the trunk was trained with out of a checkpoint.

    Returns:
        The other tensors, and the names of those of the classifier.
    """
    prefixes = tuple(f"{name}." for name in model.visual.classifier)
    dropped = tuple(key for key in state if key.startswith(prefixes)) if prefixes else ()
    return {key: tensor for key, tensor in state.items() if key not in dropped}, dropped


def _own_name(key: str, own: Collection[str]) -> str:
    """The name in the model of a tensor of a checkpoint; its own name if the model has none."""
    inner = key
    while inner.startswith(_PREFIXES):
        inner = inner.partition(".")[2]

    for candidate in (key, inner, _TRUNK + inner):
        if candidate in own:
            return candidate
    return key


def _timm_trunk(
    name: str, options: dict[str, Any], tag: str | None
) -> tuple[nn.Module, tuple[str, ...], tuple[int, int]]:
    """Build a trunk of timm; also return the names of its classifier, and its image size."""
    owner = "ClipTowers.from_timm"
    if not timm.is_model(name):
        raise fail(owner, "the name of a model of timm", repr(name), _nearest(name, _timm_names()))

    full_name = name if tag is None else f"{name}.{tag}"
    try:
        trunk = timm.create_model(full_name, pretrained=tag is not None, num_classes=0, **options)
    except _UNBUILDABLE as error:
        raise _unbuildable(owner, full_name, options, error) from None

    settings = trunk.pretrained_cfg
    classifier = settings.get("classifier") or ()
    if isinstance(classifier, str):
        classifier = (classifier,)

    height, width = settings["input_size"][1:]
    size = options.get("img_size", (height, width))
    if isinstance(size, int):
        size = (size, size)
    return trunk, tuple(classifier), (int(size[0]), int(size[1]))


def _torchvision_trunk(
    name: str, options: dict[str, Any], tag: str | None
) -> tuple[nn.Module, tuple[str, ...], tuple[int, int]]:
    """Build a trunk of torchvision; also return the names of its classifier, and its image size."""
    owner = "ClipTowers.from_torchvision"
    names = torchvision.models.list_models(torchvision.models)
    if name not in names:
        expected = "the name of a classification model of torchvision"
        raise fail(owner, expected, repr(name), _nearest(name, names))

    try:
        trunk = torchvision.models.get_model(name, weights=tag, **options)
    except _UNBUILDABLE as error:
        raise _unbuildable(owner, name, options, error) from None

    side = int(getattr(trunk, "image_size", _TORCHVISION_SIDE))
    classifier = remove_classifier(name, trunk)
    return trunk, (classifier,), (side, side)


def _tags_of(library: Library, name: str) -> list[str]:
    """Tags of a model's pretrained weights."""
    if library == "torchvision":
        names = torchvision.models.list_models(torchvision.models)
        if name not in names:
            return []
        return [str(weights.name) for weights in torchvision.models.get_model_weights(name)]

    full_names = timm.list_models(f"{name}.*", pretrained=True)
    return [full_name.partition(".")[2] for full_name in full_names]


def _timm_names() -> list[str]:
    names: list[str] = timm.list_models()
    return names


def _nearest(name: str, names: Collection[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=3, cutoff=0.0)
    return f"The nearest: {', '.join(close)}."


def _unbuildable(owner: str, name: str, options: Mapping[str, Any], error: Exception) -> ValueError:
    reason = str(error).strip().splitlines() or ["no reason given"]
    return ValueError(
        f"{owner}: {name} could not be built with the options {dict(options)} "
        f"({type(error).__name__}: {reason[0]}). Check the options; pretrained weights also need "
        "a network connection or a filled cache."
    )
