"""The joint stage: image and text tower together (or the image tower alone), PK batches, one plain loop."""

import itertools
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from clipreid_kit import InfoNCELoss, PKSampler, SupConLoss, TripletLoss, WarmupCosineLR
from clipreid_kit.clip import ClipTowers
from clipreid_kit.data import ImageRecord, ReidDataset, ReidItem
from examples.trainer.checkpoint import Checkpoints, write_json
from examples.trainer.config import Optim, Recipe
from examples.trainer.data import VALIDATION, training_batches, training_set, validates
from examples.trainer.evaluation import evaluate

Row = dict[str, Any]


class Terms(nn.Module):
    """The weighted terms of the loss, each returned by name for the log."""

    def __init__(self, recipe: Recipe, *, distributed: bool) -> None:
        super().__init__()
        loss = recipe.loss
        self.weights = {name: getattr(loss, name) for name in ("info_nce", "supcon_image", "supcon_text", "triplet")}
        self.info_nce = InfoNCELoss(loss.temperature, distributed=distributed)
        self.supcon = SupConLoss(loss.temperature, distributed=distributed)
        self.triplet = TripletLoss(loss.margin, distance="cosine", distributed=distributed)

    def forward(self, images: Tensor, texts: Tensor | None, labels: Tensor) -> dict[str, Tensor]:
        """Weighted value of every term that is switched on."""
        values: dict[str, Tensor] = {}
        if self.weights["supcon_image"]:
            values["supcon_image"] = self.supcon(images, labels)
        if self.weights["triplet"]:
            values["triplet"] = self.triplet(images, labels)
        if texts is not None and self.weights["info_nce"]:
            values["info_nce"] = self.info_nce(images, texts)
        if texts is not None and self.weights["supcon_text"]:
            both = self.supcon(images, labels, texts, labels) + self.supcon(texts, labels, images, labels)
            values["supcon_text"] = both / 2
        return {name: self.weights[name] * value for name, value in values.items()}


@dataclass(slots=True)
class Joint:
    """What the stage trains with; building it checks the rest of the recipe."""

    dataset: ReidDataset
    sampler: PKSampler
    loader: "DataLoader[ReidItem]"
    tokens: Tensor | None
    terms: Terms
    optimizer: torch.optim.Optimizer
    schedule: WarmupCosineLR


def prepare_joint(recipe: Recipe, towers: ClipTowers, records: list[ImageRecord], accelerator: Accelerator) -> Joint:
    """Freeze what is not trained; build batches, loss, optimiser and schedule."""
    dataset = training_set(recipe, records, towers)
    rank, ranks = accelerator.process_index, accelerator.num_processes
    sampler, loader = training_batches(recipe, dataset, rank=rank, world_size=ranks)
    captions = [caption or "" for caption in dataset.captions]
    tokens = towers.tokenize(captions, too_long="cut") if recipe.loss.uses_text else None
    frozen = [towers.logit_scale, towers.logit_bias]  # the temperature of the recipe is used instead
    for parameter in frozen if recipe.loss.uses_text else towers.text_parameters():
        if parameter is not None:
            parameter.requires_grad = False
    optimizer = torch.optim.AdamW(parameter_groups(towers, recipe.optim))
    steps = len(loader)
    warmup, total = round(recipe.optim.warmup_epochs * steps), recipe.optim.epochs * steps
    schedule = WarmupCosineLR(optimizer, warmup, total, recipe.optim.min_lr)
    return Joint(dataset, sampler, loader, tokens, Terms(recipe, distributed=ranks > 1), optimizer, schedule)


def train_joint(
    recipe: Recipe,
    towers: ClipTowers,
    records: list[ImageRecord],
    joint: Joint,
    run: Path,
    accelerator: Accelerator,
    *,
    resume: bool,
) -> None:
    """Train, validate each epoch, keep the last and the best checkpoint; resume bit for bit where asked to."""
    quiet = not accelerator.is_main_process
    layout = torch.channels_last if recipe.model.channels_last else torch.contiguous_format
    towers.to(memory_format=layout)
    model, optimizer = accelerator.prepare(towers, joint.optimizer)
    average = None
    if recipe.optim.ema_decay:
        decay = get_ema_multi_avg_fn(recipe.optim.ema_decay)  # type: ignore[no-untyped-call]
        average = AveragedModel(towers, multi_avg_fn=decay)
    kept = towers if average is None else cast("ClipTowers", average.module)

    checkpoints, history, start, waited = Checkpoints(run), [], 0, 0
    if resume:
        state = checkpoints.load_trainer(towers)
        restore(state, towers, optimizer, joint.schedule, accelerator, average)
        history, start, waited = state["history"], state["epoch"], state["waited"]
        if not quiet:  # a kill may have come between the checkpoint and this file
            write_json(run / "metrics.jsonl", history)
    best = max((row["validation"][recipe.evaluate.metric] for row in history if "validation" in row), default=-1.0)

    for epoch in range(start + 1, recipe.optim.epochs + 1):
        if recipe.evaluate.patience is not None and waited >= recipe.evaluate.patience:
            break
        began = time.perf_counter()
        row = train_epoch(recipe, model, towers, joint, optimizer, accelerator, epoch, run, average)
        row["images_per_second"] = row.pop("images") * accelerator.num_processes / (time.perf_counter() - began)
        improved = not validates(records)
        if validates(records) and (epoch % recipe.evaluate.every == 0 or epoch == recipe.optim.epochs):
            found = [None if quiet else evaluate(recipe, kept, records, VALIDATION).images.to_dict()]
            broadcast_object_list(found)  # every process has to stop at the same epoch
            row["validation"] = found[0]
            score = float(row["validation"][recipe.evaluate.metric])
            improved = score > best
            best, waited = max(best, score), 0 if improved else waited + 1
        row["best"] = improved or not history
        row["seconds"] = time.perf_counter() - began
        history.append(row)
        if not quiet:
            state = {
                "epoch": epoch,
                "waited": waited,
                "history": history,
                "optimizer": optimizer.state_dict(),
                "schedule": joint.schedule.state_dict(),
                "rng": torch.get_rng_state(),
                "raw": None if average is None else towers.state_dict(),
                "averaged": None if average is None else int(average.n_averaged),
                "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
            }
            checkpoints.save(epoch, kept, state, best=row["best"])
            write_json(run / "metrics.jsonl", history)
            tqdm.write(describe(row))
        accelerator.wait_for_everyone()


def train_epoch(
    recipe: Recipe,
    model: nn.Module,
    towers: ClipTowers,
    joint: Joint,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    epoch: int,
    run: Path,
    average: AveragedModel | None,
) -> Row:
    """One pass over the batches; the mean of every weighted term, of the loss and of the gradient norm."""
    layout = torch.channels_last if recipe.model.channels_last else torch.contiguous_format
    joint.sampler.set_epoch(epoch)
    joint.dataset.set_epoch(epoch)
    model.train()
    sums: dict[str, float] = {}
    images = 0
    title = f"epoch {epoch}/{recipe.optim.epochs}"
    bar = tqdm(joint.loader, desc=title, leave=False, disable=None if accelerator.is_main_process else True)
    for item in bar:
        with accelerator.autocast():
            texts = None if joint.tokens is None else joint.tokens[item.index]
            embeddings = model(item.image.to(accelerator.device, memory_format=layout), texts)
        values = joint.terms(embeddings.image, embeddings.text, item.label.to(accelerator.device))
        loss = torch.stack(list(values.values())).sum()
        if not math.isfinite(loss.item()):
            write_json(run / "failed_batch.json", {"epoch": epoch, "rows": item.index.tolist()})
            raise ValueError(
                f"epoch {epoch}: expected a finite loss, got {loss.item()}. The rows of the batch are in "
                f"{run / 'failed_batch.json'}; lower optim.lr, or use precision: no."
            )
        optimizer.zero_grad()
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), recipe.optim.clip_norm)
        optimizer.step()
        joint.schedule.step()
        if average is not None:
            average.update_parameters(towers)
        images += len(item.index)
        for name, value in {**values, "loss": loss, "gradient_norm": norm}.items():
            sums[name] = sums.get(name, 0.0) + torch.as_tensor(value).item()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    means = {name: total / len(joint.loader) for name, total in sums.items()}
    return {"epoch": epoch, **means, "lr": joint.schedule.get_last_lr()[0], "images": images}


def parameter_groups(towers: ClipTowers, optim: Optim) -> list[dict[str, Any]]:
    """Each trainable parameter in one group: tower by rate, matrices with decay and everything else without."""
    groups = []
    for parameters, rate in (
        (towers.image_parameters(), optim.lr),
        (towers.text_parameters(), optim.text_lr or optim.lr),
    ):
        trainable = [p for p in parameters if p.requires_grad]
        for decay, chosen in itertools.groupby(sorted(trainable, key=lambda p: p.ndim >= 2), lambda p: p.ndim >= 2):
            groups.append({"params": list(chosen), "lr": rate, "weight_decay": optim.weight_decay if decay else 0.0})
    return groups


def restore(
    state: dict[str, Any],
    towers: ClipTowers,
    optimizer: Any,  # noqa: ANN401 (accelerate wraps it)
    schedule: WarmupCosineLR,
    accelerator: Accelerator,
    average: "AveragedModel | None",
) -> None:
    """Put back everything that decides the next epoch."""
    if average is not None:
        average.module.load_state_dict(towers.state_dict())  # the checkpoint's weights are the average
        average.n_averaged.fill_(state["averaged"])
        towers.load_state_dict(state["raw"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["rng"])
    if accelerator.scaler is not None and state["scaler"] is not None:
        accelerator.scaler.load_state_dict(state["scaler"])


def describe(row: Row) -> str:
    """One line about an epoch."""
    line = f"epoch {row['epoch']:3d}  loss {row['loss']:.3f}  {row['images_per_second']:.0f} images/s"
    if "validation" in row:
        found = row["validation"]
        line += f"  validation Rank-1 {100 * found['rank_1']:.1f}  mAP {100 * found['mean_ap']:.1f}"
    return line + ("  best" if row["best"] and "validation" in row else "")
