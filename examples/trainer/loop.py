"""The loop of every stage: epochs of batches, validation, and the last and the best checkpoint."""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from clipreid_kit import check_collapse, pair_cosines
from clipreid_kit.clip import TrainingCheckpoints, random_state, set_random_state
from clipreid_kit.reports import write_json
from examples.settings.optim import AnyOptim
from examples.trainer.alarms import check_jumps
from examples.trainer.batches import Batch, Batches
from examples.trainer.log import METRICS, Log, Row
from examples.trainer.optimizers import Optimizers
from examples.trainer.teacher import Teacher

_STATE_KEYS = (
    "epoch",
    "waited",
    "history",
    "optimizers",
    "batches",
    "random",
    "raw",
    "averaged",
    "scaler",
)


@dataclass(frozen=True)
class Validation:
    """Validation on held-out identities.

    Attributes:
        score: Judges a method, the larger the better, and returns what to log.
        every: Epochs between validations; the last epoch is always validated.
        patience: Validations without improvement before training stops; ``None`` for all epochs.
        chooses: Whether the best epoch is chosen by the score; else it is always the last.
    """

    score: Callable[[nn.Module], tuple[float, Row]]
    every: int = 1
    patience: int | None = None
    chooses: bool = True

    def is_due(self, epoch: int, epochs: int) -> bool:
        """Whether an epoch is validated."""
        return epoch % self.every == 0 or epoch == epochs

    def is_over(self, waited: int) -> bool:
        """Whether training stops after so many validations without improvement."""
        return self.patience is not None and waited >= self.patience


@dataclass
class Training:
    """One training run of a method.

    Attributes:
        method: Called with a batch; returns a loss, its terms, and with images their embedding.
        batches: The batches of each epoch.
        optimizers: Of the method's parameters.
        optim: Schedule of the rates, epochs, clipping and averaging.
        accelerator: Devices, precision and processes.
        log: The rows of the epochs.
        accumulate: Batches to one optimiser step.
        channels_last: Store images and weights channels last.
        validation: ``None`` without held-out identities: the last epoch is then the best.
        card: Kept beside the weights of a checkpoint.
        chance_losses: Weighted terms where all embeddings are equal; staying there raises an alarm.
        ramp_epochs: Epochs over which the weight of a term rises.
        keep_every: Epochs between checkpoints that stay; ``None`` keeps only last and best.
        alarms: Whether signs of a training run that goes wrong are looked for.
        teacher: A model whose embeddings the method should reproduce; ``None`` for none.
    """

    method: nn.Module
    batches: Batches
    optimizers: Optimizers
    optim: AnyOptim
    accelerator: Accelerator
    log: Log
    accumulate: int = 1
    channels_last: bool = False
    validation: Validation | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    chance_losses: Mapping[str, float] = field(default_factory=dict)
    ramp_epochs: int = 0
    keep_every: int | None = None
    alarms: bool = True
    teacher: Teacher | None = None
    model: nn.Module = field(init=False)
    average: AveragedModel | None = field(init=False, default=None)

    @property
    def checkpoints(self) -> TrainingCheckpoints:
        """The last and the best checkpoint."""
        return TrainingCheckpoints(self.log.folder / "checkpoints")

    @property
    def evaluated(self) -> nn.Module:
        """The method whose weights are validated and kept: the average, if there is one."""
        return self.method if self.average is None else self.average.module


def fit(training: Training, *, resume: bool) -> None:
    """Train, validate, keep the last and the best checkpoint, and load the best weights.

    Args:
        training: What is trained.
        resume: Continue after the last complete epoch, bit for bit, if there is one.
    """
    prepare(training)
    start, waited = _resume(training) if resume else (0, 0)

    epochs = training.optim.epochs
    validation = training.validation
    for epoch in range(start + 1, epochs + 1):
        if validation is not None and validation.is_over(waited):
            break

        began = time.perf_counter()
        row = train_epoch(training, epoch)
        images = row.pop("images") * training.accelerator.num_processes
        row["images_per_second"] = images / (time.perf_counter() - began)

        improved = validation is None or not validation.chooses
        if validation is not None and validation.is_due(epoch, epochs):
            improved = _validate(training, validation, row) or not validation.chooses
            waited = 0 if improved else waited + 1

        row["best"] = improved or not training.log.rows
        row["seconds"] = time.perf_counter() - began
        _save(training, row, waited)

    for optimizer in training.optimizers.all():
        optimizer.zero_grad()
    training.accelerator.free_memory()  # another training of this run has optimisers of its own
    training.checkpoints.load("best", training.method)


def prepare(training: Training) -> None:
    """Hand method and optimiser to accelerate, and begin the average of the weights."""
    if training.channels_last:
        training.method.to(memory_format=torch.channels_last)

    training.model, training.optimizers.main = training.accelerator.prepare(
        training.method, training.optimizers.main
    )
    if training.optim.ema_decay:
        average = get_ema_multi_avg_fn(training.optim.ema_decay)  # type: ignore[no-untyped-call]
        training.average = AveragedModel(training.method, multi_avg_fn=average)


def _validate(training: Training, validation: Validation, row: Row) -> bool:
    """Validate an epoch into its row, and return whether it is the best so far."""
    scores = [past["score"] for past in training.log.rows if "score" in past]
    is_main = training.accelerator.is_main_process

    found = [validation.score(training.evaluated) if is_main else None]
    broadcast_object_list(found)  # every process has to stop at the same epoch
    row["score"], row["validation"] = cast("tuple[float, Row]", found[0])
    return bool(row["score"] > max(scores, default=-math.inf))


def _save(training: Training, row: Row, waited: int) -> None:
    """Keep a checkpoint of an epoch, and write its row."""
    accelerator = training.accelerator
    average = training.average
    scaler = accelerator.scaler
    random_states = gather_object([random_state()])
    training.log.add(row)

    if accelerator.is_main_process:
        state = {
            "epoch": row["epoch"],
            "waited": waited,
            "history": training.log.rows,
            "optimizers": [optimizer.state_dict() for optimizer in training.optimizers.all()],
            "batches": training.batches.state_dict(),
            "random": random_states,
            "raw": None if average is None else training.method.state_dict(),
            "averaged": None if average is None else int(average.n_averaged),
            "scaler": None if scaler is None else scaler.state_dict(),
            "teacher": None if training.teacher is None else training.teacher.state_dict(),
        }
        every = training.keep_every
        training.checkpoints.save(
            row["epoch"],
            training.evaluated,
            state,
            best=row["best"],
            card=training.card,
            keep=every is not None and row["epoch"] % every == 0,
        )

        training.log.write()
        training.log.tell(row, training.optim.epochs)
    accelerator.wait_for_everyone()


def _resume(training: Training) -> tuple[int, int]:
    """Restore the last epoch, if there is one; return what :func:`_restore` does."""
    if training.checkpoints.exists():
        start, waited = _restore(training)
        training.log.say(f"resumed after epoch {start} of {training.optim.epochs}")
        return start, waited

    # A row of an epoch is written after its checkpoint: there was one.
    if (training.log.folder / METRICS).exists():
        raise ValueError(
            f"{training.checkpoints.folder}: the run has finished epochs, but index.json, which "
            "names its checkpoints, is missing. Restore it, or start again in another folder."
        )
    return 0, 0


def _restore(training: Training) -> tuple[int, int]:
    """Restore the last checkpoint; return its epoch and the validations without improvement."""
    accelerator, average = training.accelerator, training.average
    training.checkpoints.load("last", training.method)
    state = training.checkpoints.state()

    try:
        _check_state(state, training)
        if average is not None:  # the checkpoint's weights are the average
            average.module.load_state_dict(training.method.state_dict())
            average.n_averaged.fill_(state["averaged"])
            training.method.load_state_dict(state["raw"])

        if training.teacher is not None:
            training.teacher.load_state_dict(state["teacher"])

        for optimizer, saved in zip(training.optimizers.all(), state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

        training.batches.load_state_dict(state["batches"])
        set_random_state(state["random"][accelerator.process_index])
        if accelerator.scaler is not None and state["scaler"] is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{training.checkpoints.path('last')}: the state of the run is damaged ({reason}). "
            "Start again in another folder."
        ) from error

    training.log.rows = state["history"]
    if accelerator.is_main_process:  # a kill may have come between the checkpoint and this file
        training.log.write()
    return state["epoch"], state["waited"]


def _check_state(state: Mapping[str, Any], training: Training) -> None:
    """Raise ValueError if a state lacks a key, or is of an epoch that was not trained."""
    missing = [key for key in _STATE_KEYS if key not in state]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")

    epoch, history = state["epoch"], state["history"]
    if not isinstance(epoch, int) or not 1 <= epoch <= training.optim.epochs:
        raise ValueError(f"its epoch is {epoch!r}, of {training.optim.epochs}")
    if [row["epoch"] for row in history] != list(range(1, epoch + 1)):
        raise ValueError(f"its epoch is {epoch}, after {len(history)} rows of the log")
    if len(state["random"]) != training.accelerator.num_processes:
        raise ValueError(f"it is of {len(state['random'])} processes")


class Means:
    """Means of named numbers."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add(self, numbers: Mapping[str, float]) -> None:
        """Count some numbers in."""
        for name, number in numbers.items():
            self.values.setdefault(name, []).append(number)

    def all(self) -> dict[str, float]:
        """The means."""
        return {name: sum(values) / len(values) for name, values in self.values.items()}


def train_epoch(training: Training, epoch: int) -> Row:
    """One pass over the batches.

    Returns:
        Means of the loss, its terms, the gradient norm and cosines of pairs; rates, alarms, images
        and skipped steps.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    training.model.train()

    means = Means()
    images, skipped = 0, 0
    title = f"epoch {epoch}/{training.optim.epochs}"
    bar = training.log.progress(training.batches(epoch), len(training.batches), title)
    for step, batches in enumerate(_groups(bar, training.accumulate)):
        _set_rates(training, epoch, step)
        rows, loss = _backward(training, epoch, batches, means)
        norm = _update(training, epoch, rows)

        images += len(rows)
        if norm is None:
            skipped += 1
        else:
            means.add({"gradient_norm": norm})
        bar.set_postfix(loss=f"{loss:.3f}")

    groups = training.optimizers.main.param_groups
    row: Row = {"epoch": epoch, **means.all(), "skipped": skipped, "images": images}
    row |= training.batches.facts()
    row["lr"] = max(group["lr"] for group in groups)
    row["rates"] = {group["name"]: group["lr"] for group in groups}
    row["alarms"] = _alarms(training, epoch, means.all())
    if torch.cuda.is_available():
        row["peak_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return row


def _groups(batches: "tqdm[Batch]", size: int) -> Iterator[list[Batch]]:
    """The batches of each optimiser step."""
    remaining = iter(batches)
    while group := list(itertools.islice(remaining, size)):
        yield group


def _set_rates(training: Training, epoch: int, step: int) -> None:
    """Set the learning rate of every parameter group for a step of an epoch."""
    steps = math.ceil(len(training.batches) / training.accumulate)
    for group in training.optimizers.main.param_groups:
        peak = group.setdefault("base_lr", group["lr"])
        group["lr"] = training.optim.rate(peak, (epoch - 1) * steps + step, steps)


def _backward(
    training: Training, epoch: int, batches: list[Batch], means: Means
) -> tuple[list[int], float]:
    """Sum the gradients of one step, and return its rows and the loss of its last batch."""
    accelerator = training.accelerator
    layout = torch.channels_last if training.channels_last else torch.preserve_format
    for optimizer in training.optimizers.all():
        optimizer.zero_grad()

    rows: list[int] = []
    last_loss = math.nan
    for i, batch in enumerate(batches):
        moved = batch.to(accelerator.device, layout)
        loss, terms, embedding = _forward(training, moved, is_last=i + 1 == len(batches))

        last_loss = loss.item()
        numbers = {name: float(value) for name, value in terms.items()}
        numbers["loss"] = last_loss

        rows_of_batch = batch.rows.tolist()
        rows += rows_of_batch
        if not math.isfinite(last_loss):
            _stop(training, epoch, rows_of_batch, numbers)

        accelerator.backward(loss / len(batches))
        if embedding is not None:
            numbers |= _cosines(embedding, moved.labels)
        means.add(numbers)
    return rows, last_loss


def _forward(
    training: Training, batch: Batch, *, is_last: bool
) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
    """The loss of a batch, its terms, and the embeddings of its images.

    Processes exchange gradients after the last batch of a step only.
    """
    accelerator = training.accelerator
    exchange = contextlib.nullcontext() if is_last else accelerator.no_sync(training.model)
    with exchange, accelerator.autocast():
        output = training.model(**batch.inputs())
        loss, terms = output.loss, dict(output.terms)

        if training.teacher is not None:
            distillation = training.teacher.distil(batch, output)
            terms["distillation"] = distillation.detach()
            loss = loss + distillation

    return loss, terms, output.embedding


def _cosines(embedding: Tensor, labels: Tensor) -> dict[str, float]:
    """Mean cosines of pairs of one identity and of several."""
    cosines = pair_cosines(embedding, labels)._asdict()
    return {f"{kind}_cosine": value for kind, value in cosines.items() if value is not None}


def _update(training: Training, epoch: int, rows: list[int]) -> float | None:
    """Make the optimiser step, and return the gradient norm; ``None`` if float16 overflowed."""
    accelerator, optimizers = training.accelerator, training.optimizers
    if accelerator.scaler is not None:
        for optimizer in optimizers.centers:
            accelerator.scaler.unscale_(optimizer)

    parameters = [p for group in optimizers.main.param_groups for p in group["params"]]
    norm = accelerator.clip_grad_norm_(parameters, training.optim.clip_norm or math.inf)
    if accelerator.scaler is None and not math.isfinite(norm):
        _stop(training, epoch, rows, {"gradient_norm": float(norm)})

    optimizers.main.step()
    if cast("Any", optimizers.main).step_was_skipped:  # accelerate lowers the scale
        return None

    for optimizer in optimizers.centers:
        optimizer.step()
    if training.average is not None:
        training.average.update_parameters(training.method)
    if training.teacher is not None:
        training.teacher.update(training.method)
    return float(norm)


def _alarms(training: Training, epoch: int, means: Mapping[str, float]) -> list[str]:
    """Signs of collapsed embeddings, of losses at chance level, and of sudden rises."""
    if not training.alarms:
        return []

    warmed_up = epoch > training.optim.warmup_epochs + 1
    floors = training.chance_losses if warmed_up else {}
    alarms = list(check_collapse(means, floors, negative_cosine=means.get("negative_cosine")))

    ramping = epoch <= training.ramp_epochs + 1  # the sum rises with the weight of a term
    return alarms if ramping else alarms + check_jumps(means, training.log.rows)


def _stop(training: Training, epoch: int, rows: list[int], terms: Mapping[str, float]) -> None:
    """Keep what the failed batch was made of, and raise ValueError."""
    path = training.log.folder / "failed_batch.json"
    values = {name: str(value) for name, value in terms.items()}
    write_json(path, {"epoch": epoch, "rows": training.batches.names(rows), "terms": values})

    bad = [f"{name} is {value}" for name, value in terms.items() if not math.isfinite(value)]
    raise ValueError(
        f"epoch {epoch}: {', '.join(bad)}. The rows of the batch are in {path}; lower optim.lr, "
        "or use precision: no."
    )
