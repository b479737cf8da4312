"""From a recipe to trained weights: the phases of each stage, in order."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from clipreid_kit import chance_level_losses
from clipreid_kit.clip import (
    ClipReIDPromptStage,
    ClipTowers,
    TrainingCheckpoints,
    read_card,
    warm_start,
)
from clipreid_kit.data import CategoryIndex, ImageRecord, ReidDataset, records_of
from clipreid_kit.distributed import local_losses
from examples.report import write_json
from examples.settings.config import Augment, Mining, Recipe
from examples.settings.rules import terms_of
from examples.trainer.batches import TrainingBatches
from examples.trainer.data import validation_of
from examples.trainer.evaluation import Encoder, evaluate
from examples.trainer.loop import Batch, Phase, fit
from examples.trainer.methods import method_of, prompts_of, texts_of
from examples.trainer.pictures import evaluation_batches, image_spec, training_set


@dataclass(slots=True)
class Session:
    """What every phase of a run works with."""

    recipe: Recipe
    out: Path
    accelerator: Accelerator
    records: list[ImageRecord]
    towers: ClipTowers
    numbers: list[CategoryIndex]  # of cameras and views, as far as the towers are to know them

    def batches(
        self, recipe: Recipe, dataset: ReidDataset, rank: int = 0, ranks: int = 1
    ) -> TrainingBatches:
        """Training batches of one process."""
        encoder = Encoder(
            recipe, self.towers, self.numbers, quiet=not self.accelerator.is_main_process
        )
        return TrainingBatches(recipe, dataset, encoder, rank, ranks)


class FeatureBatches:
    """Cached features in random batches; each rank takes its share of every batch, all of one size."""

    def __init__(self, columns: Batch, size: int, seed: int, rank: int, ranks: int) -> None:
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


def numbers_of(recipe: Recipe, records: Sequence[ImageRecord]) -> list[CategoryIndex]:
    """Cameras and views, as far as the towers are to know them."""
    train = [record for record in records if record.split == "train"]
    cameras = [CategoryIndex(train, "camera")] if recipe.model.camera_embedding else []
    return [*cameras, CategoryIndex(train, "view")] if recipe.model.view_embedding else cameras


def make_towers(recipe: Recipe, numbers: Sequence[CategoryIndex]) -> ClipTowers:
    """The towers of a recipe, with what is beside their weights."""
    model = recipe.model
    names = ("image_size", "patch_stride", "last_stride", "position_resize")
    options: dict[str, Any] = {name: getattr(model, name) for name in names}
    options |= {f"num_{known.field}s": len(known) for known in numbers}
    towers = ClipTowers.from_open_clip(model.name, model.pretrained, seed=recipe.seed, **options)
    towers.image_mean = model.image_mean or towers.image_mean
    towers.image_std = model.image_std or towers.image_std
    return towers


def train(session: Session, *, resume: bool) -> nn.Module:
    """Run every phase of the recipe's stage and return the method with its best weights."""
    recipe, towers, run, accelerator = (
        session.recipe,
        session.towers,
        session.out,
        session.accelerator,
    )
    rank, ranks = accelerator.process_index, accelerator.num_processes
    dataset = training_set(recipe, records_of(session.records, "train"), towers)
    batches = session.batches(recipe, dataset, rank, ranks)
    names, identities = [str(i) for i in dataset.identities], dataset.num_identities
    texts = None
    if recipe.stage == "clip_reid":
        learn = recipe.prompt.epochs > 0
        texts = (
            learn_prompts(session, dataset, resume=resume)
            if learn
            else texts_of(recipe, towers, dataset)
        )
    method = method_of(recipe, towers, identities, distributed=ranks > 1, texts=texts).to(
        accelerator.device
    )
    if recipe.init_from is not None and not (
        resume and TrainingCheckpoints(run / "checkpoints").exists()
    ):
        beside = {
            n: t for n, t in method.state_dict().items() if not n.startswith("towers.") and t.ndim
        }
        own = {n: t.clone() for n, t in beside.items() if t.shape[0] == identities}
        report = warm_start(method, recipe.init_from)  # what is beside the towers, too
        if read_card(recipe.init_from).get("identities") != names:
            method.load_state_dict(
                own, strict=False
            )  # rows of identities are of those that are trained on here
        if texts is not None:
            method.get_buffer("text_embeddings").copy_(
                texts
            )  # those of this run, whatever was loaded
        if accelerator.is_main_process:
            write_json(run / "init_from.json", {"from": recipe.init_from, **asdict(report)})
    phase = Phase(recipe, run, accelerator, method, batches, recipe.optim)
    phase.score = scorer(session) if validation_of(session.records) else None
    phase.card = {"image_spec": image_spec(recipe, towers).as_dict(), "identities": names}
    phase.floors = floors_of(recipe, identities, ranks)
    phase.first = recipe.prompt.epochs if recipe.stage == "clip_reid" else 0
    fit(phase, resume=resume)
    TrainingCheckpoints(run / "checkpoints").load("best", method)
    return method


def learn_prompts(session: Session, dataset: ReidDataset, *, resume: bool) -> Tensor:
    """The first phase of CLIP-ReID: a text for each identity (C, D), learned against cached image features."""
    recipe, towers, accelerator = session.recipe, session.towers, session.accelerator
    prompt, records, ranks = recipe.prompt, dataset.records, accelerator.num_processes
    cameras = CategoryIndex(records, "camera") if prompt.camera_tokens else None
    prompts = prompts_of(
        recipe, towers, dataset.num_identities, 0 if cameras is None else len(cameras)
    )
    options: dict[str, Any] = {"temperature": prompt.temperature, "normalize": prompt.normalize}
    stage = ClipReIDPromptStage(towers, prompts, distributed=ranks > 1, **options).to(
        accelerator.device
    )
    # as they are: one view, no camera, not normalised
    features = [
        stage.image_embeddings(item.image).cpu()
        for item in evaluation_batches(recipe, records, towers, 0.0)
    ]
    columns = {"image_embeddings": torch.cat(features), "labels": dataset.labels}
    if cameras is not None:
        columns["cameras"] = cameras.of(records)
    batches = FeatureBatches(
        columns, prompt.batch_size, recipe.seed, accelerator.process_index, ranks
    )
    every = replace(recipe, accumulate=1, model=replace(recipe.model, channels_last=False))
    folder = session.out / "prompt"
    folder.mkdir(parents=True, exist_ok=True)
    fit(
        Phase(every, folder, accelerator, stage, batches, prompt.optim(), name="prompt/"),
        resume=resume,
    )
    TrainingCheckpoints(folder / "checkpoints").load("best", stage)
    with torch.no_grad():
        return prompts.encode_all(towers)


def floors_of(recipe: Recipe, identities: int, ranks: int = 1) -> dict[str, float]:
    """What weighted terms are when all embeddings are equal."""
    found = chance_level_losses(
        ranks * recipe.batch.num_identities * recipe.batch.num_instances, identities
    )
    found["id"] *= 2 if recipe.stage == "clip_reid" else 1  # of two levels
    # of batches of one size, with rows that weigh the same
    steady = recipe.mining.data == "standard" and not recipe.loss.focal_gamma
    names = ("id", "supcon_image", *(("supcon_text", "info_nce") if steady else ()))
    return {
        name: weight * found[name]
        for name, weight in terms_of(recipe).items()
        if weight and name in names
    }


def scorer(session: Session) -> Any:  # noqa: ANN401
    """Judges a method by the held-out identities: the larger the better."""
    recipe, wanted, held = session.recipe, session.recipe.evaluate, validation_of(session.records)

    def score(method: nn.Module) -> tuple[float, dict[str, Any]]:
        log: dict[str, Any] = evaluate(
            recipe, Encoder(recipe, method, session.numbers), held
        ).numbers(wanted.k_values)
        if wanted.metric == "loss":
            log["loss"] = {"loss": validation_loss(session, method)}
            return -log["loss"]["loss"], log
        task = log.get(wanted.task, log.get(f"{wanted.task}.retrieval"))
        if task is None:
            raise ValueError(
                f"evaluate.task: expected {' or '.join(log)} of the validation split, got {wanted.task}."
            )
        return float(task[wanted.metric] if wanted.metric in task else task["hit_rate_1"]), log

    return score


@torch.no_grad()
def validation_loss(session: Session, method: Any) -> float:  # noqa: ANN401 (a ClipBaseline: see the rules)
    """Mean loss on batches of held-out identities: the training loss, without augmentation, the same batches always."""
    recipe = session.recipe
    rows = [r for r in session.records if r.split in ("val", "val_query", "val_gallery")]
    size = min(recipe.batch.num_identities, len({r.identity for r in rows}))
    plain = replace(
        recipe,
        augment=Augment(fill=recipe.augment.fill),
        batch=replace(recipe.batch, num_identities=size, coverage="images", spread_cameras=False),
        data=replace(recipe.data, orientations=1, workers=0, caption_variations=1),
        mining=Mining(),
    )
    was_training, values = method.training, []
    method.eval()
    forward = getattr(
        method, "_original_forward", method
    )  # accelerate's own computes in mixed precision
    with local_losses(method):  # the other processes are waiting
        for batch in session.batches(plain, training_set(plain, rows, session.towers))(0):
            del batch["index"]
            moved = {
                k: v if k in ("cameras", "views") else v.to(session.accelerator.device)
                for k, v in batch.items()
            }
            values.append(float(forward(**moved, terms=method.open_set_terms).loss))
    method.train(was_training)
    return sum(values) / len(values)
