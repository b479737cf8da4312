"""What a recipe can say: typed keys with their ranges. Every key changes what happens."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from examples.settings.ranges import Below1, Count, NotNegative, Part, Positive, Range, Share, Some

Mined = Literal["standard", "hard_negative", "triplet"]
Stage = Literal[
    "zero_shot", "classifier", "image_encoder", "joint", "clip_reid", "prompt_sg", "retrieval"
]
Schedule = Literal["cosine", "multistep", "step", "exponential", "restarts", "constant"]
Blocks = Count | Literal["all", "none"]
Source = Literal[
    "synthetic", "folder", "table", "omniglot", "market1501", "msmt17", "cuhk03", "veri776", "vehicleid", "inshop",
    "hands11k", "polyu_hands", "online_products", "cuhk_pedes", "annotations", "captioned_folder",
]  # fmt: skip
Protocol = Literal["query_gallery", "splits", "distractors", "leave_one_out", "single_shot"]


@dataclass(slots=True, kw_only=True)
class Data:
    """Where images, identities and captions come from."""

    source: Source = "synthetic"  # a generated set, a layout of one's own, or a benchmark's
    root: str | None = (
        None  # folder, table or zip file; `--data` overrides it; a generated set needs none
    )
    camera_pattern: str | None = (
        None  # `folder`: a regular expression with a group `camera`, for file names
    )
    aspect: Literal["dorsal_r", "dorsal_l", "palmar_r", "palmar_l"] = (
        "dorsal_r"  # hands: the others are distractors
    )
    boxes: Literal["labeled", "detected"] = "labeled"  # `cuhk03`: which boxes
    merge_val: bool = True  # `msmt17`: train on train and val
    test_identities: Literal[800, 1600, 2400] = 800  # `vehicleid`: which test list
    held_out: list[str] = field(
        default_factory=list
    )  # `omniglot`: training alphabets for validation
    num_identities: Annotated[int, Range(20)] = 240  # `synthetic`: identities of all splits
    views_per_camera: Annotated[int, Range(2)] = (
        3  # `synthetic`: images of an identity by each of four cameras
    )
    validation: Below1 = (
        0.0  # share of the training identities that are held out to choose the epoch
    )
    texts: str | None = None  # a JSON file of texts, beside the images or by its path
    texts_key: Literal["identity", "variant", "image"] = "identity"  # what its keys name
    caption: str | None = (
        None  # a sentence for all images, with fields such as {identity}, {aspect}, {camera}
    )
    token_safe: bool = False  # shorten captions at sentences, and not at the last token that fits
    max_tokens: Annotated[int, Range(3)] = (
        77  # longest text, start and end included; the model's context if shorter
    )
    caption_variations: Some = 1  # ways to say a caption of which an epoch draws one; 1 keeps it
    paraphrases: bool = True  # whether these include other sentences around the caption
    synonyms: str | None = None  # a JSON file: word to list of words
    balance: Literal["none", "category", "length", "identity"] = (
        "none"  # what groups of images are made equal
    )
    at_most: Some | None = (
        None  # images of a group; nothing for those of the smallest group, or any if at_least is set
    )
    at_least: Some | None = None  # images of a group, by repeating them
    counts: Literal["warn", "raise", "ignore"] = (
        "warn"  # if a benchmark has other than its official numbers
    )
    check: Literal["files", "raise", "skip"] = (
        "files"  # decode nothing, everything, or leave out what is wrong
    )
    orientations: Literal[1, 4, 8] = 1  # derived identities: quarter turns, mirrored as well
    cache: bool = False  # keep decoded training images in memory
    workers: Count = 1  # processes that load training images
    pin_memory: bool = False  # page-locked batches, for a GPU


@dataclass(slots=True, kw_only=True)
class Model:
    """Which towers, with which weights, and what of them is trained."""

    name: str = "reid-tiny-resnet"  # an open_clip model, or one of the small ones of clipreid_kit
    pretrained: str | None = None  # a tag of open_clip or a local file; nothing for random weights
    image_size: tuple[Some, Some] | None = (
        None  # (height, width) in pixels; nothing for the native size
    )
    image_mean: tuple[float, float, float] | None = None  # nothing for the model's own
    image_std: tuple[Positive, Positive, Positive] | None = None  # nothing for the model's own
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"  # of resizing
    fit: Literal["stretch", "pad", "crop"] = "stretch"  # of pictures with another aspect
    patch_stride: Some | None = None  # overlapping patches of a ViT; nothing for the patch size
    last_stride: Literal[1, 2] | None = (
        None  # of a ResNet's last stage; nothing for the model's own
    )
    position_resize: Literal["bicubic", "clip_reid"] = (
        "bicubic"  # of position tables; clip_reid: bilinear, as its code
    )
    camera_embedding: bool = False  # learned for each camera of the data, added to the tokens
    view_embedding: bool = False  # likewise, for each view
    image_blocks: Blocks = "all"  # last blocks of the image tower that are trained
    text_blocks: Blocks = "all"  # likewise of the text tower, in stages that train it
    train_projections: bool = True  # whether the last projections of both towers are trained
    batch_norm: Literal["follow", "frozen", "running"] = (
        "follow"  # running statistics of BatchNorm in training
    )
    gradient_checkpointing: bool = False  # compute twice, keep less
    channels_last: bool = False  # keep channels together in memory: faster for convolutions


@dataclass(slots=True, kw_only=True)
class Augment:
    """Random changes of training images; see `clipreid_kit.data.train_transform`."""

    crop: Annotated[float, Range(0, 1, above=True, below=False)] = (
        1.0  # share of width and height that a random crop keeps
    )
    horizontal_flip: Share = 0.0  # probability of mirroring
    pad: Count = 0  # pixels on each side before a random crop
    color_jitter: Share = 0.0  # largest change of brightness, contrast and saturation
    rotation: NotNegative = 0.0  # largest angle in degrees, either way
    translate: Share = 0.0  # largest shift along both axes, as a fraction
    scale: tuple[Positive, Positive] = (1.0, 1.0)  # lowest and highest magnification
    shear: NotNegative = 0.0  # largest angle in degrees, either way
    perspective: Share = 0.0  # how far each corner may move inwards
    augmix: Share = 0.0  # probability of AugMix
    fill: Annotated[int, Range(0, 255, below=False)] = 0  # grey level of what these uncover
    erasing: Share = 0.0  # probability of noise in a random rectangle
    identity_orientations: Literal[1, 4, 8] = (
        1  # turn all images of an identity alike, another way each epoch
    )
    identity_warp: Share = 0.0  # strength of a warp that all images of an identity undergo alike


@dataclass(slots=True, kw_only=True)
class Batch:
    """PK batches; see `clipreid_kit.PKSampler`. One instance gives batches of distinct identities."""

    num_identities: Some = 16  # P
    num_instances: Some = 4  # K
    coverage: Literal["identities", "images"] = "images"  # what an epoch shows all of
    spread_cameras: bool = True  # take an identity's images from as many cameras as it has


@dataclass(slots=True, kw_only=True)
class Head:
    """The identity classifier."""

    kind: Literal["linear", "arcface", "cosface"] = "linear"  # linear, or with a margin
    neck: bool = True  # a BatchNorm before it (with `clip_reid` always)
    reduced_dim: Some | None = None  # width of a linear layer before that
    dropout: Below1 = 0.0  # before the classifier
    scale: Positive = 30.0  # of arcface and cosface
    margin: Annotated[float, Range(0, math.pi)] = (
        0.5  # of arcface, in radians, and cosface, in cosines
    )
    std: NotNegative = 0.001  # of a linear classifier's first weights


@dataclass(slots=True, kw_only=True)
class Loss:
    """Weight of each term, 0 to leave it out, and what the terms take."""

    id: NotNegative = 0.0  # cross entropy of the identity classifier
    triplet: NotNegative = 0.0  # batch-hard, among images
    center: NotNegative = 0.0  # distance to the identity's centre
    supcon_image: NotNegative = 0.0  # SupCon among images
    supcon_text: NotNegative = 0.0  # SupCon between images and captions, both directions
    info_nce: NotNegative = (
        0.0  # symmetric, pairs of image and caption; needs `batch.num_instances: 1`
    )
    hard_negative: NotNegative = 0.0  # InfoNCE and a hinge on the hardest captions and images
    triplet_text: NotNegative = 0.0  # triplets of images and captions, both directions
    image_to_text: NotNegative = 0.0  # `clip_reid`: cross entropy over the texts of all identities
    supcon: NotNegative = 0.0  # `clip_reid`, `prompt_sg`: images and learned or composed texts
    prototype: NotNegative = 0.0  # contrast with a memory of all identities
    ramp_epochs: Count = 0  # epochs in which the weight of supcon rises from 0
    temperature: Positive = 0.07  # of contrastive terms, in units of cosine similarity
    learn_temperature: bool = False  # by the towers' logit scale; for info_nce
    margin: NotNegative = 0.3  # of triplets
    soft_margin: bool = False  # of triplets: a softplus for the hinge
    mining: Literal["hardest", "semi_hard", "all"] = "hardest"  # of triplets
    distance: Literal["euclidean", "cosine"] = "euclidean"  # of triplets
    label_smoothing: Below1 = 0.0  # of classifiers, image_to_text and info_nce
    negative_margin: Annotated[float, Range(-1, 1)] = 0.5  # of hard_negative: a cosine
    num_hard: Some = 3  # of hard_negative
    focal_gamma: NotNegative = 0.0  # of info_nce: less weight on pairs that are right already
    focal_alpha: Positive = 1.0  # of info_nce with focal_gamma
    momentum: Below1 = 0.2  # of prototype: share of a prototype that stays


@dataclass(slots=True, kw_only=True)
class Prompt:
    """Learned prompts (`clip_reid`) and composed ones (`prompt_sg`)."""

    template: list[str] = field(
        default_factory=lambda: ["A photo of a {tokens} person."]
    )  # sentences
    num_tokens: Count = 4  # learned words of an identity
    shared_tokens: Count = 0  # learned words that all identities share
    camera_tokens: Count = 0  # learned words of each camera
    epochs: Count = (
        120  # of the first stage; 0 takes the sentences as they are, without learned words
    )
    batch_size: Some = 64  # of the first stage
    lr: Positive = 3.5e-4  # of the first stage
    weight_decay: NotNegative = 1e-4  # likewise
    warmup_epochs: NotNegative = 5.0  # likewise
    warmup_factor: Share = 0.0286  # share of the rate at which warm-up begins
    min_lr: NotNegative = 1e-6  # at the end of the first stage
    temperature: Positive = 1.0  # of the first stage, in units of the similarity
    normalize: bool = False  # by cosine in the first stage; CLIP-ReID takes dot products
    mode: Literal["composed", "simplified"] = (
        "composed"  # `prompt_sg`: a pseudo word from each image, or none
    )
    test_mode: Literal["composed", "simplified"] = "composed"  # likewise, when images are compared
    inversion_dim: Some = 512  # hidden width of the network that makes the pseudo word
    interaction_blocks: Count = 2  # self-attention blocks after the cross-attention
    interaction_dropout: Below1 = 0.0  # in these blocks
    triplet_levels: Literal["image", "interaction", "final"] = (
        "image"  # what triplets of `prompt_sg` compare
    )

    def optim(self) -> "Optim":
        """Optimiser and schedule of the first stage, by its rates: Adam, decay on all, one rate an epoch."""
        names = ("epochs", "lr", "weight_decay", "warmup_epochs", "warmup_factor", "min_lr")
        own = {name: getattr(self, name) for name in names}
        return Optim(optimizer="adam", decay_all=True, by_epoch=True, clip_norm=None, **own)


@dataclass(slots=True, kw_only=True)
class Mining:
    """`retrieval`: what a batch is made of."""

    data: Literal["standard", "hard_negative", "triplet"] = (
        "standard"  # alone, with negatives, or triplets
    )
    num_negatives: Some = 3  # of each image
    negatives: Literal["semantic", "random"] = "semantic"  # the most similar ones, or any
    triplets: Literal["hardest", "semi_hard"] = "hardest"  # which are kept
    positives: Literal["identity", "caption"] = "identity"  # of triplets; caption: by similarity
    margin: Positive = 0.5  # of triplets, a distance
    refresh_epochs: Some = 1  # epochs after which features are made anew


@dataclass(slots=True, kw_only=True)
class Optim:
    """Optimiser and schedule, stepped every batch."""

    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"  # sgd with momentum
    epochs: Some = 10  # passes over the training images, as `batch.coverage` counts them
    lr: Positive = 1e-3  # peak rate of the image tower
    text_lr: Positive | None = None  # of the text tower; nothing for lr
    projection_lr: Positive | None = (
        None  # of both towers' last projections; nothing for their tower's
    )
    head_lr: Positive | None = None  # of all that is beside the towers; nothing for lr
    center_lr: Positive = 0.5  # of the centres, by plain SGD
    weight_decay: NotNegative = 0.05  # on matrices and kernels
    decay_all: bool = False  # also biases, norms and tables
    bias_lr_factor: Positive = 1.0  # factor on the rate of biases
    layer_decay: Part = 1.0  # factor on the rate, by block
    momentum: Below1 = 0.9  # of sgd
    beta1: Below1 = 0.9  # of adam and adamw
    beta2: Below1 = 0.999  # of adam and adamw
    schedule: Schedule = "cosine"  # of the rate, after the warm-up
    warmup_epochs: NotNegative = 1.0  # epochs of linear warm-up; may be a fraction
    warmup_factor: Share = 0.0  # share of the rate at which warm-up begins
    min_lr: NotNegative = 0.0  # of cosine and restarts
    milestones: list[Some] = field(default_factory=list)  # epochs of multistep
    step_epochs: Some = 30  # of step; epochs between restarts
    gamma: Share = 0.1  # of multistep, step (at each) and exponential (every epoch)
    by_epoch: bool = False  # hold the rate during an epoch
    clip_norm: Positive | None = 5.0  # largest global gradient norm; nothing for any
    ema_decay: Below1 = (
        0.0  # share of the old average of weights kept at each step; the average is evaluated
    )


@dataclass(slots=True, kw_only=True)
class Evaluate:
    """How models are compared, and when training stops."""

    protocols: list[Protocol] = field(default_factory=list)  # nothing for the source's own
    task: Literal["image_to_image", "text_to_image", "image_to_text"] = (
        "image_to_image"  # of the metric
    )
    metric: Literal["mean_ap", "rank_1", "mean_inp", "loss"] = (
        "mean_ap"  # on validation; chooses the best epoch
    )
    every: Some = 1  # epochs between validations; the last is always validated
    patience: Some | None = None  # validations without a gain before training stops
    cameras: bool = True  # leave out gallery images of the query's identity and camera
    num_splits: Some = 10  # of splits and distractors
    descriptor: Literal["pre_neck", "post_neck"] = "pre_neck"  # the necks, where there are any
    distance: Literal["cosine", "euclidean"] = "cosine"  # of embeddings when they are compared
    flip: bool = False  # average over mirrored images
    rotations: list[float] = field(
        default_factory=lambda: [0.0]
    )  # degrees; average over turned images
    rerank: bool = False  # also report k-reciprocal re-ranking, as a task of its own
    rerank_k1: Some = 20  # of it: neighbours of an image
    rerank_k2: Some = 6  # of it: images over which the neighbours' weights are averaged
    rerank_lambda: Share = 0.3  # of it: share of the original distance
    k_values: list[Some] = field(
        default_factory=lambda: [1, 5, 10]
    )  # of hit rate, recall and NDCG between modalities
    predictions: Count = (
        0  # write this many of the best for each query, with similarity (or minus the distance)
    )
    batch_size: Some = 256  # images encoded at once

    def reranking(self) -> dict[str, Any]:
        """What `KReciprocalReranker` takes."""
        return {"k1": self.rerank_k1, "k2": self.rerank_k2, "lambda_value": self.rerank_lambda}


@dataclass(slots=True, kw_only=True)
class Track:
    """Where the log goes besides metrics.jsonl."""

    console: Literal["epochs", "results", "nothing"] = "epochs"  # what is printed
    tensorboard: bool = False  # also write TensorBoard's files
    wandb: str | None = None  # a project
    wandb_entity: str | None = None  # the project's owner


@dataclass(slots=True, kw_only=True)
class Recipe:
    """One run."""

    stage: Literal[
        "zero_shot", "classifier", "image_encoder", "joint", "clip_reid", "prompt_sg", "retrieval"
    ]  # see above
    note: str  # why this recipe exists
    seed: Annotated[int, Range(0, 2**32)] = (
        0  # of weights, batches, augmentation, splits and the generated set
    )
    init_from: str | None = None  # a run or checkpoint whose weights to begin with
    device: Literal["auto", "cpu"] = "auto"  # a GPU if there is one, or never
    precision: Literal["no", "bf16", "fp16"] = "no"  # mixed precision of the training steps
    accumulate: Some = 1  # batches to one step
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    augment: Augment = field(default_factory=Augment)
    batch: Batch = field(default_factory=Batch)
    head: Head = field(default_factory=Head)
    loss: Loss = field(default_factory=Loss)
    prompt: Prompt = field(default_factory=Prompt)
    mining: Mining = field(default_factory=Mining)
    optim: Optim = field(default_factory=Optim)
    evaluate: Evaluate = field(default_factory=Evaluate)
    track: Track = field(default_factory=Track)
