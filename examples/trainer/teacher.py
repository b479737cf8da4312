"""The teacher of a run: an earlier run, or the moving average of the trained method itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipreid_kit import (
    EmaTeacher,
    FeatureDistillationLoss,
    LogitDistillationLoss,
    RelationalDistillationLoss,
)
from clipreid_kit.clip import ClipTowers, IdentityClassifier, find_checkpoint, read_card
from clipreid_kit.reports import read_object
from clipreid_kit.retrieval import Encoder
from examples.settings.teacher import AnyTeacher, AverageTeacher, Distilling, RunTeacher
from examples.trainer.batches import Batch
from examples.trainer.checkpoints import find_run, head_tensors
from examples.trainer.session import Session


@dataclass(frozen=True)
class Teacher:
    """A model beside the trained one, and how the two are compared.

    Attributes:
        model: Towers or a method, in evaluation mode.
        loss: Called with embeddings, or logits, of the trained model and of the teacher.
        weight: Factor on the loss.
        average: The average that ``model`` belongs to, if it follows the trained model.
        by_logits: Whether the logits of the identities are compared, and not the embeddings.
    """

    model: nn.Module
    loss: nn.Module
    weight: float
    average: EmaTeacher | None = None
    by_logits: bool = False

    def distil(self, batch: Batch, output: Any) -> Tensor:  # noqa: ANN401 (of any method)
        """The weighted loss of a batch; its gradient reaches the trained model alone.

        Args:
            batch: The batch.
            output: What the trained method returned for it.
        """
        inputs = batch.inputs()
        given: dict[str, Any] = {
            name: inputs[name] for name in ("cameras", "views") if name in inputs
        }
        student = output.logits if self.by_logits else output.embedding

        with torch.no_grad():
            wanted = self._wanted(inputs["images"], given)
        loss: Tensor = self.loss(student, wanted)
        return self.weight * loss

    def _wanted(self, images: Tensor, given: dict[str, Any]) -> Tensor:
        """Logits or embeddings of the teacher."""
        model: Any = self.model
        if self.by_logits:
            branch = model.identity_branch
            logits: Tensor = branch.classifier(
                branch(model.towers.encode_image(images, **given)).post_neck
            )
            return logits

        embeddings: Tensor = (
            model.encode_image(images, **given)
            if isinstance(model, ClipTowers)
            else model(images, **given).embedding
        )
        return embeddings

    def update(self, method: nn.Module) -> None:
        """Follow the trained method after a step, if the teacher is its average."""
        if self.average is not None:
            self.average.update(method)

    def state_dict(self) -> dict[str, Tensor] | None:
        """The weights of the average; an earlier run does not change."""
        return None if self.average is None else self.average.state_dict()

    def load_state_dict(self, state: dict[str, Tensor] | None) -> None:
        """Continue from a stored average."""
        if self.average is not None and state is not None:
            self.average.load_state_dict(state)


def teacher_of(
    options: AnyTeacher, method: nn.Module, session: Session, identities: Sequence[str] = ()
) -> Teacher | None:
    """The teacher that a recipe names; ``None`` if it names none.

    Args:
        options: The section of the recipe.
        method: The method that is trained, with its first weights.
        session: The run.
        identities: The training identities, in the order of their labels; for logits.
    """
    if not isinstance(options, Distilling):
        return None

    compared: dict[str, Any] = {
        "loss": _loss(options, session),
        "weight": options.weight,
        "by_logits": options.kind == "logit",
    }
    if isinstance(options, AverageTeacher):
        average = EmaTeacher(method, options.decay)
        return Teacher(average.module, average=average, **compared)

    if isinstance(options, RunTeacher):
        encoder = Encoder.open(options.path, device=session.accelerator.device, progress=False)
        _check_images(options.path, encoder, session)
        if options.kind == "logit":
            _add_classifier(encoder.model, options.path, identities)
        encoder.model.eval().requires_grad_(requires_grad=False)
        return Teacher(encoder.model, **compared)

    return None


def _add_classifier(model: nn.Module, path: str, identities: Sequence[str]) -> None:
    """Give the method of an earlier run its classifier, which an encoder leaves out.

    Raises:
        ValueError: If the run has no linear classifier of the same identities.
    """
    branch: Any = getattr(model, "identity_branch", None)
    folder = find_checkpoint(path)
    weight = None
    if folder is not None and branch is not None:
        weight = head_tensors(folder).get("identity_branch.classifier.weight")

    if weight is None or folder is None or not _classifies(folder, identities):
        raise ValueError(
            f"teacher.path: {path} has no linear classifier of the identities of this run, whose "
            "logits `teacher.kind: logit` compares. Train it by `loss.id` on the same images, or "
            "use `teacher.kind: relational`."
        )

    classifier = IdentityClassifier(weight.shape[1], weight.shape[0])
    classifier.load_state_dict({"weight": weight})
    branch.classifier = classifier.to(next(model.parameters()).device)


def _classifies(checkpoint: Path, identities: Sequence[str]) -> bool:
    """Whether a checkpoint's classifier is linear, and of these identities in this order."""
    recipe = read_object(find_run(checkpoint) / "recipe.json")
    is_linear = recipe.get("head", {}).get("kind", "linear") == "linear"
    return is_linear and read_card(checkpoint).get("identities") == list(identities)


def _loss(options: Distilling, session: Session) -> nn.Module:
    if options.kind == "feature":
        return FeatureDistillationLoss(distributed=session.distributed)
    if options.kind == "logit":
        return LogitDistillationLoss(options.logit_temperature, distributed=session.distributed)

    temperature = options.temperature
    return RelationalDistillationLoss(temperature, temperature, distributed=session.distributed)


def _check_images(path: str, encoder: Encoder, session: Session) -> None:
    """Raise ValueError if the teacher sees images, cameras or views in another way."""
    own, their = session.encoding.spec, encoder.transform
    for name in ("image_size", "mean", "std"):
        wanted, found = getattr(own, name), getattr(their, name)
        if wanted != found:
            raise ValueError(
                f"teacher.path: {path} was trained with {name} {found}, and this run has {wanted}; "
                "both see the same images. Train one of them like the other."
            )

    known = {index.field: list(index.known) for index in session.encoding.categories}
    if any(known.get(index.field) != list(index.known) for index in encoder.categories):
        raise ValueError(
            f"teacher.path: {path} has embeddings of cameras or views that this run does not "
            "have. Switch on the same ones, on the same training images, or use another teacher."
        )
