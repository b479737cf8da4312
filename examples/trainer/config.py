"""What a recipe can say: typed fields with their ranges. Every field changes what happens."""

import math
from dataclasses import dataclass, field
from typing import Literal


def _require(owner: str, ok: bool, expected: str, got: object) -> None:
    if not ok:
        raise ValueError(f"{owner}: expected {expected}, got {got}.")


@dataclass(slots=True, kw_only=True)
class Data:
    """Where the images come from."""

    source: Literal["synthetic", "folder", "csv", "omniglot"] = "synthetic"
    """A generated set; an image folder ``<split>/<identity>/``; a CSV table; the Omniglot ReID layout."""
    root: str | None = None
    """Folder, CSV file or zip file; ``--data`` overrides it. A generated set is written to the run's folder."""
    camera_pattern: str | None = None
    """For ``folder``: a regular expression with a group ``camera``, applied to file names."""
    held_out: list[str] = field(default_factory=list)
    """For ``omniglot``: training alphabets that are used for validation instead; without any, nothing is validated."""
    num_identities: int = 240
    """For ``synthetic``: identities of all splits."""
    views_per_camera: int = 3
    """For ``synthetic``: images of an identity by each of the four cameras."""
    orientations: Literal[1, 4, 8] = 1
    """Derived identities of the training split: quarter turns (4), mirrored as well (8)."""
    cache: bool = True
    """Keep decoded images in memory."""
    workers: int = 1
    """Processes that load images; 0 loads in the training process."""

    def __post_init__(self) -> None:
        _require("data.num_identities", self.num_identities >= 20, "at least 20", self.num_identities)
        _require("data.views_per_camera", self.views_per_camera >= 2, "at least 2", self.views_per_camera)
        _require("data.workers", self.workers >= 0, "0 or more", self.workers)


@dataclass(slots=True, kw_only=True)
class Model:
    """Which towers, and with which weights."""

    name: str = "reid-tiny-resnet"
    """An open_clip model, or one of the small ones of clipreid_kit."""
    pretrained: str | None = None
    """A tag of open_clip or a local file; nothing for random weights."""
    image_size: tuple[int, int] | None = None
    """(height, width) in pixels; nothing for the native size."""
    image_mean: tuple[float, float, float] | None = None
    """Subtracted from red, green and blue in [0, 1]; nothing for the model's own (CLIP's where it has none)."""
    image_std: tuple[float, float, float] | None = None
    """What the difference is divided by."""
    channels_last: bool = False
    """Keep images and kernels channel by channel within a pixel while training: faster for convolutions."""


@dataclass(slots=True, kw_only=True)
class Augment:
    """Random changes of training images; see ``clipreid_kit.data.train_transform``."""

    horizontal_flip: float = 0.0
    pad: int = 0
    color_jitter: float = 0.0
    rotation: float = 0.0
    translate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    perspective: float = 0.0
    fill: int = 0
    erasing: float = 0.0
    identity_orientations: Literal[1, 4, 8] = 1
    """Turn all images of an identity alike, another way in each epoch: quarter turns (4), mirrored as well (8)."""
    identity_warp: float = 0.0
    """Share in [0, 1] of a strong warp that all images of an identity undergo alike, another one in each epoch."""


@dataclass(slots=True, kw_only=True)
class Batch:
    """PK batches; see ``clipreid_kit.PKSampler``. One instance gives batches of distinct identities."""

    num_identities: int = 16
    num_instances: int = 4
    coverage: Literal["identities", "images"] = "images"
    spread_cameras: bool = True
    """Take an identity's images from as many cameras as it has."""

    def __post_init__(self) -> None:
        _require("batch.num_identities", self.num_identities >= 1, "1 or more", self.num_identities)
        _require("batch.num_instances", self.num_instances >= 1, "1 or more", self.num_instances)


@dataclass(slots=True, kw_only=True)
class Loss:
    """Weight of each term, 0 to leave it out. Without a text term, texts and text tower are not used."""

    info_nce: float = 0.0
    """Symmetric image-text InfoNCE: needs ``batch.num_instances: 1``."""
    supcon_image: float = 0.0
    """SupCon among images."""
    supcon_text: float = 0.0
    """SupCon between images and captions, mean of both directions."""
    triplet: float = 0.0
    """Batch-hard triplet loss on normalised image embeddings (cosine)."""
    temperature: float = 0.07
    margin: float = 0.3

    @property
    def uses_text(self) -> bool:
        """Whether any term needs captions."""
        return self.info_nce > 0 or self.supcon_text > 0

    def __post_init__(self) -> None:
        weights = (self.info_nce, self.supcon_image, self.supcon_text, self.triplet)
        _require("loss.temperature", 0 < self.temperature < math.inf, "a number above 0", self.temperature)
        _require("loss.margin", 0 <= self.margin < math.inf, "0 or more", self.margin)
        _require("loss", all(math.isfinite(w) and w >= 0 for w in weights), "weights >= 0", weights)


@dataclass(slots=True, kw_only=True)
class Optim:
    """AdamW with warm-up and cosine, stepped every batch."""

    epochs: int = 10
    lr: float = 1e-3
    """Peak rate of the image tower."""
    text_lr: float | None = None
    """Peak rate of the text tower; nothing for ``lr``."""
    weight_decay: float = 0.05
    """On matrices and kernels; biases, norms, embeddings of position and the scale have none."""
    warmup_epochs: float = 1.0
    min_lr: float = 0.0
    clip_norm: float = 5.0
    """Largest global gradient norm; larger ones are scaled down before the step."""
    ema_decay: float = 0.0
    """Share of the old average of weights kept at each step; the average is evaluated and saved. 0 for none."""

    def __post_init__(self) -> None:
        _require("optim.epochs", self.epochs >= 1, "1 or more", self.epochs)
        _require("optim.lr", 0 < self.lr < math.inf, "a rate above 0", self.lr)
        text_lr = self.lr if self.text_lr is None else self.text_lr
        _require("optim.text_lr", 0 < text_lr < math.inf, "a rate above 0", text_lr)
        lowest = min(self.lr, text_lr)
        _require("optim.min_lr", 0 <= self.min_lr <= lowest, "0 <= it <= lr and text_lr", self.min_lr)
        _require("optim.weight_decay", 0 <= self.weight_decay < math.inf, "0 or more", self.weight_decay)
        _require("optim.clip_norm", self.clip_norm > 0, "a norm above 0", self.clip_norm)
        _require("optim.ema_decay", 0 <= self.ema_decay < 1, "a share in [0, 1)", self.ema_decay)
        _require("optim.warmup_epochs", 0 <= self.warmup_epochs < self.epochs, "0 <= it < epochs", self.warmup_epochs)


@dataclass(slots=True, kw_only=True)
class Evaluate:
    """How models are compared, and when training stops."""

    metric: Literal["mean_ap", "rank_1", "mean_inp"] = "mean_ap"
    """Validation metric (image to image) that chooses the best epoch."""
    every: int = 1
    """Epochs between validations; the last epoch is always validated."""
    patience: int | None = None
    """Validations without a gain before training stops; nothing to train all epochs."""
    cameras: bool = True
    """Leave out gallery images of the query's identity and camera."""
    batch_size: int = 256
    rotations: list[float] = field(default_factory=lambda: [0.0])
    """Angles in degrees at which every image is looked at; the unit embeddings of all views are averaged."""

    def __post_init__(self) -> None:
        _require("evaluate.every", self.every >= 1, "1 or more", self.every)
        _require("evaluate.patience", self.patience is None or self.patience >= 1, "1 or more", self.patience)
        _require("evaluate.rotations", len(self.rotations) > 0, "at least one angle", "none")
        _require("evaluate.batch_size", self.batch_size >= 1, "1 or more", self.batch_size)


@dataclass(slots=True, kw_only=True)
class Recipe:
    """One run."""

    stage: Literal["zero_shot", "joint"]
    """``zero_shot`` evaluates the model as it is; ``joint`` trains both towers (or the image tower alone)."""
    note: str
    """Why this recipe exists, in a sentence."""
    seed: int = 0
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the training steps."""
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    augment: Augment = field(default_factory=Augment)
    batch: Batch = field(default_factory=Batch)
    loss: Loss = field(default_factory=Loss)
    optim: Optim = field(default_factory=Optim)
    evaluate: Evaluate = field(default_factory=Evaluate)

    def __post_init__(self) -> None:
        _require("seed", self.seed >= 0, "0 or more", self.seed)
        if self.stage == "zero_shot":
            return
        weights = (self.loss.info_nce, self.loss.supcon_image, self.loss.supcon_text, self.loss.triplet)
        _require("loss", any(weights), "a term with a weight above 0", "none. Set for example supcon_image: 1")
        if self.loss.info_nce and self.batch.num_instances > 1:
            raise ValueError(
                "loss.info_nce: expected batch.num_instances: 1, got "
                f"{self.batch.num_instances}. Siblings in a batch would count as negatives: use supcon_text instead."
            )
        if (self.loss.supcon_image or self.loss.triplet) and self.batch.num_instances < 2:
            raise ValueError(
                "loss.supcon_image, loss.triplet: expected batch.num_instances >= 2, got 1. "
                "Without a second image of an identity these losses have no positive."
            )
