"""The loop of every stage: epochs of batches, validation, the last and the best checkpoint, and what went wrong."""

import contextlib
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from clipreid_kit import check_collapse, pair_cosines
from clipreid_kit.clip import TrainingCheckpoints, random_state, set_random_state
from examples.report import epoch_line, flat, write_json
from examples.settings.config import Optim, Recipe
from examples.trainer.optim import optimizers_of, rate

Row = dict[str, Any]
Batch = dict[str, Tensor]


@dataclass(slots=True)
class Phase:
    """One training: of a stage, or of the first of two."""

    recipe: Recipe
    run: Path  # folder of its log and checkpoints
    accelerator: Accelerator
    method: nn.Module  # called with a batch, gives loss, terms and, with images, an embedding
    batches: Any  # called with an epoch, gives its batches; with a length and a state
    optim: Optim
    score: Callable[[nn.Module], tuple[float, Row]] | None = (
        None  # larger is better; and what to log
    )
    card: dict[str, Any] = field(default_factory=dict)  # kept beside the weights
    floors: dict[str, float] = field(
        default_factory=dict
    )  # of weighted terms when all embeddings are equal
    name: str = ""  # before what is logged, where a run has several phases
    first: int = 0  # epochs of the phases before
    model: Any = (
        None  # the method as accelerate runs it, its optimisers, and the average of its weights
    )
    optimizers: list[Any] = field(default_factory=list)
    average: AveragedModel | None = None


def fit(phase: Phase, *, resume: bool) -> list[Row]:
    """Train, validate, and keep the last and the best checkpoint; resume bit for bit where asked to."""
    recipe, run, accelerator, optim, method = (
        phase.recipe,
        phase.run,
        phase.accelerator,
        phase.optim,
        phase.method,
    )
    if recipe.model.channels_last:
        method.to(memory_format=torch.channels_last)
    first, *centers = optimizers_of(method, optim, recipe.loss.center)
    phase.model, first = accelerator.prepare(method, first)
    phase.optimizers = [first, *centers]  # a second prepared one would be unscaled twice
    if optim.ema_decay:
        phase.average = AveragedModel(method, multi_avg_fn=get_ema_multi_avg_fn(optim.ema_decay))  # type: ignore[no-untyped-call]
    kept: nn.Module = method if phase.average is None else phase.average.module
    checkpoints = TrainingCheckpoints(run / "checkpoints")
    history, start, waited = (
        _resume(phase, checkpoints) if resume and checkpoints.exists() else ([], 0, 0)
    )
    best = max((row["score"] for row in history if "score" in row), default=-math.inf)
    for epoch in range(start + 1, optim.epochs + 1):
        if recipe.evaluate.patience is not None and waited >= recipe.evaluate.patience:
            break
        began = time.perf_counter()
        row = train_epoch(phase, epoch)
        row["images_per_second"] = (
            row.pop("images") * accelerator.num_processes / (time.perf_counter() - began)
        )
        improved = phase.score is None
        if phase.score is not None and (
            epoch % recipe.evaluate.every == 0 or epoch == optim.epochs
        ):
            found = [phase.score(kept) if accelerator.is_main_process else None]
            broadcast_object_list(found)  # every process has to stop at the same epoch
            row["score"], row["validation"] = cast("tuple[float, Row]", found[0])
            improved = row["score"] > best
            best, waited = max(best, row["score"]), 0 if improved else waited + 1
        row["best"] = improved or not history
        row["seconds"] = time.perf_counter() - began
        states = gather_object([random_state()])
        history.append(row)
        if accelerator.is_main_process:
            state = {
                "epoch": epoch,
                "waited": waited,
                "history": history,
                "optimizers": [optimizer.state_dict() for optimizer in phase.optimizers],
                "batches": phase.batches.state_dict(),
                "random": states,
                "raw": None if phase.average is None else method.state_dict(),
                "averaged": None if phase.average is None else int(phase.average.n_averaged),
                "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
            }
            checkpoints.save(epoch, kept, state, best=row["best"], card=phase.card)
            write_json(run / "metrics.jsonl", history)
            numbers = {k: v for k, v in flat(row, phase.name) if isinstance(v, int | float)}
            accelerator.log(numbers, step=phase.first + epoch)
            if recipe.track.console == "epochs":
                tqdm.write(epoch_line(row))
        accelerator.wait_for_everyone()
    for optimizer in phase.optimizers:
        optimizer.zero_grad()
    accelerator.free_memory()  # the next phase has optimisers of its own
    return history


def _resume(phase: Phase, checkpoints: TrainingCheckpoints) -> tuple[list[Row], int, int]:
    """Bring everything back to the last checkpoint: its log, its epoch, and the validations without a gain."""
    accelerator, average = phase.accelerator, phase.average
    checkpoints.load("last", phase.method)
    state = checkpoints.state()
    if average is not None:
        average.module.load_state_dict(
            phase.method.state_dict()
        )  # the checkpoint's weights are the average
        average.n_averaged.fill_(state["averaged"])
        phase.method.load_state_dict(state["raw"])
    for optimizer, saved in zip(phase.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    phase.batches.load_state_dict(state["batches"])
    set_random_state(state["random"][accelerator.process_index % len(state["random"])])
    if accelerator.scaler is not None and state["scaler"] is not None:
        accelerator.scaler.load_state_dict(state["scaler"])
    if accelerator.is_main_process:  # a kill may have come between the checkpoint and this file
        write_json(phase.run / "metrics.jsonl", state["history"])
    return state["history"], state["epoch"], state["waited"]


def train_epoch(phase: Phase, epoch: int) -> Row:
    """One pass over the batches; means of the loss, its terms, the gradient norm and of cosines of pairs."""
    recipe, optim, accelerator, model = phase.recipe, phase.optim, phase.accelerator, phase.model
    first, *centers = phase.optimizers
    steps = math.ceil(len(phase.batches) / recipe.accumulate)
    parameters = [p for group in first.param_groups for p in group["params"]]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    model.train()
    sums: dict[str, list[float]] = {}
    images, skipped = 0, 0
    title = f"epoch {epoch}/{optim.epochs}"
    quiet = None if accelerator.is_main_process and recipe.track.console == "epochs" else True
    bar = tqdm(
        phase.batches(epoch), total=len(phase.batches), desc=title, leave=False, disable=quiet
    )
    every = iter(bar)
    for done, group in enumerate(
        iter(lambda: list(itertools.islice(every, recipe.accumulate)), [])
    ):  # steps
        for part in first.param_groups:
            part["lr"] = rate(
                optim, part.setdefault("base_lr", part["lr"]), (epoch - 1) * steps + done, steps
            )
        for optimizer in phase.optimizers:
            optimizer.zero_grad()
        chosen: list[int] = []  # rows of all images of this step
        for i, batch in enumerate(group):
            rows = batch.pop("index").tolist()
            chosen += rows
            moved = {
                k: v if k in ("cameras", "views") else v.to(accelerator.device)
                for k, v in batch.items()
            }
            if recipe.model.channels_last and "images" in moved:
                moved["images"] = moved["images"].to(memory_format=torch.channels_last)
            last = i + 1 == len(group)
            ramp: dict[str, Any] = (
                {"step": epoch - 1} if recipe.loss.ramp_epochs and not phase.name else {}
            )
            with (
                contextlib.nullcontext() if last else accelerator.no_sync(model),
                accelerator.autocast(),
            ):
                output = model(**moved, **ramp)
            values = {
                **{name: float(value) for name, value in output.terms.items()},
                "loss": output.loss.item(),
            }
            if not math.isfinite(values["loss"]):
                stop(phase, epoch, rows, values)
            accelerator.backward(output.loss / len(group))
            if output.embedding is not None:
                cosines = pair_cosines(output.embedding, moved["labels"])
                values |= {f"{k}_cosine": v for k, v in cosines._asdict().items() if v is not None}
            for name, number in values.items():
                sums.setdefault(name, []).append(number)
            images += len(moved["labels"])
        if accelerator.scaler is not None:
            for optimizer in centers:
                accelerator.scaler.unscale_(optimizer)
        norm = accelerator.clip_grad_norm_(parameters, optim.clip_norm or math.inf)
        if accelerator.scaler is None and not math.isfinite(
            norm
        ):  # a step would write it into every weight
            stop(phase, epoch, chosen, {"gradient_norm": float(norm)})
        first.step()
        if first.step_was_skipped:  # float16 whose gradients overflowed: the scale is lowered
            skipped += 1
        else:
            for optimizer in centers:
                optimizer.step()
            sums.setdefault("gradient_norm", []).append(float(norm))
            if phase.average is not None:
                phase.average.update_parameters(phase.method)
        bar.set_postfix(loss=f"{values['loss']:.3f}")
    means = {name: sum(values) / len(values) for name, values in sums.items()}
    row: Row = {"epoch": epoch, **means, "skipped": skipped, "images": images}
    row["lr"] = max(part["lr"] for part in first.param_groups)
    row["rates"] = {part["name"]: part["lr"] for part in first.param_groups}
    floors = phase.floors if epoch > optim.warmup_epochs + 1 else {}
    row["alarms"] = check_collapse(means, floors, negative_cosine=means.get("negative_cosine"))
    if torch.cuda.is_available():
        row["peak_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return row


def stop(phase: Phase, epoch: int, rows: list[int], terms: dict[str, float]) -> None:
    """Save what the failed batch was made of, and stop."""
    kept, values = (
        phase.run / "failed_batch.json",
        {name: str(value) for name, value in terms.items()},
    )
    write_json(kept, {"epoch": epoch, "rows": phase.batches.names(rows), "terms": values})
    bad = ", ".join(f"{name} {value}" for name, value in terms.items() if not math.isfinite(value))
    raise ValueError(
        f"epoch {epoch}: expected finite losses and gradients, got {bad}. The rows of the batch are in {kept}; "
        "lower optim.lr, or use precision: no."
    )
