"""An image tower without a text tower: a trunk of timm or torchvision, and a projection."""

import copy
import warnings
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer as TorchvisionViT

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.clip.towers.recompute import run_block
from clipreid_kit.clip.towers.timm_forward import check_projects_patches, timm_features
from clipreid_kit.clip.towers.torchvision_forward import resize_vit, torchvision_features
from clipreid_kit.clip.towers.trunk_blocks import trunk_blocks
from clipreid_kit.clip.towers.trunk_features import TrunkFeatures

Library = Literal["timm", "torchvision"]

# errors of the libraries for an image size that a trunk cannot have
_UNSUITABLE_SIZE = (AssertionError, AttributeError, RuntimeError, TypeError, ValueError)


class TrunkShape(NamedTuple):
    """Sizes of what a trunk returns at its image size.

    Attributes:
        grid: (rows, columns) of the patches.
        previous_width: Width of the level ``previous``.
        patch_width: Width of the level ``patches``.
        width: Width of the level ``unprojected``.
    """

    grid: tuple[int, int]
    previous_width: int
    patch_width: int
    width: int


class BackboneTower(nn.Module):
    """A trunk of timm or torchvision as an image tower, with or without a projection.

    Args:
        trunk: The model, without its classifier.
        library: The library that it comes from.
        image_size: (height, width) in pixels that it is built for.
        embed_dim: Width of a linear projection of what it has pooled. ``None`` for no projection:
            then the embedding is the level ``unprojected``.
        classifier: Names of the layers that were its classifier and are removed.

    Attributes:
        shape: Sizes of its levels, measured in one forward pass.
    """

    def __init__(
        self,
        trunk: nn.Module,
        library: Library,
        image_size: tuple[int, int],
        embed_dim: int | None = None,
        classifier: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.trunk: Any = trunk
        self.library: Library = library
        self.image_size = image_size
        self.classifier = classifier
        self.shape = self.measure(image_size)
        self.grad_checkpointing = False

        self.head: nn.Module = nn.Identity()
        if embed_dim is not None:
            check_integer("ClipTowers", "embed_dim", embed_dim, 1)
            self.head = nn.Linear(self.shape.width, embed_dim, bias=False)
        self.embed_dim = embed_dim or self.shape.width

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings of images."""
        if self.library == "timm":
            embeddings: Tensor = self.head(self.trunk(images))
            return embeddings
        return self.run(images, frozenset(("projected",)))["projected"]

    def run(self, images: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
        """Run the trunk once, at all its levels.

        Args:
            images: Images of its size, on its device and in its dtype.
            wanted: Names of the levels to compute, at least one.

        Returns:
            The wanted levels by name, and those that come with them at no cost.

        Raises:
            ValueError: If projected patches are wanted of a trunk that is no ViT.
        """
        features = self.features(images)
        outputs = {
            "previous": features.previous,
            "unprojected": features.pooled,
            "patches": features.patches,
        }
        if "projected" in wanted:
            outputs["projected"] = self.head(features.pooled)
        if "projected_patches" in wanted:
            check_projects_patches(self.trunk)
            outputs["projected_patches"] = self.head(self.trunk.fc_norm(features.patches))
        return outputs

    def features(self, images: Tensor) -> TrunkFeatures:
        """Run the trunk, and return its levels before the projection."""
        if self.library == "timm":
            return timm_features(self.trunk, images)
        return torchvision_features(self.trunk, images)

    @torch.no_grad()
    def measure(self, image_size: tuple[int, int]) -> TrunkShape:
        """Measure the levels for one image of a size.

        Raises:
            ValueError: If the trunk has no such levels, or does not take that size.
        """
        training = self.training
        image = next(self.trunk.parameters()).new_zeros(1, 3, *image_size)
        self.eval()
        try:
            features = self.features(image)
        except _UNSUITABLE_SIZE as error:
            raise _unsuitable(self.trunk, image_size, error) from None
        finally:
            self.train(training)

        return TrunkShape(
            features.grid,
            features.previous.shape[1],
            features.patches.shape[2],
            features.pooled.shape[1],
        )

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return the (rows, columns) of patches at an image size."""
        if image_size == self.image_size:
            return self.shape.grid
        return self.resized(image_size).shape.grid

    def resized(self, image_size: tuple[int, int]) -> "BackboneTower":
        """Return a copy at another image size; this tower is left as it is."""
        other = copy.deepcopy(self)
        other.set_image_size(image_size)
        return other

    def set_image_size(self, image_size: tuple[int, int]) -> None:
        """Change the image size, with the position table resized where there is one.

        Raises:
            ValueError: If the trunk cannot have it.
        """
        if image_size == self.image_size:
            return

        try:
            # warnings of timm concern its own code
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._resize_trunk(image_size)
        except _UNSUITABLE_SIZE as error:
            raise _unsuitable(self.trunk, image_size, error) from None

        self.shape = self.measure(image_size)
        self.image_size = image_size

    def _resize_trunk(self, image_size: tuple[int, int]) -> None:
        """Resize the tables of a trunk that is built for one image size."""
        if isinstance(self.trunk, TorchvisionViT):
            resize_vit(self.trunk, self.shape.grid, image_size)
        elif hasattr(self.trunk, "set_input_size"):
            self.trunk.set_input_size(image_size)

    @property
    def last_stride(self) -> int | None:
        """Stride of the last stage of a ResNet; ``None`` for other trunks."""
        first = _first_block_of_last_stage(self.trunk)
        if first is None:
            return None
        return max(_strides(first), default=1)

    def set_last_stride(self, stride: int) -> None:
        """Change the stride of the last stage of a ResNet, which needs no other weights.

        Raises:
            ValueError: If the trunk is no ResNet, or reduces the resolution in another way.
        """
        if stride == self.last_stride:
            return

        first = _first_block_of_last_stage(self.trunk)
        if first is None or stride != 1:
            raise fail(
                "ClipTowers",
                "last_stride=1 for a ResNet with a stride of 2, or last_stride left out",
                f"{stride} for {type(self.trunk).__name__}",
            )

        for path, layer in list(first.named_modules()):
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
            elif isinstance(layer, nn.AvgPool2d):
                holder, _, name = path.rpartition(".")
                setattr(first.get_submodule(holder), name, nn.Identity())
        self.shape = self.measure(self.image_size)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the activations inside each block in the backward pass, or keep them.

        Raises:
            ValueError: If the blocks of the trunk are unknown.
        """
        blocks = trunk_blocks(self.trunk)
        if not blocks:
            raise fail(
                "set_gradient_checkpointing",
                "an image tower whose blocks are known",
                type(self.trunk).__name__,
            )

        for block in blocks.values():
            block.__dict__.pop("forward", None)
            if enable:
                block.forward = _Recomputed(block)
        self.grad_checkpointing = enable


def _unsuitable(trunk: nn.Module, image_size: tuple[int, int], error: Exception) -> ValueError:
    return fail(
        "ClipTowers",
        f"a trunk that runs at {image_size[0]} x {image_size[1]} and returns its last two stages",
        f"{type(trunk).__name__} ({type(error).__name__}: {error})",
        "Choose another image_size or another model.",
    )


def _first_block_of_last_stage(trunk: nn.Module) -> nn.Module | None:
    """The block of a ResNet that has the stride of its last stage; ``None`` for other trunks."""
    stage = getattr(trunk, "layer4", None)
    if not isinstance(stage, nn.Sequential) or hasattr(trunk, "layer5"):
        return None
    return stage[0]


def _strides(block: nn.Module) -> list[int]:
    layers = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
    return [int(layer.stride[0]) for layer in layers]


class _Recomputed:
    """The forward of a block that recomputes its activations in the backward pass.

    timm has its own switch, by which BatchNorms count a batch twice.
    """

    def __init__(self, block: nn.Module) -> None:
        self.block = block

    def __call__(self, *inputs: Any, **options: Any) -> Any:  # noqa: ANN401 (as the block's own)
        def run(x: Tensor) -> Tensor:
            out: Tensor = type(self.block).forward(self.block, x, *inputs[1:], **options)
            return out

        return run_block(run, inputs[0], recompute=True, batch_norm_owner=self.block)


def is_backbone_config(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration is that of a trunk without a text tower."""
    return config.get("text_cfg") is None and "backbone" in (config.get("vision_cfg") or {})
