"""The section `evaluate`: how models are evaluated, and when training stops."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from examples.settings.images import Protocol
from examples.settings.section import Fraction, Needs, OpenFraction, Section

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
