"""The recipe of each stage: its sections, and how keys of several sections fit together."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator
from typing_extensions import Self

from examples.settings.augment import Augment, Fill
from examples.settings.batch import Batch, Clusters, Mining, StandardMining, Tracklets
from examples.settings.data import PAIR_TERMS, TEXT_TERMS, Data, Synthetic
from examples.settings.evaluate import Evaluate, TrainedEvaluate
from examples.settings.head import Head, LinearHead
from examples.settings.losses import (
    ClipReIDLoss,
    ImageEncoderLoss,
    ImageLoss,
    JointLoss,
    PromptSGLoss,
    RetrievalLoss,
    Terms,
    TextToPersonLoss,
    UnsupervisedLoss,
)
from examples.settings.model import Model, TrainedModel
from examples.settings.optim import CosineOptim, Optim
from examples.settings.prompt import ComposedPrompt, LearnedPrompt
from examples.settings.section import Needs, Section, default_of, idle_keys, lookup
from examples.settings.teacher import NoTeacher, Teacher
from examples.settings.text_to_person import Pairs, Tokens
from examples.settings.track import Track
from examples.settings.variants import models_in

# YAML 1.1 reads an unquoted `no` as false.
Precision = Annotated[
    Literal["no", "bf16", "fp16"],
    BeforeValidator(lambda value: "no" if value is False else value),
]
_PAIRS_OF_AN_IDENTITY = ("supcon_image", "triplet", "recall_surrogate", "smooth_ap", "supcon")
_ALONGSIDE_TEXTS = ("text_to_person", "query_gallery", "leave_one_out")
_DRAWN_SHOTS = ("sysu_all", "sysu_all_multi", "sysu_indoor", "sysu_indoor_multi", "llcm")
_ACROSS_MODALITIES = ("cross_modality", *_DRAWN_SHOTS)
_IDENTITY_HEAD = Annotated[Head, Needs("loss.id")]


class Recipe(Section):
    """The run."""

    stage: str
    note: str
    """Why this recipe exists."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of weights, batches, augmentation, splits and the generated set."""
    init_from: str | None = None
    """A run or checkpoint whose weights are loaded first."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Use a GPU if there is one, never, or require one."""
    threads: Annotated[PositiveInt | None, Field(le=1024)] = None
    """CPU threads of torch in each process; null for the number that torch chooses."""
    deterministic: bool = False
    """Repeat a run, or resume it, to the last bit on a GPU too; slower there, the same on a CPU."""
    data: Data = Synthetic()
    model: Model = Model()
    augment: Fill = Fill()
    evaluate: Evaluate = Evaluate()
    track: Track = Track()

    def protocols(self) -> tuple[str, ...]:
        """The protocols of the evaluation: the recipe's, or those of the source for the stage."""
        if self.evaluate.protocols:
            return tuple(self.evaluate.protocols)

        own = self.data.protocols
        return own if self.compares_texts() else tuple(p for p in own if p != "text_to_person")

    def compares_texts(self) -> bool:
        """Whether captions are compared with images in the evaluation."""
        stages = ("zero_shot", "image_encoder", "joint", "retrieval", "text_to_person")
        return self.stage in stages and self.model.has_text()

    def compares_across(self) -> Literal["modality", "view"] | None:
        """The column that queries and their matches differ in; ``None`` if they need not."""
        protocols = self.protocols()
        if "cross_view" in protocols:
            return "view"
        return "modality" if any(name in _ACROSS_MODALITIES for name in protocols) else None

    def needs_text(self) -> bool:
        """Whether a text tower runs: in training, or for the task that is evaluated."""
        return self.evaluate.task != "image_to_image"

    @model_validator(mode="after")
    def _text_tower_exists(self) -> Self:
        if self.needs_text() and not self.model.has_text():
            raise ValueError(
                f"this recipe of `stage: {self.stage}` needs a text tower, and `model.name: "
                f"{self.model.name}` has none; name a CLIP model, or train with losses on images "
                "alone, as `stage: classifier` does"
            )
        return self

    @model_validator(mode="after")
    def _captions_are_evaluated(self) -> Self:
        asked = self.evaluate.protocols
        if "text_to_person" not in asked:
            return self

        if not self.compares_texts():
            raise ValueError(
                "`evaluate.protocols: text_to_person` needs a stage that evaluates texts, not "
                f"{self.stage}"
            )
        drawn = [name for name in asked if name not in _ALONGSIDE_TEXTS]
        if drawn:
            raise ValueError(
                f"`evaluate.protocols: text_to_person` goes with query_gallery or leave_one_out, "
                f"not with {drawn[0]}, which has another gallery"
            )
        return self

    @model_validator(mode="after")
    def _drawn_galleries_are_not_reranked(self) -> Self:
        drawn = [name for name in self.protocols() if name in _DRAWN_SHOTS]
        if drawn and self.evaluate.rerank:
            raise ValueError(
                f"`evaluate.rerank` is not defined with `evaluate.protocols: {drawn[0]}`, which "
                "ranks identities; set it to false"
            )
        return self

    @model_validator(mode="after")
    def _occluders_are_in_single_images(self) -> Self:
        if not self.evaluate.occlusion:
            return self
        if self.evaluate.tracklets != "none":
            raise ValueError(
                "`evaluate.occlusion` hides parts of single images, not of tracklets; set "
                "`evaluate.tracklets` to none"
            )
        across = self.compares_across()
        if across is not None:
            raise ValueError(
                f"`evaluate.occlusion` is not defined for a protocol across a {across}; set "
                "`evaluate.protocols` to query_gallery"
            )
        return self

    def idle_keys(self) -> Iterator[tuple[str, str]]:
        """Keys that were changed and have no effect in this recipe, each with what it needs."""
        for key, need in idle_keys(self):
            yield key, str(need)

        if "text_to_person" in self.protocols() and self._changed("evaluate.captions"):
            yield "evaluate.captions", "another protocol than text_to_person, which takes all"

        drawn = {"splits", "distractors", *_DRAWN_SHOTS} & set(self.protocols())
        if not drawn and self._changed("evaluate.num_splits"):
            yield "evaluate.num_splits", "a protocol with random splits in `evaluate.protocols`"

        across = {"cross_modality", "cross_view"} & set(self.protocols())
        if not across and self._changed("evaluate.same"):
            yield "evaluate.same", "`cross_modality` or `cross_view` in `evaluate.protocols`"

    def _changed(self, key: str) -> bool:
        found = lookup(self, key)
        return found is not None and found[0] != default_of(found[1])


class ZeroShotRecipe(Recipe):
    """Evaluate the towers as they are."""

    stage: Literal["zero_shot"]
    """The method that is trained; see above."""


class TrainingRecipe(Recipe):
    """The run."""

    open_set_terms: ClassVar[tuple[str, ...]] = (
        *("triplet", "supcon_image", "recall_surrogate", "smooth_ap"),
        *PAIR_TERMS,
    )
    """Terms that can be computed for identities that were not trained on."""
    comparing_terms: ClassVar[tuple[str, ...]] = (*PAIR_TERMS, *_PAIRS_OF_AN_IDENTITY)
    """Terms that compare the identities of a batch."""

    precision: Precision = "no"
    """Mixed precision of the training steps."""
    accumulate: PositiveInt = 1
    """Batches to one optimiser step."""
    model: TrainedModel = TrainedModel()
    augment: Augment = Augment()
    batch: Batch = Batch()
    loss: Terms
    teacher: Teacher = NoTeacher()
    optim: Optim = CosineOptim()
    evaluate: TrainedEvaluate = TrainedEvaluate()

    @model_validator(mode="after")
    def _something_is_trained(self) -> Self:
        if not self.loss.weights():
            known = ", ".join(self.loss.terms())
            raise ValueError(f"`loss` needs a term with a weight above 0, of {known}")
        return self

    @model_validator(mode="after")
    def _logits_are_compared(self) -> Self:
        if getattr(self.teacher, "kind", None) != "logit":
            return self

        head = getattr(self, "head", None)
        of_baseline = self.stage in ("classifier", "image_encoder", "joint")
        if not (of_baseline and "id" in self.loss.weights() and isinstance(head, LinearHead)):
            raise ValueError(
                "`teacher.kind: logit` compares the logits of a linear classifier: it needs "
                "`stage: classifier`, `image_encoder` or `joint`, `loss.id` and `head.kind: linear`"
            )
        return self

    @model_validator(mode="after")
    def _batches_suit_the_terms(self) -> Self:
        weights = self.loss.weights()
        instances = self.batch.num_instances * self.augment.views
        if "info_nce" in weights and instances > 1:
            raise ValueError(
                "`loss.info_nce` needs `batch.num_instances: 1` and `augment.views: 1`, because "
                "siblings would be negatives; or use `loss.supcon_text`"
            )

        without_positive = [name for name in _PAIRS_OF_AN_IDENTITY if name in weights]
        if without_positive and instances == 1:
            raise ValueError(
                f"`loss.{without_positive[0]}` needs `batch.num_instances` of 2 or more: an image "
                "alone of its identity has no positive"
            )
        return self

    @model_validator(mode="after")
    def _batch_has_two_images(self) -> Self:
        if self.batch.num_identities * self.batch.num_instances == 1:
            raise ValueError(
                "`batch.num_identities` must be at least 2 with `batch.num_instances: 1`: a batch "
                "of one image has no mean and variance, and nothing to compare"
            )
        return self

    @model_validator(mode="after")
    def _metric_is_defined(self) -> Self:
        closed = [name for name in self.loss.weights() if name not in self.open_set_terms]
        if self.evaluate.metric == "loss" and closed:
            raise ValueError(
                f"`evaluate.metric: loss` is not defined with `loss.{closed[0]}`, which knows the "
                "training identities only"
            )
        return self

    @model_validator(mode="after")
    def _task_is_evaluated(self) -> Self:
        if self.evaluate.task == "text_to_image" and not self.compares_texts():
            raise ValueError(
                f"`evaluate.task: text_to_image` needs a stage that evaluates texts, not "
                f"{self.stage}"
            )
        if self.evaluate.task == "image_to_text" and self.stage != "retrieval":
            raise ValueError("`evaluate.task: image_to_text` needs `stage: retrieval`")
        if self.evaluate.task == "image_to_text" and self.evaluate.metric == "mean_inp":
            raise ValueError("`evaluate.metric: mean_inp` is not defined for image_to_text")
        return self

    @model_validator(mode="after")
    def _patches_have_a_grid(self) -> Self:
        dropped = self.model.patch_mask > 0 and self.model.patch_mask_kind == "drop"
        if dropped and self.reads_patches():
            raise ValueError(
                "`model.patch_mask_kind: drop` leaves out patches that this recipe looks at; "
                "replace them with `model.patch_mask_kind: zeros` or `learned`"
            )
        return self

    def reads_patches(self) -> bool:
        """Whether training looks at single patches."""
        return False

    def has_mined_batches(self) -> bool:
        """Whether batches are of mined rows, and not of identities with several images each."""
        return False

    def needs_text(self) -> bool:
        """Also where a term of the loss looks at captions."""
        return super().needs_text() or self.trains_on_captions()

    def trains_on_captions(self) -> bool:
        """Whether a term of the loss looks at captions."""
        return any(name in TEXT_TERMS for name in self.loss.weights())


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
        """Where informative patches are selected, or words are predicted from patches."""
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
