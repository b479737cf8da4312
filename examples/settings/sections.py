"""Sections of a recipe: model, augmentation, batches, head, prompts, mining, evaluation and log."""

import math
from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from typing_extensions import Self

from examples.settings.data import TEXT_TERMS, Protocol
from examples.settings.optim import CosineOptim
from examples.settings.section import (
    Fraction,
    FractionBelowOne,
    Needs,
    OpenFraction,
    PositiveFraction,
    Section,
    Sizes,
    default_tag,
)

VISION_ONLY = ("timm/", "torchvision/")  # prefixes of models without a text tower
Blocks = NonNegativeInt | Literal["all", "none"]
Mean = Annotated[tuple[float, float, float], Field(strict=False)]
Std = Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat], Field(strict=False)]
Scale = Annotated[tuple[PositiveFloat, PositiveFloat], Field(strict=False)]


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


_STRIPES = Needs("augment.stripes")


class Fill(Section):
    """Random changes of training images, and the grey of the area that they uncover."""

    fill: Annotated[
        int,
        Field(ge=0, le=255),
        Needs(
            "stage: zero_shot",  # which must show images as the weights were trained
            "augment.pad",
            "augment.rotation",
            "augment.translate",
            "augment.scale",
            "augment.shear",
            "augment.perspective",
            "augment.augmix",
            "augment.identity_warp",
            "evaluate.rotations",
            "model.fit: pad",
        ),
    ] = 0
    """Grey level of the area that a shift, turn or warp uncovers."""


class Augment(Fill):
    """Random changes of training images; see `clipreid_kit.data.train_transform`."""

    crop: PositiveFraction = 1.0
    """Fraction of width and height that a random crop keeps."""
    horizontal_flip: Fraction = 0.0
    """Probability of mirroring."""
    pad: NonNegativeInt = 0
    """Pixels on each side before a random crop."""
    color_jitter: Fraction = 0.0
    """Largest change of brightness, contrast and saturation."""
    rotation: NonNegativeFloat = 0.0
    """Largest rotation in degrees, either way."""
    translate: Fraction = 0.0
    """Largest shift along both axes, as a fraction of the size."""
    scale: Scale = (1.0, 1.0)
    """Lowest and highest magnification."""
    shear: NonNegativeFloat = 0.0
    """Largest shear in degrees, either way."""
    perspective: Fraction = 0.0
    """How far each corner may move inwards."""
    augmix: Fraction = 0.0
    """Probability of AugMix."""
    erasing: Fraction = 0.0
    """Probability of noise in a random rectangle."""
    stripes: Fraction = 0.0
    """Probability of masking horizontal stripes."""
    stripe_share: Annotated[OpenFraction, _STRIPES] = 0.3
    """Share of the height that the stripes cover together."""
    num_stripes: Annotated[PositiveInt, _STRIPES] = 1
    """Number of stripes."""
    stripe_fill: Annotated[Literal["mean", "noise", "image"], _STRIPES] = "mean"
    """What the stripes show: the mean colour, noise, or the rows of another training image."""
    identity_orientations: Literal[1, 4, 8] = 1
    """Turn (4), or also mirror (8), all images of an identity alike, drawn anew each epoch."""
    views: Annotated[int, Field(ge=1, le=8), Needs("stage: classifier, image_encoder, joint")] = 1
    """Differently augmented views of each image in a batch, each with the image's caption."""
    identity_warp: Fraction = 0.0
    """Strength of a warp that all images of an identity undergo alike."""


class Batch(Section):
    """PK batches; see `clipreid_kit.PKSampler`. With one instance, all identities are distinct."""

    num_identities: PositiveInt = 16
    """Identities of a batch, P."""
    num_instances: PositiveInt = 4
    """Images of each identity, K."""
    coverage: Literal["identities", "images"] = "images"
    """Whether an epoch shows every identity once, or every image at least once."""
    balance_domains: bool = False
    """Fill each batch with identities of every domain, by the column `domain` of the images."""
    domain_shares: Annotated[list[PositiveFloat], Needs("batch.balance_domains")] = Field(
        default_factory=list
    )
    """Their shares in the order of the domains' names; empty for equal ones."""
    spread_cameras: Annotated[bool, Needs("batch.num_instances > 1")] = True
    """Take the images of an identity from as many of its cameras as possible."""
    across: Annotated[Literal["none", "modality", "view"], Needs("batch.num_instances > 1")] = (
        "none"
    )
    """Take equally many images of an identity of each modality, or view, of which
    `num_instances` is a multiple; identities that lack one are left out."""

    @model_validator(mode="after")
    def _one_column_is_balanced(self) -> Self:
        if self.balance_domains and self.across != "none":
            raise ValueError("`balance_domains` and `across` balance different columns; set one")
        return self


_OF_TRACKLETS = Needs("tracklets.num_frames > 0")


class Tracklets(Section):
    """Training on tracklets of several frames (`classifier`); see `clipreid_kit.TrackletSampler`.

    A batch then has `batch.num_instances` tracklets of each identity.
    """

    num_frames: NonNegativeInt = 0
    """Frames of a tracklet in a batch, T; 0 trains on single images."""
    selection: Annotated[Literal["segments", "consecutive"], _OF_TRACKLETS] = "segments"
    """Take a random frame of each of T equal segments, or frames that follow one another."""
    stride: Annotated[PositiveInt, _OF_TRACKLETS, Needs("tracklets.selection: consecutive")] = 1
    """Distance of frames that follow one another."""
    pooling: Annotated[Literal["mean", "attention", "transformer"], _OF_TRACKLETS] = "mean"
    """How the embeddings of the frames become one."""
    blocks: Annotated[PositiveInt, _OF_TRACKLETS, Needs("tracklets.pooling: transformer")] = 1
    """Blocks of the temporal transformer."""


_OTHER_THAN_CLIP_REID = Needs("stage: not clip_reid")


class AnyHead(Section):
    """The identity classifier."""

    neck: Annotated[bool, _OTHER_THAN_CLIP_REID] = True
    """Put a BatchNorm before the classifier; `clip_reid` always has its own."""
    reduced_dim: Annotated[PositiveInt | None, _OTHER_THAN_CLIP_REID, Needs("head.neck: true")] = (
        None
    )
    """Width of a linear layer before the neck; null for no such layer."""
    sync_neck: Annotated[bool, Needs("head.neck: true")] = False
    """Take the neck's mean and variance over the batches of all processes."""
    dropout: Annotated[
        FractionBelowOne, Needs("stage: classifier, image_encoder, joint, retrieval")
    ] = 0.0
    """Dropout before the classifier."""


class LinearHead(AnyHead):
    """The identity classifier: linear."""

    kind: Literal["linear"] = "linear"
    """Linear, or with an additive margin."""
    std: NonNegativeFloat = 0.001
    """Standard deviation of the classifier's initial weights."""


class MarginHead(AnyHead):
    """The identity classifier: linear between unit vectors, with a margin."""

    kind: Literal["arcface", "cosface"]
    scale: PositiveFloat = 30.0
    """Factor on the cosines."""
    margin: Annotated[float, Field(ge=0, lt=math.pi)] = 0.5
    """Margin: of arcface in radians, of cosface a cosine."""
    sampled: PositiveFraction = 1.0
    """Share of the identities in a step, those of the batch among them (Partial FC)."""


class CircleHead(AnyHead):
    """The identity classifier: linear between unit vectors, weighted as in the circle loss."""

    kind: Literal["circle"]
    scale: PositiveFloat = 256.0
    """Factor on the weighted cosines."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """How near to 1 the target's cosine should be, and to 0 the others'."""


Head = Annotated[
    LinearHead | MarginHead | CircleHead, Field(discriminator="kind"), default_tag("kind", "linear")
]

_LEARNED = Needs("prompt.epochs > 0")


class Template(Section):
    """Learned prompts (`clip_reid`) and composed ones (`prompt_sg`)."""

    template: list[str] = Field(default=["A photo of a {tokens} person."], min_length=1)
    """Sentences with a place for the learned or composed {tokens}."""


class LearnedPrompt(Template):
    """The learned prompts of CLIP-ReID's first stage, and how that stage is trained."""

    num_tokens: Annotated[NonNegativeInt, _LEARNED] = 4
    """Learned words of each identity."""
    shared_tokens: Annotated[NonNegativeInt, _LEARNED] = 0
    """Learned words that all identities share."""
    camera_tokens: Annotated[NonNegativeInt, _LEARNED] = 0
    """Learned words of each camera."""
    modality_tokens: Annotated[NonNegativeInt, _LEARNED] = 0
    """Learned words of each modality, or view."""
    modality_column: Annotated[
        Literal["modality", "view"], _LEARNED, Needs("prompt.modality_tokens > 0")
    ] = "modality"
    """Which of both has these words."""
    epochs: NonNegativeInt = 120
    """Epochs of the first stage; 0 learns no words, and takes the captions of the images."""
    batch_size: Annotated[PositiveInt, _LEARNED] = 64
    """Batch size of the first stage."""
    lr: Annotated[PositiveFloat, _LEARNED] = 3.5e-4
    """Peak learning rate of the first stage."""
    weight_decay: Annotated[NonNegativeFloat, _LEARNED] = 1e-4
    """Weight decay of the first stage."""
    warmup_epochs: Annotated[NonNegativeFloat, _LEARNED] = 5.0
    """Epochs of linear warm-up."""
    warmup_factor: Annotated[Fraction, _LEARNED, Needs("prompt.warmup_epochs > 0")] = 0.0286
    """Fraction of the rate at which the warm-up begins."""
    min_lr: Annotated[NonNegativeFloat, _LEARNED] = 1e-6
    """Learning rate at the end of the first stage."""
    temperature: Annotated[PositiveFloat, _LEARNED] = 1.0
    """Temperature of the first stage, in units of the similarity."""
    normalize: Annotated[bool, _LEARNED] = False
    """Compare by cosine instead of CLIP-ReID's dot products."""

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> Self:
        if self.epochs > 0 and self.warmup_epochs >= self.epochs:
            raise ValueError("`prompt.warmup_epochs` must be below `prompt.epochs`")
        return self

    def optim(self) -> CosineOptim:
        """Optimiser and schedule of the first stage: Adam, and one rate an epoch."""
        return CosineOptim(
            optimizer="adam",
            decay_all=True,
            by_epoch=True,
            clip_norm=None,
            epochs=self.epochs,
            lr=self.lr,
            weight_decay=self.weight_decay,
            warmup_epochs=self.warmup_epochs,
            warmup_factor=self.warmup_factor,
            min_lr=self.min_lr,
        )


_COMPOSED = Needs("prompt.mode: composed")


class ComposedPrompt(Template):
    """The composed prompts of PromptSG, and the attention that they guide."""

    template: list[str] = Field(
        default=["A photo of a {tokens} person."], min_length=1, max_length=1
    )
    """One sentence with a place for the pseudo word, {tokens}."""
    mode: Literal["composed", "simplified"] = "composed"
    """Compose a pseudo word of each image into the sentence, or leave it out."""
    test_mode: Annotated[Literal["composed", "simplified"], _COMPOSED] = "composed"
    """Likewise in the evaluation."""
    inversion: Annotated[Literal["paper", "basic"], _COMPOSED] = "paper"
    """Network that makes the pseudo word: three layers and a BatchNorm, or two layers."""
    inversion_dim: Annotated[PositiveInt, _COMPOSED] = 512
    """Hidden width of that network."""
    sync_inversion: Annotated[bool, _COMPOSED, Needs("prompt.inversion: paper")] = False
    """Take that BatchNorm's mean and variance over the batches of all processes."""
    interaction_blocks: NonNegativeInt = 2
    """Self-attention blocks after the cross-attention."""
    interaction_dropout: FractionBelowOne = 0.0
    """Dropout of these blocks."""
    unit_representation: bool = False
    """Bring what the blocks return to length 1, before head and losses."""
    triplet_levels: Annotated[Literal["image", "interaction", "final"], Needs("loss.triplet")] = (
        "image"
    )
    """Features that the triplet loss compares."""


class AnyMining(Section):
    """Contents of a batch."""


class StandardMining(AnyMining):
    """A batch of images with their captions."""

    data: Literal["standard"] = "standard"
    """Images alone, with hard negatives, or in triplets."""


class HardNegativeMining(AnyMining):
    """A batch of images and their hard negatives."""

    data: Literal["hard_negative"]
    num_negatives: PositiveInt = 3
    """Negatives of each image."""
    negatives: Literal["semantic", "random"] = "semantic"
    """Take the most similar negatives, or any."""
    refresh_epochs: PositiveInt = 1
    """Epochs after which the mining is repeated."""


class TripletMining(AnyMining):
    """A batch of triplets: anchor, positive and negative."""

    data: Literal["triplet"]
    triplets: Literal["hardest", "semi_hard"] = "hardest"
    """Which triplets are kept."""
    positives: Literal["identity", "caption"] = "identity"
    """Take as positives images of the identity, or those with the most similar captions."""
    margin: PositiveFloat = 0.5
    """Margin of the triplets that are kept, a distance."""
    refresh_epochs: PositiveInt = 1
    """Epochs after which the mining is repeated."""


Mining = Annotated[
    StandardMining | HardNegativeMining | TripletMining,
    Field(discriminator="data"),
    default_tag("data", "standard"),
]


class Tokens(Section):
    """Parts that look at single patches and words (`text_to_person`)."""

    selection_dim: NonNegativeInt = 0
    """Width of a second embedding, of the most informative patches and words; 0 for none (RDE)."""
    selection_ratio: Annotated[PositiveFraction, Needs("tokens.selection_dim > 0")] = 0.3
    """Share of the patches and words that it looks at."""
    mask_blocks: Annotated[NonNegativeInt, Needs("loss.masked_language")] = 4
    """Transformer blocks behind the attention from words to patches, for masked_language."""
    mask_heads: Annotated[PositiveInt, Needs("loss.masked_language")] = 8
    """Heads of that attention."""


class Pairs(Section):
    """Pairs of image and caption that do not belong together (`text_to_person`)."""

    division: Literal["none", "consensus"] = "none"
    """Weights of the pairs: all equal, or in each epoch those of RDE's consensus division."""
    warmup_epochs: Annotated[NonNegativeInt, Needs("pairs.division: consensus")] = 1
    """Epochs before the first division, with equal weights."""
    noise: FractionBelowOne = 0.0
    """Share of the training images that get the caption of another one, to study noisy pairs."""


class Clusters(Section):
    """Pseudo labels of the training images, found anew in each epoch (`unsupervised`)."""

    method: Literal["dbscan", "average"] = "dbscan"
    """DBSCAN, or average linkage, on Jaccard distances of k-reciprocal neighbours."""
    max_distance: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Largest distance of neighbours, or largest mean distance of clusters that are joined."""
    min_samples: Annotated[PositiveInt, Needs("clusters.method: dbscan")] = 4
    """Neighbours, the image among them, that make an image the core of a cluster."""
    min_size: Annotated[int, Field(ge=2)] = 2
    """Images of a smaller cluster are outliers, and not trained on in this epoch."""
    k1: PositiveInt = 30
    """Neighbours of an image."""
    k2: PositiveInt = 6
    """Images over which the neighbours' weights are averaged."""
    steps: PositiveInt | None = None
    """Batches of an epoch; null for as many as it takes to show each image once."""


Occluder = Literal["bottom", "top", "left", "right", "rectangle", "patch"]
_OCCLUDED = Needs("evaluate.occlusion")


class Evaluate(Section):
    """How models are evaluated."""

    protocols: list[Protocol] = Field(default_factory=list)
    """Protocols of the evaluation; empty for the source's own."""
    tracklets: Literal["none", "own", "cameras"] = "none"
    """Pool the images of each tracklet, or of each identity by each camera, and evaluate these."""
    num_frames: Annotated[PositiveInt | None, Needs("evaluate.tracklets")] = None
    """Frames of a tracklet that are encoded, evenly spaced; null for all."""
    task: Literal["image_to_image", "text_to_image", "image_to_text"] = "image_to_image"
    """Task whose metric chooses the best epoch."""
    cameras: bool = True
    """Leave out gallery images of the query's identity and camera."""
    same: Literal["left_out", "distractors"] = "left_out"
    """Gallery images of the query's own modality, or view, in the protocols `cross_modality` and
    `cross_view`: none of them counts, or wrong ones do."""
    num_splits: PositiveInt = 10
    """Random splits of the protocols `splits` and `distractors`, and drawn galleries of SYSU-MM01
    and LLCM."""
    distance: Literal["cosine", "euclidean"] = "cosine"
    """Distance of embeddings."""
    flip: bool = False
    """Average the embeddings of an image and its mirror image."""
    rotations: list[float] = Field(default=[0.0], min_length=1)
    """Angles in degrees; average the embeddings of an image turned by each."""
    rerank: bool = False
    """Also report k-reciprocal re-ranking, as a task of its own."""
    rerank_k1: Annotated[PositiveInt, Needs("evaluate.rerank")] = 20
    """Re-ranking: neighbours of an image."""
    rerank_k2: Annotated[PositiveInt, Needs("evaluate.rerank")] = 6
    """Re-ranking: images over which the neighbours' weights are averaged."""
    rerank_lambda: Annotated[Fraction, Needs("evaluate.rerank")] = 0.3
    """Re-ranking: weight of the original distance."""
    occlusion: list[Occluder] = Field(default_factory=list)
    """Also report image to image with occluders of these kinds in the images; empty for none."""
    occlusion_shares: Annotated[list[OpenFraction], _OCCLUDED] = Field(
        default=[0.1, 0.3, 0.5], min_length=1
    )
    """Shares of the area that they hide, each reported as a task of its own."""
    occlusion_sides: Annotated[Literal["query", "both"], _OCCLUDED] = "query"
    """Occlude the queries alone, or the gallery, too."""
    occlusion_seed: Annotated[NonNegativeInt, _OCCLUDED] = 0
    """Seed of places and shapes: one number for all runs that are compared."""
    captions: Annotated[
        Literal["first", "all"],
        Needs("stage: zero_shot, image_encoder, joint, retrieval, text_to_person"),
    ] = "first"
    """Queries of text to image: the first caption of each identity, or every caption."""
    widths: list[PositiveInt] = Field(default_factory=list)
    """Widths of which the first entries of the embeddings are also evaluated alone."""
    k_values: list[PositiveInt] = Field(default=[1, 5, 10], min_length=1)
    """Ranks k of hit rate, recall and NDCG between modalities."""
    predictions: NonNegativeInt = 0
    """Best matches that are written for each query, with their similarity or negated distance."""
    features: bool = False
    """Also write the embeddings of the evaluation, as features.npz."""
    towers_only: Annotated[bool, Needs("stage: zero_shot"), Needs("init_from")] = False
    """Evaluate the bare towers of a run whose method has more than towers."""
    batch_size: PositiveInt = 256
    """Images encoded at once."""


class TrainedEvaluate(Evaluate):
    """How models are evaluated, and when training stops."""

    metric: Literal["mean_ap", "rank_1", "mean_inp", "loss"] = "mean_ap"
    """Validation metric that chooses the best epoch."""
    every: PositiveInt = 1
    """Epochs between validations; the last epoch is always validated."""
    patience: PositiveInt | None = None
    """Validations without improvement before training stops; null trains all epochs."""
    descriptor: Annotated[
        Literal["pre_neck", "post_neck"],
        Needs("stage: clip_reid, prompt_sg", "loss.id"),
        Needs("head.neck: true"),
    ] = "pre_neck"
    """Take the descriptor before or after the neck."""


class Track(Section):
    """Where the log goes besides metrics.jsonl."""

    console: Literal["epochs", "results", "nothing"] = "epochs"
    """Lines that are printed."""
    checkpoint_every: PositiveInt | None = None
    """Epochs between checkpoints that stay, beside the last and the best."""
    alarms: bool = True
    """Warn of collapsed embeddings, losses at chance level and sudden rises."""
    tensorboard: bool | Literal["auto"] = False
    """Also write TensorBoard files; `auto` where tensorboard is installed."""
    wandb: str | None = None
    """Project in Weights & Biases."""
    wandb_entity: Annotated[str | None, Needs("track.wandb")] = None
    """Owner of that project."""
