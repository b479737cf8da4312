"""Sections that recipes of every stage have, and how their keys fit together."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator
from typing_extensions import Self

from examples.settings.augment import Augment, Fill
from examples.settings.batch import Batch
from examples.settings.data import Data, Synthetic
from examples.settings.evaluate import Evaluate, TrainedEvaluate
from examples.settings.head import LinearHead
from examples.settings.losses import Terms
from examples.settings.model import Model, TrainedModel
from examples.settings.optim import CosineOptim, Optim
from examples.settings.section import Section, default_of, idle_keys, lookup
from examples.settings.teacher import NoTeacher, Teacher
from examples.settings.text_terms import PAIR_TERMS, TEXT_TERMS
from examples.settings.track import Track

# YAML 1.1 reads an unquoted `no` as false.
Precision = Annotated[
    Literal["no", "bf16", "fp16"],
    BeforeValidator(lambda value: "no" if value is False else value),
]
_PAIRS_OF_AN_IDENTITY = ("supcon_image", "triplet", "recall_surrogate", "smooth_ap", "supcon")
_ALONGSIDE_TEXTS = ("text_to_person", "query_gallery", "leave_one_out")
_DRAWN_SHOTS = ("sysu_all", "sysu_all_multi", "sysu_indoor", "sysu_indoor_multi", "llcm")
_ACROSS_MODALITIES = ("cross_modality", *_DRAWN_SHOTS)


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
