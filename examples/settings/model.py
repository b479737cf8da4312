"""The section `model`: the towers, their weights, and which parts are trained."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from examples.settings.section import FractionBelowOne, Needs, Section, Sizes
from examples.settings.text_terms import TEXT_TERMS

VISION_ONLY = ("timm/", "torchvision/")  # prefixes of models without a text tower
Blocks = NonNegativeInt | Literal["all", "none"]
Mean = Annotated[tuple[float, float, float], Field(strict=False)]
Std = Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat], Field(strict=False)]


class Model(Section):
    """The two towers, their weights, and how images are shown to them."""

    name: str = "reid-tiny-resnet"
    """A model of open_clip, or a small model of clipreid_kit; `hf-hub:NAME` or `local-dir:FOLDER`;
    or an image tower without text, as `timm/NAME` or `torchvision/NAME`."""
    pretrained: str | None = None
    """A pretraining tag of the model's library or a local file; null for random weights."""
    image_size: Sizes | None = None
    """Height and width in pixels; null for the model's own."""
    image_mean: Mean | None = None
    """Channel means of the normalisation; null for the model's own."""
    image_std: Std | None = None
    """Channel deviations of the normalisation; null for the model's own."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """Interpolation of resizing."""
    fit: Literal["stretch", "pad", "crop"] = "stretch"
    """How an image of another aspect ratio is fitted."""
    patch_stride: PositiveInt | None = None
    """Stride of a ViT's patches, for overlapping ones; null for the patch size."""
    last_stride: Literal[1, 2] | None = None
    """Stride of a ResNet's last stage; null for the model's own."""
    position_resize: Literal["bicubic", "clip_reid"] = "bicubic"
    """Interpolation of position embeddings; `clip_reid` is bilinear, as in its code."""
    camera_embedding: bool = False
    """Learn an embedding of each camera, which is added to the tokens."""
    view_embedding: bool = False
    """Likewise of each view."""

    def has_text(self) -> bool:
        """Whether the model has a text tower."""
        return not self.name.startswith(VISION_ONLY)

    @model_validator(mode="after")
    def _image_tower_has_the_options(self) -> Self:
        if self.has_text():
            return self

        for key in ("patch_stride", "camera_embedding", "view_embedding"):
            if getattr(self, key):
                raise ValueError(
                    f"`model.{key}` is for CLIP's ViT; `model.name: {self.name}` has none"
                )
        if self.position_resize != "bicubic":
            raise ValueError(f"`model.position_resize` must be bicubic for {self.name}")
        return self


class TrainedModel(Model):
    """The two towers, their weights, how images are shown to them, and which parts are trained."""

    image_blocks: Annotated[Blocks, Needs("model.lora_rank: 0")] = "all"
    """Number of last blocks of the image tower that are trained."""
    text_blocks: Annotated[
        Blocks, Needs("stage: joint, retrieval"), Needs(*(f"loss.{term}" for term in TEXT_TERMS))
    ] = "all"
    """Likewise of the text tower, in the stages that train it."""
    train_projections: bool = True
    """Whether the last projections of both towers are trained."""
    batch_norm: Literal["follow", "frozen", "running"] = "follow"
    """Running statistics of BatchNorm: with their weights, never, or always updated."""
    patch_mask: FractionBelowOne = 0.0
    """Share of the patch tokens of a ViT that is masked in each training image; 0 for none."""
    patch_mask_kind: Annotated[
        Literal["drop", "zeros", "learned"], Needs("model.patch_mask > 0")
    ] = "drop"
    """Leave masked tokens out, which is faster, or replace them by zeros or by a learned vector."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    channels_last: bool = False
    """Store images and weights channels last: faster for convolutions."""
    lora_rank: NonNegativeInt = 0
    """Rank of LoRA adapters, which are trained in place of the blocks of each tower that the stage
    trains; 0 for none. Transformers only; needs the extra `lora`."""
    lora_alpha: Annotated[PositiveFloat | None, Needs("model.lora_rank > 0")] = None
    """Adapters are scaled by `lora_alpha` / `lora_rank`; null for the rank."""
    lora_dropout: Annotated[FractionBelowOne, Needs("model.lora_rank > 0")] = 0.0
    """Dropout of the adapters' inputs."""
    lora_targets: Annotated[
        list[Literal["attention", "mlp"]],
        Field(min_length=1, max_length=2),
        Needs("model.lora_rank > 0"),
    ] = ["attention", "mlp"]  # noqa: RUF012 (pydantic copies it)
    """Layers of each block that get adapters."""

    @model_validator(mode="after")
    def _adapts_whole_towers(self) -> Self:
        if self.lora_rank > 0 and self.text_blocks not in ("all", "none"):
            raise ValueError(
                "`model.text_blocks` is `all` or `none` with `model.lora_rank`: all blocks of a "
                "tower get adapters, or none"
            )
        return self
