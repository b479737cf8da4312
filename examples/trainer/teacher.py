"""The teacher of a run: an earlier run, or the moving average of the trained method itself."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clipreid_kit import EmaTeacher, FeatureDistillationLoss, RelationalDistillationLoss
from clipreid_kit.clip import ClipTowers
from clipreid_kit.retrieval import Encoder
from examples.settings.teacher import AnyTeacher, AverageTeacher, Distilling, RunTeacher
from examples.trainer.batches import Batch
from examples.trainer.session import Session


@dataclass(frozen=True)
class Teacher:
    """A model beside the trained one, and how their embeddings are compared.

    Attributes:
        model: Towers or a method, in evaluation mode.
        loss: Called with the embeddings of the trained model and of the teacher.
        weight: Factor on the loss.
        average: The average that ``model`` belongs to, if it follows the trained model.
    """

    model: nn.Module
    loss: nn.Module
    weight: float
    average: EmaTeacher | None = None

    def distil(self, batch: Batch, embedding: Tensor) -> Tensor:
        """The weighted loss of a batch; its gradient reaches the trained model alone."""
        inputs = batch.inputs()
        given = {name: inputs[name] for name in ("cameras", "views") if name in inputs}
        model: Any = self.model

        with torch.no_grad():
            if isinstance(model, ClipTowers):
                wanted = model.encode_image(inputs["images"], **given)
            else:
                wanted = model(inputs["images"], **given).embedding

        loss: Tensor = self.loss(embedding, wanted)
        return self.weight * loss

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


def teacher_of(options: AnyTeacher, method: nn.Module, session: Session) -> Teacher | None:
    """The teacher that a recipe names; ``None`` if it names none.

    Args:
        options: The section of the recipe.
        method: The method that is trained, with its first weights.
        session: The run.
    """
    if isinstance(options, AverageTeacher):
        average = EmaTeacher(method, options.decay)
        return Teacher(average.module, _loss(options, session), options.weight, average)

    if isinstance(options, RunTeacher):
        encoder = Encoder.open(options.path, device=session.accelerator.device, progress=False)
        _check_images(options.path, encoder, session)
        encoder.model.eval().requires_grad_(requires_grad=False)
        return Teacher(encoder.model, _loss(options, session), options.weight)

    return None


def _loss(options: Distilling, session: Session) -> nn.Module:
    if options.kind == "feature":
        return FeatureDistillationLoss(distributed=session.distributed)

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
