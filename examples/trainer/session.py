"""Parts that a run has before a stage begins: folder, devices, records and towers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from clipreid_kit.clip import ClipTowers, mask_patches
from clipreid_kit.data import CategoryIndex, ImageRecord, records_of
from examples.settings.base_recipes import Recipe
from examples.settings.model import Model, TrainedModel
from examples.settings.stages import PromptSGRecipe
from examples.trainer.encoder import Encoding
from examples.trainer.images import image_spec
from examples.trainer.plugin import NO_PLUGIN, Plugin


@dataclass(frozen=True)
class Session:
    """Parts that a run has before a stage begins.

    Attributes:
        out: Folder of the run.
        accelerator: Devices, precision and processes.
        records: All records, with their splits.
        towers: The towers, on their device.
        encoding: How images and captions are encoded for an evaluation.
        resume: Whether an interrupted run continues.
        plugin: The user's own losses.
    """

    out: Path
    accelerator: Accelerator
    records: list[ImageRecord]
    towers: ClipTowers
    encoding: Encoding
    resume: bool
    plugin: Plugin = NO_PLUGIN

    @property
    def rank(self) -> int:
        """Number of this process."""
        return int(self.accelerator.process_index)

    @property
    def ranks(self) -> int:
        """Number of processes."""
        return int(self.accelerator.num_processes)

    @property
    def distributed(self) -> bool:
        """Whether there are several processes."""
        return self.ranks > 1


def categories_of(model: Model, records: Sequence[ImageRecord]) -> list[CategoryIndex]:
    """Numbers of the training cameras and views, where the towers have embeddings for them."""
    train = records_of(records, "train")
    categories = []
    if model.camera_embedding:
        categories.append(CategoryIndex(train, "camera"))
    if model.view_embedding:
        categories.append(CategoryIndex(train, "view"))
    return categories


def arguments_of_towers(
    model: Model, categories: Sequence[CategoryIndex], seed: int
) -> dict[str, Any]:
    """Arguments of ``ClipTowers.from_name`` beside the name and the weights."""
    counts = {index.field: len(index) for index in categories}
    return {
        "seed": seed,
        "image_size": model.image_size,
        "patch_stride": model.patch_stride,
        "last_stride": model.last_stride,
        "position_resize": model.position_resize,
        "num_cameras": counts.get("camera", 0),
        "num_views": counts.get("view", 0),
    }


def make_towers(model: Model, categories: Sequence[CategoryIndex], seed: int) -> ClipTowers:
    """The towers of a recipe."""
    arguments = arguments_of_towers(model, categories, seed)
    towers = ClipTowers.from_name(model.name, model.pretrained, **arguments)
    towers.image_mean = model.image_mean or towers.image_mean
    towers.image_std = model.image_std or towers.image_std
    if isinstance(model, TrainedModel) and model.patch_mask:
        mask_patches(towers, model.patch_mask, model.patch_mask_kind, seed=seed)
    return towers


def encoding_of(
    recipe: Recipe, towers: ClipTowers, categories: Sequence[CategoryIndex], *, quiet: bool
) -> Encoding:
    """Encoding of images and captions for an evaluation."""
    return Encoding(
        spec=image_spec(towers, recipe.model, recipe.augment.fill),
        options=recipe.evaluate,
        categories=categories,
        too_long=recipe.data.too_long(),
        workers=recipe.data.workers,
        simplified=isinstance(recipe, PromptSGRecipe) and recipe.prompt.test_mode == "simplified",
        quiet=quiet,
    )
