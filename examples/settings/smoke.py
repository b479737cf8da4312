"""A small version of a recipe, with the same code and keys, that runs in a minute on a CPU."""

from typing import Any

import torch

from clipreid_kit.data.hands import spoken_aspect
from examples.settings.base_recipes import Recipe
from examples.settings.model import VISION_ONLY
from examples.settings.recipe import recipe_of

_IDENTITIES = 24  # of each split of a data set


def smoke(recipe: Recipe) -> Recipe:
    """Shrink everything that costs time: small towers, few images, two epochs, small batches.

    Without a root for its data, the generated set takes their place.
    """
    tree = recipe.model_dump()
    tree["init_from"] = None
    _shrink_model(tree["model"])
    _shrink_data(tree)
    tree["evaluate"] |= {"num_splits": 2, "batch_size": 64}
    tree["track"]["alarms"] = False  # two epochs show nothing

    if "precision" in tree and not torch.cuda.is_available():
        tree["precision"] = "no"  # 16 bits are slow on a CPU, and fp16 is for GPUs only
    if "batch" in tree:
        for key in ("num_identities", "num_instances"):
            tree["batch"][key] = min(tree["batch"][key], 4)
    if "optim" in tree:
        _shrink_schedule(tree["optim"])
    if "clusters" in tree:
        tree["clusters"] |= {"k1": 8, "k2": 2, "min_samples": 2, "steps": None}  # of few images
    if tree.get("prompt", {}).get("epochs"):
        _shrink_schedule(tree["prompt"])

    return recipe_of(tree)


def _shrink_model(model: dict[str, Any]) -> None:
    is_resnet = model["name"].startswith(("RN", "reid-tiny-resnet"))
    height, width = model["image_size"] or (1, 1)

    if model["name"].startswith(VISION_ONLY):
        model["name"] = "timm/test_resnet"
    else:
        model["name"] = "reid-tiny-resnet" if is_resnet else "reid-tiny-vit"
    model["pretrained"] = None
    model["image_size"] = (64, 32) if height > width else (64, 64)
    if model["patch_stride"] is not None:
        model["patch_stride"] = 6

    for key, most in (("image_blocks", 4), ("text_blocks", 2)):
        if isinstance(model.get(key), int):
            model[key] = min(model[key], most)


def _shrink_data(tree: dict[str, Any]) -> None:
    data = tree["data"]
    data["workers"] = 0
    if "counts" in data:
        data["counts"] = "ignore"

    if data.get("root") is None:
        data |= {"source": "synthetic", "num_identities": 24, "views_per_camera": 2}
        data |= {"texts": None, "caption": None, "validation": 0.0}
        if tree.get("batch", {}).get("across") == "modality":
            data["infrared_cameras"] = 2
        data["frames"] = 3 if tree["evaluate"]["tracklets"] == "own" else 1
        tree["evaluate"]["protocols"] = ["query_gallery"]
        tree["evaluate"]["same"] = "left_out"
        _spell_aspect(tree)
        return

    data["trial_identities"] = _IDENTITIES
    if data["validation"]:
        data["validation"] = max(data["validation"], 0.3)


def _spell_aspect(tree: dict[str, Any]) -> None:
    """Write the aspect of a hand into the prompts: the generated set has none."""
    aspect = tree["data"].get("aspect")
    if aspect is not None and "prompt" in tree:
        templates = tree["prompt"]["template"]
        tree["prompt"]["template"] = [
            text.replace("{aspect}", spoken_aspect(aspect)) for text in templates
        ]


def _shrink_schedule(optim: dict[str, Any]) -> None:
    optim["epochs"] = 2
    optim["warmup_epochs"] = min(optim["warmup_epochs"], 1.0)
    if "step_epochs" in optim:
        optim["step_epochs"] = 1
    if optim.get("milestones"):
        optim["milestones"] = [1]
