"""Run a model of torchvision at the levels that methods train on."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import (
    ConvNeXt,
    DenseNet,
    EfficientNet,
    MobileNetV2,
    MobileNetV3,
    RegNet,
    ResNet,
    ShuffleNetV2,
    SwinTransformer,
    VisionTransformer,
)

from clipreid_kit._checks import fail
from clipreid_kit.clip.towers.position_embedding import resize_position_embedding
from clipreid_kit.clip.towers.trunk_features import TrunkFeatures, features_of_maps

Torchvision = Any  # a model of torchvision, whose attributes have no types

_FAMILIES = (
    ConvNeXt,
    DenseNet,
    EfficientNet,
    MobileNetV2,
    MobileNetV3,
    RegNet,
    ResNet,
    ShuffleNetV2,
    SwinTransformer,
    VisionTransformer,
)

_PARTS_OF_LAST_STAGE: dict[type[nn.Module], int] = {
    ResNet: 1,
    RegNet: 1,
    ShuffleNetV2: 2,  # the stage and a convolution
    DenseNet: 3,  # the block, its norm and activation
    ConvNeXt: 2,  # the downsampling and the stage
}


def remove_classifier(name: str, trunk: nn.Module) -> str:
    """Remove the last linear layer of a model of torchvision, and the dropout before it.

    Args:
        name: Name of the model, for errors.
        trunk: The model; changed in place. It then returns what its classifier has read.

    Returns:
        Name of the layer.

    Raises:
        ValueError: If the model belongs to no family whose levels are known.
    """
    if not isinstance(trunk, _FAMILIES):
        families = ", ".join(family.__name__ for family in _FAMILIES)
        raise fail(
            "ClipTowers.from_torchvision",
            f"a model of one of the families {families}",
            f"{name} ({type(trunk).__name__})",
            "timm has most others: use ClipTowers.from_timm.",
        )

    layers = [path for path, layer in trunk.named_modules() if isinstance(layer, nn.Linear)]
    classifier: str = layers[-1]
    holder_path, _, key = classifier.rpartition(".")
    holder = trunk.get_submodule(holder_path)

    setattr(holder, key, nn.Identity())
    for child, module in list(holder.named_children()):
        if isinstance(module, nn.Dropout) and isinstance(holder, nn.Sequential):
            setattr(holder, child, nn.Identity())
    return classifier


def torchvision_features(trunk: Torchvision, images: Tensor) -> TrunkFeatures:
    """Run a model of torchvision, without its classifier, at all its levels.

    Args:
        trunk: The model, after :func:`remove_classifier`.
        images: Images on its device and in its dtype.

    Returns:
        The levels.
    """
    if isinstance(trunk, VisionTransformer):
        return _run_vit(trunk, images)
    if isinstance(trunk, SwinTransformer):
        return _run_swin(trunk, images)

    before_last, final = _last_two_maps(trunk, images)
    return features_of_maps(before_last, final, _pool(trunk, final))


def resize_vit(trunk: Torchvision, grid: tuple[int, int], image_size: tuple[int, int]) -> None:
    """Resize the position table of a ViT, from a grid of patches to the one of an image size.

    Raises:
        ValueError: If its patches do not cover the image size.
    """
    patch = int(trunk.patch_size)
    height, width = image_size
    if height % patch or width % patch:
        raise ValueError(f"patches of {patch} x {patch} do not cover it")

    table = trunk.encoder.pos_embedding
    with torch.no_grad():
        resized = resize_position_embedding(
            table[0], grid, (height // patch, width // patch), num_prefix=1
        )
    trunk.encoder.pos_embedding = nn.Parameter(resized[None].clone(), table.requires_grad)


def _last_two_maps(trunk: Torchvision, images: Tensor) -> tuple[Tensor, Tensor]:
    """The feature map before the last stage of a convolutional network, and the last one."""
    parts = _convolutional_parts(trunk)
    begin = _begin_of_last_stage(trunk, parts)

    x = images
    for part in parts[:begin]:
        x = part(x)
    before_last = x

    for part in parts[begin:]:
        x = part(x)
    return before_last, x


def _begin_of_last_stage(trunk: Torchvision, parts: Sequence[Any]) -> int:
    """Index of the first part of the last stage, which is told by the kind of network."""
    for family, num_parts in _PARTS_OF_LAST_STAGE.items():
        if isinstance(trunk, family):
            return len(parts) - num_parts

    # the others begin a stage where they halve the resolution
    halving = [index for index, part in enumerate(parts) if _halves(part)]
    return halving[-1]


def _halves(part: nn.Module) -> bool:
    strides = [layer.stride for layer in part.modules() if isinstance(layer, nn.Conv2d)]
    return any(stride[0] > 1 for stride in strides)


def _convolutional_parts(trunk: Torchvision) -> list[Any]:
    """The parts of a convolutional network in the order in which they run."""
    if isinstance(trunk, ResNet):
        stem = [trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool]
        return [*stem, trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4]
    if isinstance(trunk, RegNet):
        return [trunk.stem, *trunk.trunk_output]
    if isinstance(trunk, ShuffleNetV2):
        stem = [trunk.conv1, trunk.maxpool]
        return [*stem, trunk.stage2, trunk.stage3, trunk.stage4, trunk.conv5]
    if isinstance(trunk, DenseNet):
        return [*trunk.features, F.relu]
    return list(trunk.features)


def _pool(trunk: Torchvision, final: Tensor) -> Tensor:
    """Pooled features that the classifier of a convolutional network reads."""
    if isinstance(trunk, ResNet | RegNet):
        pooled: Tensor = trunk.avgpool(final).flatten(1)
    elif isinstance(trunk, ConvNeXt):
        pooled = trunk.classifier(trunk.avgpool(final))
    elif isinstance(trunk, MobileNetV3 | EfficientNet):
        pooled = trunk.classifier(trunk.avgpool(final).flatten(1))
    else:
        pooled = final.mean(dim=(2, 3))
    return pooled


def _run_vit(trunk: Torchvision, images: Tensor) -> TrunkFeatures:
    """Run a ViT at the size of its position table; torchvision's own forward takes squares only."""
    patches = trunk.conv_proj(images)
    grid = (int(patches.shape[2]), int(patches.shape[3]))
    class_token = trunk.class_token.expand(images.shape[0], -1, -1)
    x = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1)

    encoder = trunk.encoder
    x = encoder.dropout(x + encoder.pos_embedding)
    before_last = x
    for layer in encoder.layers:
        before_last = x
        x = layer(x)

    x = encoder.ln(x)
    pooled = trunk.heads(x[:, 0])
    return TrunkFeatures(before_last[:, 0], x[:, 1:], pooled, grid)


def _run_swin(trunk: Torchvision, images: Tensor) -> TrunkFeatures:
    """Run a Swin transformer, whose feature maps are channels last."""
    before_last = x = images
    for index, stage in enumerate(trunk.features):
        x = stage(x)
        if index == len(trunk.features) - 3:  # the last two are patch merging and the last stage
            before_last = x

    x = trunk.norm(x)
    pooled = trunk.head(trunk.flatten(trunk.avgpool(trunk.permute(x))))
    grid = (int(x.shape[1]), int(x.shape[2]))
    return TrunkFeatures(before_last.mean(dim=(1, 2)), x.flatten(1, 2), pooled, grid)
