"""The loop of every stage: epochs of batches, validation, the last and the best checkpoint, and what went wrong."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from clipreid_kit import collapse_alarms, pair_cosines
from clipreid_kit.clip import TrainingCheckpoints
from examples.report.files import write_json
from examples.settings.config import Optim, Recipe
from examples.trainer.optim import rate

Row = dict[str, Any]
Batch = dict[str, Tensor]


@dataclass(slots=True)
class Plan:
    """What one phase trains with."""

    method: nn.Module  # called with a batch, gives loss, terms and, with images, an embedding
    batches: Any  # called with an epoch, gives its batches; with a length and a state
    optimizers: list[torch.optim.Optimizer]
    optim: Optim
    score: Callable[[nn.Module], tuple[float, dict[str, Any]]] | None = None  # larger is better; and what to log
    card: dict[str, Any] | None = None  # kept beside the weights
    floors: dict[str, float] | None = None  # value of a weighted term when all embeddings are equal
    name: str = ""  # before what is logged, where a run has several phases
    first: int = 0  # epochs of the phases before


def fit(recipe: Recipe, plan: Plan, run: Path, accelerator: Accelerator, *, resume: bool) -> list[Row]:
    """Train, validate, and keep the last and the best checkpoint; resume bit for bit where asked to."""
    main, optim, method = accelerator.is_main_process, plan.optim, plan.method
    if recipe.model.channels_last:
        method.to(memory_format=torch.channels_last)
    model, first = accelerator.prepare(method, plan.optimizers[0])
    optimizers = [first, *plan.optimizers[1:]]  # a second prepared one would be unscaled twice
    average = None
    if optim.ema_decay:
        average = AveragedModel(method, multi_avg_fn=get_ema_multi_avg_fn(optim.ema_decay))  # type: ignore[no-untyped-call]
    kept: nn.Module = method if average is None else average.module
    checkpoints, history, start, waited = TrainingCheckpoints(run / "checkpoints"), [], 0, 0
    if resume and checkpoints.exists():
        checkpoints.load("last", method)
        state = checkpoints.state()
        if average is not None:
            average.module.load_state_dict(method.state_dict())  # the checkpoint's weights are the average
            average.n_averaged.fill_(state["averaged"])
            method.load_state_dict(state["raw"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        plan.batches.load_state_dict(state["batches"])
        rng = state["rng"][accelerator.process_index % len(state["rng"])]
        torch.set_rng_state(rng["cpu"])
        if "cuda" in rng and torch.cuda.is_available():
            torch.cuda.set_rng_state(rng["cuda"])
        if accelerator.scaler is not None and state["scaler"] is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        history, start, waited = state["history"], state["epoch"], state["waited"]
        if main:  # a kill may have come between the checkpoint and this file
            write_json(run / "metrics.jsonl", history)
    best = max((row["score"] for row in history if "score" in row), default=-math.inf)
    for epoch in range(start + 1, optim.epochs + 1):
        if recipe.evaluate.patience is not None and waited >= recipe.evaluate.patience:
            break
        began = time.perf_counter()
        row = train_epoch(recipe, plan, model, optimizers, accelerator, epoch, run, average)
        seconds = time.perf_counter() - began
        row["images_per_second"] = row.pop("images") * accelerator.num_processes / seconds
        improved = plan.score is None
        if plan.score is not None and (epoch % recipe.evaluate.every == 0 or epoch == optim.epochs):
            found = [plan.score(kept) if main else None]
            broadcast_object_list(found)  # every process has to stop at the same epoch
            row["score"], row["validation"] = cast("tuple[float, dict[str, Any]]", found[0])
            improved = row["score"] > best
            best, waited = max(best, row["score"]), 0 if improved else waited + 1
        row["best"] = improved or not history
        row["seconds"] = time.perf_counter() - began
        rng = {"cpu": torch.get_rng_state()} | (
            {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
        )
        states = gather_object([rng])
        history.append(row)
        if main:
            state = {
                "epoch": epoch,
                "waited": waited,
                "history": history,
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "batches": plan.batches.state_dict(),
                "rng": states,
                "raw": None if average is None else method.state_dict(),
                "averaged": None if average is None else int(average.n_averaged),
                "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
            }
            checkpoints.save(epoch, kept, state, best=row["best"], card=plan.card or {})
            write_json(run / "metrics.jsonl", history)
            accelerator.log(
                {k: v for k, v in _flat(row, plan.name) if isinstance(v, int | float)}, step=plan.first + epoch
            )
            if recipe.track.console == "epochs":
                tqdm.write(describe(row))
        accelerator.wait_for_everyone()
    for optimizer in optimizers:
        optimizer.zero_grad()
    accelerator.free_memory()  # the next phase has optimisers of its own
    return history


def train_epoch(
    recipe: Recipe,
    plan: Plan,
    model: nn.Module,
    optimizers: list[Any],
    accelerator: Accelerator,
    epoch: int,
    run: Path,
    average: AveragedModel | None,
) -> Row:
    """One pass over the batches; means of the loss, its terms, the gradient norm and of cosines of pairs."""
    optim, steps, device = plan.optim, math.ceil(len(plan.batches) / recipe.accumulate), accelerator.device
    parameters = [p for group in plan.optimizers[0].param_groups for p in group["params"]]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    model.train()
    sums: dict[str, list[float]] = {}
    images, skipped = 0, 0
    title = f"epoch {epoch}/{optim.epochs}"
    quiet = None if accelerator.is_main_process and recipe.track.console == "epochs" else True
    bar = tqdm(plan.batches(epoch), total=len(plan.batches), desc=title, leave=False, disable=quiet)
    for done, group in enumerate(grouped(bar, recipe.accumulate)):
        for optimizer in optimizers[:1]:
            for part in optimizer.param_groups:
                part["lr"] = rate(optim, part.setdefault("base_lr", part["lr"]), (epoch - 1) * steps + done, steps)
        for optimizer in optimizers:
            optimizer.zero_grad()
        chosen: list[int] = []  # rows of all images of this step
        for i, batch in enumerate(group):
            rows = batch.pop("index").tolist()
            chosen += rows
            moved = {name: value if name in ("cameras", "views") else value.to(device) for name, value in batch.items()}
            if recipe.model.channels_last and moved["images"].ndim == 4:
                moved["images"] = moved["images"].to(memory_format=torch.channels_last)
            last = i + 1 == len(group)
            with contextlib.nullcontext() if last else accelerator.no_sync(model), accelerator.autocast():
                output = model(**moved, step=epoch - 1)
            loss = output.loss
            if not math.isfinite(loss.item()):
                stop(
                    run,
                    epoch,
                    plan.batches.names(rows),
                    {**{n: float(v) for n, v in output.terms.items()}, "loss": loss.item()},
                )
            accelerator.backward(loss / len(group))
            values: dict[str, float | None] = {name: float(value) for name, value in output.terms.items()}
            values["loss"] = loss.item()
            if output.embedding is not None:
                positive, negative = pair_cosines(output.embedding, moved["labels"])
                values |= {"positive_cosine": positive, "negative_cosine": negative}
            for name, number in values.items():
                if number is not None:
                    sums.setdefault(name, []).append(number)
            images += len(moved["labels"])
        if accelerator.scaler is not None:
            for optimizer in optimizers[1:]:
                accelerator.scaler.unscale_(optimizer)
        norm = accelerator.clip_grad_norm_(parameters, optim.clip_norm or math.inf)
        if accelerator.scaler is None and not math.isfinite(norm):  # a step would write it into every weight
            stop(run, epoch, plan.batches.names(chosen), {"gradient_norm": float(norm)})
        optimizers[0].step()
        stepped = not optimizers[0].step_was_skipped  # float16 whose gradients overflowed: the scale is lowered
        skipped += not stepped
        if stepped:
            for optimizer in optimizers[1:]:
                optimizer.step()
            sums.setdefault("gradient_norm", []).append(float(norm))
            if average is not None:
                average.update_parameters(plan.method)
        bar.set_postfix(loss=f"{loss.item():.3f}")
    means = {name: sum(values) / len(values) for name, values in sums.items()}
    row: Row = {"epoch": epoch, **means, "skipped": skipped, "images": images}
    row["lr"] = max(part["lr"] for part in optimizers[0].param_groups)
    row["rates"] = {part["name"]: part["lr"] for part in optimizers[0].param_groups}
    floors = plan.floors if plan.floors and epoch > optim.warmup_epochs + 1 else {}
    row["alarms"] = collapse_alarms(means, floors, negative_cosine=means.get("negative_cosine"))
    if torch.cuda.is_available():
        row["peak_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return row


def grouped(batches: Any, size: int) -> Iterator[list[Batch]]:  # noqa: ANN401 (a progress bar over batches)
    """Batches in groups of one optimiser step; the last group may be smaller."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def stop(run: Path, epoch: int, rows: list[str], terms: dict[str, float]) -> None:
    """Save what the failed batch was made of, and stop."""
    write_json(
        run / "failed_batch.json", {"epoch": epoch, "rows": rows, "terms": {n: str(v) for n, v in terms.items()}}
    )
    bad = ", ".join(f"{name} {value}" for name, value in terms.items() if not math.isfinite(value))
    raise ValueError(
        f"epoch {epoch}: expected finite losses and gradients, got {bad}. The rows of the batch are in "
        f"{run / 'failed_batch.json'}; lower optim.lr, or use precision: no."
    )


def describe(row: Row) -> str:
    """One line about an epoch."""
    line = f"epoch {row['epoch']:3d}  loss {row['loss']:.3f}  {row['images_per_second']:.0f} images/s"
    for numbers in row.get("validation", {}).values():
        if "rank_1" in numbers:
            line += f"  validation Rank-1 {100 * numbers['rank_1']:.1f}  mAP {100 * numbers['mean_ap']:.1f}"
            break
    line += "  best" if row["best"] and "validation" in row else ""
    return "\n".join([line, *(f"  ALARM: {text}" for text in row["alarms"])])


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value
