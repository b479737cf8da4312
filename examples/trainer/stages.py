"""From a recipe to trained weights: the phases of each stage, in order."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from clipreid_kit import PKSampler, degenerate_losses
from clipreid_kit.clip import ClipBaseline, ClipReIDPromptStage, ClipTowers, TrainingCheckpoints, warm_start
from clipreid_kit.data import ImageRecord, records_of
from examples.report.files import write_json
from examples.settings.config import Augment, Optim, Recipe
from examples.settings.rules import terms_of, too_long, uses_text
from examples.trainer.batches import (
    Batch,
    Numbers,
    TrainingBatches,
    evaluation_batches,
    image_spec,
    training_set,
)
from examples.trainer.data import validates, validation_of
from examples.trainer.evaluation import Encoder, evaluate
from examples.trainer.loop import Plan, fit
from examples.trainer.methods import Output, method_of, prompts_of, texts_of
from examples.trainer.optim import optimizers_of


class PromptPhase(ClipReIDPromptStage):
    """The first stage of CLIP-ReID, called like every other method; images are their features here."""

    def forward(self, images: Tensor, labels: Tensor, *, cameras: Tensor | None = None, step: int | None = None) -> Any:  # noqa: ANN401
        """The loss of both directions."""
        del step
        found = super().forward(images, labels, cameras=cameras)
        terms = {"image_to_text": found.image_to_text.detach(), "text_to_image": found.text_to_image.detach()}
        return Output(None, found.loss, terms)  # type: ignore[arg-type]


class FeatureBatches:
    """Cached features in random batches; each rank takes its share of every batch, all of one size."""

    def __init__(self, columns: dict[str, Tensor], size: int, seed: int, rank: int, ranks: int) -> None:
        self.columns, self.size, self.seed, self.rank, self.ranks = columns, size, seed, rank, ranks

    def __len__(self) -> int:
        return math.ceil(len(self.columns["labels"]) / self.size)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """All rows once, in the order of this epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.columns["labels"]), generator=generator)
        for rows in torch.split(order, self.size):
            shared = rows if len(rows) >= self.ranks else rows.repeat(self.ranks)[: self.ranks]
            mine = shared[: len(shared) // self.ranks * self.ranks][self.rank :: self.ranks]
            yield {name: column[mine] for name, column in self.columns.items()} | {"index": mine}

    def names(self, rows: Sequence[int]) -> list[str]:
        """What a message calls rows."""
        return [f"image {row}" for row in rows]

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: an epoch's order is that of its number."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Nothing to take back."""


def card_of(source: str) -> dict[str, Any]:
    """What the trainer kept beside the best weights of a run, or beside a checkpoint; nothing if it was not kept."""
    run = TrainingCheckpoints(Path(source) / "checkpoints")
    card = (run.path("best") if run.exists() else Path(source)) / "card.json"
    found = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    return found.get("extra", {})  # type: ignore[no-any-return]


def numbers_of(recipe: Recipe, records: Sequence[ImageRecord]) -> list[Numbers]:
    """Cameras and views, as far as the towers are to know them."""
    model, train = recipe.model, records_of(records, "train")
    names = [n for n, on in (("camera", model.camera_embedding), ("view", model.view_embedding)) if on]
    for name in names:
        bare = [record.path for record in train if getattr(record, name) is None]
        if bare:
            raise ValueError(
                f"model.{name}_embedding: expected a {name} for every training image, got none for {len(bare)} "
                f"({bare[0]}, ...)."
            )
    return [Numbers(train, name) for name in names]


def make_towers(recipe: Recipe, numbers: Sequence[Numbers]) -> ClipTowers:
    """The towers of a recipe, with what is beside their weights."""
    model, known = recipe.model, {n.name: len(n.known) for n in numbers}
    towers = ClipTowers.from_open_clip(
        model.name,
        model.pretrained,
        image_size=model.image_size,
        patch_stride=model.patch_stride,
        last_stride=model.last_stride,
        position_resize=model.position_resize,
        num_cameras=known.get("camera", 0),
        num_views=known.get("view", 0),
        seed=recipe.seed,
    )
    towers.image_mean = model.image_mean or towers.image_mean
    towers.image_std = model.image_std or towers.image_std
    return towers


def train(
    recipe: Recipe, towers: ClipTowers, records: list[ImageRecord], run: Path, accelerator: Accelerator, *, resume: bool
) -> nn.Module:
    """Run every phase of the recipe's stage and return the method with its best weights."""
    rank, ranks, main = accelerator.process_index, accelerator.num_processes, accelerator.is_main_process
    numbers = numbers_of(recipe, records)
    dataset = training_set(recipe, records_of(records, "train"), towers)
    identities = len(dataset.identities) * recipe.data.orientations
    encoder = Encoder(recipe, towers, numbers, quiet=not main)
    batches = TrainingBatches(
        recipe,
        dataset,
        towers,
        numbers,
        rank=rank,
        world_size=ranks,
        encode=lambda rows, captions: (encoder.images(rows), encoder.texts(captions)),
    )
    texts = None
    if recipe.stage == "clip_reid":
        if recipe.prompt.epochs:
            texts = learn_prompts(recipe, towers, dataset.records, dataset.labels, run, accelerator, resume=resume)
        else:
            texts = texts_of(recipe, towers, dataset.records, dataset.identities)
    method = method_of(recipe, towers, identities, distributed=ranks > 1, texts=texts).to(accelerator.device)
    if recipe.init_from is not None and not (resume and TrainingCheckpoints(run / "checkpoints").exists()):
        beside = {n: t for n, t in method.state_dict().items() if not n.startswith("towers.") and t.ndim}
        own = {n: t.clone() for n, t in beside.items() if t.shape[0] == identities}
        report = warm_start(method, recipe.init_from)  # what is beside the towers, too
        if card_of(recipe.init_from).get("identities") != [str(i) for i in dataset.identities]:
            method.load_state_dict(own, strict=False)  # rows of identities are of those that are trained on here
        if texts is not None:
            method.get_buffer("text_embeddings").copy_(texts)  # those of this run, whatever was loaded
        if main:
            write_json(run / "init_from.json", {"from": recipe.init_from, **asdict(report)})
    plan = Plan(
        method,
        batches,
        optimizers_of(method, recipe.optim, recipe.loss.center),
        recipe.optim,
        scorer(recipe, records, numbers, towers) if validates(records) else None,
        {"image_spec": image_spec(recipe, towers).as_dict(), "identities": [str(i) for i in dataset.identities]},
        floors_of(recipe, identities, ranks),
        first=recipe.prompt.epochs if recipe.stage == "clip_reid" else 0,
    )
    fit(recipe, plan, run, accelerator, resume=resume)
    TrainingCheckpoints(run / "checkpoints").load("best", method)
    return method


def learn_prompts(
    recipe: Recipe,
    towers: ClipTowers,
    records: Sequence[ImageRecord],
    labels: Tensor,
    run: Path,
    accelerator: Accelerator,
    *,
    resume: bool,
) -> Tensor:
    """The first phase of CLIP-ReID: a text for each identity (C, D), learned against cached image features."""
    cameras = Numbers(records, "camera")
    prompts = prompts_of(recipe, towers, len(set(labels.tolist())), len(cameras.known))
    ranks = accelerator.num_processes
    phase = PromptPhase(
        towers, prompts, temperature=recipe.prompt.temperature, normalize=recipe.prompt.normalize, distributed=ranks > 1
    ).to(accelerator.device)
    # as they are: one view, no camera, not normalised
    features = [phase.image_embeddings(item.image).cpu() for item in evaluation_batches(recipe, records, towers, 0.0)]
    columns = {"images": torch.cat(features), "labels": labels}
    if recipe.prompt.camera_tokens:
        columns["cameras"] = cameras.of(records)
    prompt, rank = recipe.prompt, accelerator.process_index
    optim = Optim(
        optimizer="adam",
        epochs=prompt.epochs,
        lr=prompt.lr,
        weight_decay=prompt.weight_decay,
        decay_all=True,
        warmup_epochs=prompt.warmup_epochs,
        warmup_factor=prompt.warmup_factor,
        min_lr=prompt.min_lr,
        by_epoch=True,
        clip_norm=None,
    )
    batches = FeatureBatches(columns, prompt.batch_size, recipe.seed, rank, ranks)
    every = replace(recipe, accumulate=1, model=replace(recipe.model, channels_last=False))
    folder = run / "prompt"
    folder.mkdir(parents=True, exist_ok=True)
    plan = Plan(phase, batches, optimizers_of(phase, optim), optim, name="prompt/")
    fit(every, plan, folder, accelerator, resume=resume)
    TrainingCheckpoints(folder / "checkpoints").load("best", phase)
    with torch.no_grad():
        return prompts.encode_all(towers)


def floors_of(recipe: Recipe, identities: int, ranks: int = 1) -> dict[str, float]:
    """What weighted terms are when all embeddings are equal."""
    found = degenerate_losses(ranks * recipe.batch.num_identities * recipe.batch.num_instances, identities)
    floors = {name: found[name] for name in ("id", "supcon_image", "supcon_text", "info_nce")}
    floors["id"] *= 2 if recipe.stage == "clip_reid" else 1  # of two levels
    weights = terms_of(recipe)
    if recipe.mining.data != "standard" or recipe.loss.focal_gamma:  # batches of any size, or weighted rows
        floors = {name: floor for name, floor in floors.items() if name not in ("supcon_text", "info_nce")}
    return {name: weight * floors[name] for name, weight in weights.items() if weight and name in floors}


def scorer(recipe: Recipe, records: list[ImageRecord], numbers: Sequence[Numbers], towers: ClipTowers) -> Any:  # noqa: ANN401
    """Judges a method by the held-out identities: the larger the better."""
    held = validation_of(records)
    wanted = recipe.evaluate

    def score(method: nn.Module) -> tuple[float, dict[str, Any]]:
        encoder = Encoder(recipe, method, numbers)
        found = evaluate(recipe, encoder, held)
        log = found.numbers(wanted.k_values)
        if wanted.metric == "loss":
            return -validation_loss(recipe, method, records, numbers, towers, log), log
        task = log.get(wanted.task, log.get(f"{wanted.task}.retrieval"))
        if task is None:
            raise ValueError(f"evaluate.task: expected {' or '.join(log)} of the validation split, got {wanted.task}.")
        return float(task[wanted.metric] if wanted.metric in task else task["hit_rate_1"]), log

    return score


@torch.no_grad()
def validation_loss(
    recipe: Recipe,
    method: nn.Module,
    records: list[ImageRecord],
    numbers: Sequence[Numbers],
    towers: ClipTowers,
    log: dict[str, Any],
) -> float:
    """Mean loss on batches of held-out identities: the training loss, without augmentation, the same batches always."""
    if not isinstance(method, ClipBaseline):
        raise ValueError("evaluate.metric: expected another than loss for clip_reid and prompt_sg, got loss.")
    plain = replace(
        recipe, augment=Augment(fill=recipe.augment.fill), data=replace(recipe.data, orientations=1, workers=0)
    )
    rows = [r for r in records if r.split in ("val", "val_query", "val_gallery")]
    dataset = training_set(plain, rows, towers)
    size = min(recipe.batch.num_identities, len(dataset.identities))
    sampler = PKSampler(dataset.labels, size, recipe.batch.num_instances, seed=recipe.seed, coverage="images")
    tokens = (
        towers.tokenize([c or "" for c in dataset.captions], too_long=too_long(recipe)) if uses_text(recipe) else None
    )
    places = {f"{n.name}s": n.of(rows) for n in numbers}
    was_training, values = method.training, []
    method.eval()
    device = next(method.parameters()).device
    gathering: list[Any] = [part for part in method.modules() if getattr(part, "distributed", False)]
    for part in gathering:  # the other processes are waiting
        part.distributed = False
    for chosen in sampler:
        items = [dataset[i] for i in chosen]
        images, labels = torch.stack([i.image for i in items]), torch.tensor([i.label for i in items])
        here = {name: values[chosen] for name, values in places.items()}
        text = None if tokens is None else tokens[chosen].to(device)
        forward = getattr(method, "_original_forward", method)  # accelerate's own computes in mixed precision
        output = forward(images.to(device), labels, tokens=text, terms=method.open_set_terms, **here)
        values.append(float(output.loss))
    for part in gathering:
        part.distributed = True
    method.train(was_training)
    mean = sum(values) / len(values)
    log["loss"] = {"loss": mean}
    return mean
