"""The section `loss`: a model for each stage, of the terms that it can sum and what they take."""

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

from examples.settings.section import TERM, FractionBelowOne, Needs, Section, Weight

# Terms are summed in this order; those that are not listed follow as they are declared.
_ORDER = (
    "id",
    "triplet",
    "center",
    "supcon_image",
    "recall_surrogate",
    "smooth_ap",
    "self_supervision",
    "supcon_text",
    "info_nce",
    "hard_negative",
    "triplet_text",
    "sdm",
    "triplet_alignment",
    "cmpm",
    "id_text",
    "masked_language",
    "image_to_text",
    "supcon",
    "prototype",
    "camera_prototype",
)
# Terms that compare embeddings of any width.
NESTED_TERMS = (
    *("triplet", "supcon_image", "recall_surrogate", "smooth_ap"),
    *("supcon_text", "info_nce", "hard_negative", "triplet_text"),
    *("sdm", "triplet_alignment", "cmpm"),
)
_TRIPLETS = Needs("loss.triplet", "loss.triplet_text")
_HARD_NEGATIVE = Needs("loss.hard_negative")
_INFO_NCE = Needs("loss.info_nce")


class Terms(Section):
    """Weight of each term, 0 to leave it out, and what the terms take."""

    @classmethod
    def terms(cls) -> list[str]:
        """Names of the terms: the keys of type ``Weight``, in the order of their sum."""
        declared = [name for name, field in cls.model_fields.items() if TERM in field.metadata]
        listed = [name for name in _ORDER if name in declared]
        return listed + [name for name in declared if name not in _ORDER]

    def weights(self) -> dict[str, float]:
        """Weight of each term that is switched on."""
        weights = {name: getattr(self, name) for name in self.terms()}
        return {name: weight for name, weight in weights.items() if weight > 0}


class AnyLoss(Terms):
    """Weight of each term, 0 to leave it out, and what the terms take."""

    temperature: Annotated[
        PositiveFloat,
        Needs(
            "loss.supcon_image",
            "loss.supcon_text",
            "loss.info_nce",
            "loss.hard_negative",
            "loss.triplet_text",
            "loss.supcon",
            "loss.prototype",
            "loss.camera_prototype",
        ),
    ] = 0.07
    """Temperature of the contrastive terms, in units of cosine similarity."""
    triplet: Weight = 0.0
    """Triplet loss among images, batch-hard by default."""
    margin: Annotated[NonNegativeFloat, _TRIPLETS, Needs("loss.soft_margin: false")] = 0.3
    """Margin of triplets."""
    soft_margin: Annotated[bool, _TRIPLETS] = False
    """Use a softplus instead of the hinge of triplets."""
    mining: Annotated[Literal["hardest", "semi_hard", "all"], _TRIPLETS] = "hardest"
    """Which triplets of a batch count."""
    distance: Annotated[Literal["euclidean", "cosine"], _TRIPLETS] = "euclidean"
    """Distance of triplets."""


class Smoothing(Section):
    """Label smoothing."""

    label_smoothing: Annotated[
        FractionBelowOne,
        Needs("loss.id", "loss.id_text", "loss.image_to_text", "loss.info_nce"),
    ] = 0.0
    """Label smoothing of classifiers, image_to_text and info_nce."""


class IdentityTerm(Smoothing):
    """Classification of the training identities."""

    id: Weight = 0.0
    """Cross-entropy of the identity classifier."""
    adaptive_smoothing: Annotated[FractionBelowOne, Needs("loss.id")] = 0.0
    """Smoothing of id, times the probability of the target; in place of label_smoothing."""
    id_focal_gamma: Annotated[NonNegativeFloat, Needs("loss.id")] = 0.0
    """Exponent of id that weighs down images which are right already."""

    @model_validator(mode="after")
    def _smooths_once(self) -> Self:
        if self.label_smoothing and self.adaptive_smoothing:
            raise ValueError(
                "`loss.label_smoothing` and `loss.adaptive_smoothing` exclude each other"
            )
        return self


class CenterTerm(Section):
    """Distance to a learned centre."""

    center: Weight = 0.0
    """Distance to the center of the identity."""


class ImageContrastTerm(Section):
    """SupCon among images."""

    supcon_image: Weight = 0.0
    """SupCon among images."""


class RankTerms(Section):
    """Ranks among images, made differentiable."""

    recall_surrogate: Weight = 0.0
    """Recall@k surrogate among images."""
    recall_ks: Annotated[list[PositiveInt], Needs("loss.recall_surrogate")] = Field(
        default=[1, 2, 4, 8, 16], min_length=1
    )
    """Ranks k whose recalls are averaged; a batch should be several times larger."""
    smooth_ap: Weight = 0.0
    """Smooth-AP among images."""
    rank_temperature: Annotated[PositiveFloat, Needs("loss.recall_surrogate", "loss.smooth_ap")] = (
        0.01
    )
    """Temperature of both where similarities are compared, in units of cosine similarity."""


class ViewTerm(Section):
    """Contrast of augmented views."""

    self_supervision: Annotated[Weight, Needs("augment.views > 1")] = 0.0
    """SimCLR's contrast of the views of an image, behind a projection."""
    self_temperature: Annotated[PositiveFloat, Needs("loss.self_supervision")] = 0.1
    """Temperature of self_supervision, in units of cosine similarity."""
    self_hidden_dim: Annotated[PositiveInt | None, Needs("loss.self_supervision")] = None
    """Width inside that projection; null for the width of the embeddings."""
    self_dim: Annotated[PositiveInt, Needs("loss.self_supervision")] = 128
    """Width of that projection."""


class NestedWidths(Section):
    """Matryoshka embeddings."""

    matryoshka: Annotated[list[PositiveInt], Needs(*(f"loss.{name}" for name in NESTED_TERMS))] = []  # noqa: RUF012 (pydantic copies it)
    """Widths of the embedding at which each term of pairs is summed, the full one among them if it
    should be trained as such; empty for the full one alone."""


class PrototypeTerm(Section):
    """Contrast with a memory."""

    prototype: Weight = 0.0
    """Contrast with a memory of all identities."""
    momentum: Annotated[FractionBelowOne, Needs("loss.prototype", "loss.camera_prototype")] = 0.2
    """Fraction of a prototype that each update keeps."""


class PairTerms(Section):
    """Matching of images and captions."""

    sdm: Weight = 0.0
    """Similarity distribution matching of images and captions (IRRA)."""
    sdm_temperature: Annotated[PositiveFloat, Needs("loss.sdm")] = 0.02
    """Temperature of sdm, in units of cosine similarity."""
    triplet_alignment: Weight = 0.0
    """Triplet alignment loss of images and captions (TAL of RDE)."""
    alignment_margin: Annotated[NonNegativeFloat, Needs("loss.triplet_alignment")] = 0.1
    """Margin of triplet_alignment, a cosine."""
    alignment_temperature: Annotated[PositiveFloat, Needs("loss.triplet_alignment")] = 0.015
    """Temperature of triplet_alignment, in units of cosine similarity."""
    cmpm: Weight = 0.0
    """Cross-modal projection matching of images and captions."""


class CaptionTerms(PairTerms, Smoothing):
    """Contrast of images and captions."""

    supcon_text: Weight = 0.0
    """SupCon between images and captions, in both directions."""
    info_nce: Weight = 0.0
    """Symmetric InfoNCE of image and caption pairs; needs `batch.num_instances: 1`."""
    learn_temperature: Annotated[bool, _INFO_NCE] = False
    """Learn the temperature of info_nce."""
    focal_gamma: Annotated[NonNegativeFloat, _INFO_NCE] = 0.0
    """Exponent of info_nce that weighs down pairs which are right already."""
    focal_alpha: Annotated[PositiveFloat, Needs("loss.focal_gamma")] = 1.0
    """Factor of info_nce with `focal_gamma`."""

    @model_validator(mode="after")
    def _smooths_or_focuses(self) -> Self:
        if self.label_smoothing and self.focal_gamma:
            raise ValueError("`loss.label_smoothing` and `loss.focal_gamma` exclude each other")
        return self


class HardCaptionTerms(CaptionTerms):
    """Contrast of images and captions, with the hardest of a batch."""

    hard_negative: Weight = 0.0
    """InfoNCE and a hinge on the hardest captions and images."""
    triplet_text: Weight = 0.0
    """Triplets of images and captions, in both directions."""
    negative_margin: Annotated[float, Field(ge=-1, lt=1), _HARD_NEGATIVE] = 0.5
    """Cosine above which hard_negative pushes negatives away."""
    num_hard: Annotated[PositiveInt, _HARD_NEGATIVE] = 3
    """Negatives of hard_negative."""


class RampedTerm(Section):
    """SupCon between images and the texts of identities."""

    supcon: Weight = 0.0
    """SupCon between images and learned or composed texts."""
    ramp_epochs: Annotated[NonNegativeInt, Needs("loss.supcon")] = 0
    """Epochs in which the weight of supcon rises from 0."""


class ImageLoss(
    NestedWidths,
    ViewTerm,
    PrototypeTerm,
    RankTerms,
    ImageContrastTerm,
    CenterTerm,
    IdentityTerm,
    AnyLoss,
):
    """Weight of each term, 0 to leave it out, and what the terms take."""


class ImageEncoderLoss(CaptionTerms, ImageLoss):
    """Weight of each term, 0 to leave it out, and what the terms take."""


class JointLoss(HardCaptionTerms, ImageLoss):
    """Weight of each term, 0 to leave it out, and what the terms take."""

    id_text: Annotated[Weight, Needs("loss.id")] = 0.0
    """Cross-entropy of captions, by the identity classifier of the images."""


class TextToPersonLoss(PairTerms, IdentityTerm, Terms):
    """Weight of each term, 0 to leave it out, and what the terms take."""

    id_text: Weight = 0.0
    """Cross-entropy of captions, by the identity classifier of the images."""
    masked_language: Weight = 0.0
    """Masked words of the captions, guessed with the help of the images (IRRA)."""


class RetrievalLoss(NestedWidths, HardCaptionTerms, ImageContrastTerm, AnyLoss):
    """Weight of each term, 0 to leave it out, and what the terms take."""


class ClipReIDLoss(RampedTerm, CenterTerm, IdentityTerm, AnyLoss):
    """Weight of each term, 0 to leave it out, and what the terms take."""

    image_to_text: Weight = 0.0
    """Cross-entropy over the texts of all identities."""


class PromptSGLoss(RampedTerm, IdentityTerm, AnyLoss):
    """Weight of each term, 0 to leave it out, and what the terms take."""

    balance: Literal["none", "magnitude"] = "none"
    """Keep the terms in proportion to their weights, by running means of their sizes."""


class UnsupervisedLoss(PrototypeTerm, ImageContrastTerm, AnyLoss):
    """Weight of each term, 0 to leave it out, and what the terms take."""

    camera_prototype: Weight = 0.0
    """Contrast with a memory of each cluster in each camera, within and across cameras (CAP)."""
    memory_update: Annotated[
        Literal["hardest", "mean", "each"], Needs("loss.prototype", "loss.camera_prototype")
    ] = "hardest"
    """Images of a batch that move a prototype: the least similar, the mean, or one by one."""
    camera_negatives: Annotated[PositiveInt, Needs("loss.camera_prototype")] = 50
    """Most similar prototypes of other clusters that camera_prototype compares across cameras."""
    inter_camera: Annotated[NonNegativeFloat, Needs("loss.camera_prototype")] = 0.5
    """Weight of the part of camera_prototype that compares across cameras."""
