"""The recipe of each stage: its sections, and how their keys fit together."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import model_validator
from typing_extensions import Self

from examples.settings.base_recipes import Recipe, TrainingRecipe
from examples.settings.batch import Clusters, Mining, StandardMining, Tracklets
from examples.settings.head import Head, LinearHead
from examples.settings.losses import (
    ClipReIDLoss,
    ImageEncoderLoss,
    ImageLoss,
    JointLoss,
    PromptSGLoss,
    RetrievalLoss,
    TextToPersonLoss,
    UnsupervisedLoss,
)
from examples.settings.prompt import ComposedPrompt, LearnedPrompt
from examples.settings.section import Needs
from examples.settings.text_terms import PAIR_TERMS
from examples.settings.text_to_person import Pairs, Tokens
from examples.settings.variants import models_in

_IDENTITY_HEAD = Annotated[Head, Needs("loss.id")]


class ZeroShotRecipe(Recipe):
    """Evaluate the towers as they are."""

    stage: Literal["zero_shot"]
    """The method that is trained; see above."""


class ClassifierRecipe(TrainingRecipe):
    """Train the image tower with an identity classifier and losses among images."""

    stage: Literal["classifier"]
    head: _IDENTITY_HEAD = LinearHead()
    loss: ImageLoss = ImageLoss()
    tracklets: Tracklets = Tracklets()

    @model_validator(mode="after")
    def _tracklets_are_evaluated(self) -> Self:
        if not self.tracklets.num_frames:
            return self

        if self.tracklets.pooling != "mean" and self.evaluate.tracklets == "none":
            raise ValueError(
                f"`tracklets.pooling: {self.tracklets.pooling}` needs `evaluate.tracklets: own`: "
                "single images are not pooled"
            )
        if self.evaluate.metric == "loss":
            raise ValueError(
                "`evaluate.metric: loss` is that of single images; choose another with "
                "`tracklets.num_frames`"
            )
        if self.evaluate.descriptor == "post_neck":
            raise ValueError(
                "`evaluate.descriptor` must be pre_neck with `tracklets.num_frames`: frames are "
                "pooled before the neck"
            )
        return self


class ImageEncoderRecipe(TrainingRecipe):
    """Train the image tower, also against the captions of a frozen text tower."""

    stage: Literal["image_encoder"]
    head: _IDENTITY_HEAD = LinearHead()
    loss: ImageEncoderLoss = ImageEncoderLoss()


class JointRecipe(TrainingRecipe):
    """Train both towers on images and captions."""

    stage: Literal["joint"]
    head: _IDENTITY_HEAD = LinearHead()
    loss: JointLoss = JointLoss()


class RetrievalRecipe(TrainingRecipe):
    """Train both towers for retrieval between images and texts, also on mined batches."""

    stage: Literal["retrieval"]
    loss: RetrievalLoss = RetrievalLoss()
    mining: Mining = StandardMining()

    @model_validator(mode="after")
    def _mined_identities_exist(self) -> Self:
        if self.mining.data != "standard" and self.data.orientations > 1:
            raise ValueError("`data.orientations` must be 1 with mined batches")
        return self

    def has_mined_batches(self) -> bool:
        """Whether `mining.data` names mined batches."""
        return self.mining.data != "standard"

    def needs_text(self) -> bool:
        """Also where batches are mined, which compares captions."""
        return super().needs_text() or self.has_mined_batches()

    def idle_keys(self) -> Iterator[tuple[str, str]]:
        """Also keys of PK batches and of InfoNCE, which mined batches compute as SupCon."""
        yield from super().idle_keys()

        keys = ("batch.coverage", "batch.spread_cameras", "batch.across", "batch.balance_domains")
        losses = ("loss.learn_temperature", "loss.label_smoothing", "loss.focal_gamma")
        for key in (*keys, *losses):
            if self.mining.data != "standard" and self._changed(key):
                yield key, "`mining.data: standard`"


class TextToPersonRecipe(TrainingRecipe):
    """Train both towers to find persons by sentences: IRRA, RDE and what lies between."""

    open_set_terms: ClassVar[tuple[str, ...]] = ()
    stage: Literal["text_to_person"]
    head: Annotated[Head, Needs("loss.id", "loss.id_text")] = LinearHead()
    loss: TextToPersonLoss = TextToPersonLoss()
    tokens: Tokens = Tokens()
    pairs: Pairs = Pairs()

    @model_validator(mode="after")
    def _parts_are_trained(self) -> Self:
        has_pair_term = any(name in PAIR_TERMS for name in self.loss.weights())
        if self.tokens.selection_dim and not has_pair_term:
            raise ValueError(
                "`tokens.selection_dim` needs `loss.sdm`, `loss.triplet_alignment` or `loss.cmpm`, "
                "which train it"
            )
        if self.pairs.division != "none" and self.data.orientations > 1:
            raise ValueError("`data.orientations` must be 1 with `pairs.division`")
        if self.pairs.division != "none" and not has_pair_term:
            raise ValueError(
                "`pairs.division` needs `loss.sdm`, `loss.triplet_alignment` or `loss.cmpm`, whose "
                "pairs it weighs"
            )
        return self

    def reads_patches(self) -> bool:
        """Selection of informative patches, and prediction of words from patches."""
        return self.tokens.selection_dim > 0 or self.loss.masked_language > 0

    def trains_on_captions(self) -> bool:
        """Always: without a caption there is nothing to compare an image with."""
        return True

    def idle_keys(self) -> Iterator[tuple[str, str]]:
        """Also the level of the descriptor, which is before the neck."""
        yield from super().idle_keys()
        if self._changed("evaluate.descriptor"):
            yield "evaluate.descriptor", "another stage"


class ClipReIDRecipe(TrainingRecipe):
    """CLIP-ReID: learn prompts of the identities, then train the image tower against them."""

    open_set_terms: ClassVar[tuple[str, ...]] = ()
    stage: Literal["clip_reid"]
    head: _IDENTITY_HEAD = LinearHead()
    loss: ClipReIDLoss = ClipReIDLoss()
    prompt: LearnedPrompt = LearnedPrompt()

    @model_validator(mode="after")
    def _texts_are_used(self) -> Self:
        if self.prompt.epochs > 0 and not (self.loss.image_to_text or self.loss.supcon):
            raise ValueError(
                "learned prompts need `loss.image_to_text` or `loss.supcon`; or set "
                "`prompt.epochs: 0`"
            )
        if self.data.orientations > 1:
            raise ValueError("`data.orientations` must be 1, because texts belong to identities")
        return self

    def needs_text(self) -> bool:
        """Also where a term compares images with the texts of identities."""
        return super().needs_text() or bool(self.loss.image_to_text or self.loss.supcon)


class PromptSGRecipe(TrainingRecipe):
    """PromptSG: train the image tower guided by a sentence with a pseudo word of each image."""

    open_set_terms: ClassVar[tuple[str, ...]] = ()
    stage: Literal["prompt_sg"]
    head: _IDENTITY_HEAD = LinearHead()
    loss: PromptSGLoss = PromptSGLoss()
    prompt: ComposedPrompt = ComposedPrompt()

    @model_validator(mode="after")
    def _texts_differ(self) -> Self:
        if self.prompt.mode == "simplified" and self.loss.supcon:
            raise ValueError(
                "`loss.supcon` needs `prompt.mode: composed`; a simplified text is the same for "
                "all images"
            )
        return self

    def reads_patches(self) -> bool:
        """Always: the sentence attends to patches."""
        return True

    def needs_text(self) -> bool:
        """Always: a sentence guides the image tower."""
        return True


class UnsupervisedRecipe(TrainingRecipe):
    """Train the image tower without identities, on clusters that each epoch finds anew."""

    open_set_terms: ClassVar[tuple[str, ...]] = ()
    stage: Literal["unsupervised"]
    loss: UnsupervisedLoss = UnsupervisedLoss()
    clusters: Clusters = Clusters()

    @model_validator(mode="after")
    def _no_label_is_used(self) -> Self:
        if self.data.balance == "identity":
            raise ValueError("`data.balance: identity` uses the identities, which are hidden here")
        if self.data.orientations > 1:
            raise ValueError("`data.orientations` must be 1, because clusters are of whole images")
        if self.augment.identity_warp or self.augment.identity_orientations > 1:
            raise ValueError(
                "`augment.identity_warp` and `augment.identity_orientations` change all images of "
                "an identity alike, and identities are hidden here"
            )
        return self

    @model_validator(mode="after")
    def _memory_is_not_averaged(self) -> Self:
        keys = {
            "optim.ema_decay": bool(self.optim.ema_decay),
            "teacher.source": self.teacher.source == "average",
        }
        for key, is_averaged in keys.items():
            if is_averaged:
                raise ValueError(
                    f"`{key}` averages the method with its memory, whose size changes with the "
                    "clusters; leave it out"
                )
        return self

    def has_mined_batches(self) -> bool:
        """Always: batches are of clusters, and not of identities with several images each."""
        return True

    def idle_keys(self) -> Iterator[tuple[str, str]]:
        """Also what would choose the epoch by identities: the last one is kept."""
        yield from super().idle_keys()
        for key in ("evaluate.metric", "evaluate.patience", "evaluate.task"):
            if self._changed(key):
                yield key, "another stage: without identities the last epoch is kept"


# A new stage is a model above, its name here, and examples/trainer/stages/<stage>.py.
AnyRecipe = (
    ZeroShotRecipe
    | ClassifierRecipe
    | ImageEncoderRecipe
    | JointRecipe
    | RetrievalRecipe
    | TextToPersonRecipe
    | ClipReIDRecipe
    | PromptSGRecipe
    | UnsupervisedRecipe
)
RECIPES = models_in(AnyRecipe)
