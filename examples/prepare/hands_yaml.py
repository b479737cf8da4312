"""Translate a YAML configuration of the hands pipeline into the keys of a recipe."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.settings.errors import shorten
from examples.settings.recipe import load_recipe, recipe_of
from examples.settings.section import lookup
from examples.settings.variants import UnknownKeyError

Keys = dict[str, Any]

RECIPES = Path(__file__).parents[1] / "recipes" / "hands"

MODELS = {
    "vitb16": "ViT-B-16-quickgelu",
    "vitb32": "ViT-B-32-quickgelu",
    "rn50": "RN50-quickgelu",
    "rn101": "RN101-quickgelu",
    "rn50x4": "RN50x4-quickgelu",
    "rn50x16": "RN50x16-quickgelu",
    "rn50x64": "RN50x64-quickgelu",
}
DATASETS = {"11k": "hands11k", "hd": "polyu_hands"}
LATEST = {2: "v9", 3: "v11"}  # the version whose values their last files hold

# Keys that become one key each.
KEYS = {
    "aspect": "data.aspect",
    "num_workers": "data.workers",
    "pin_memory": "data.pin_memory",
    "num_splits": "evaluate.num_splits",
    "use_flip": "evaluate.flip",
    "epochs": "optim.epochs",
    "epochs_image": "optim.epochs",
    "early_stop_patience": "evaluate.patience",
    "lr_visual": "optim.lr",
    "lr_clip_visual": "optim.lr",
    "lr_modules": "optim.head_lr",
    "weight_decay": "optim.weight_decay",
    "weight_decay_visual": "optim.weight_decay",
    "warmup_epochs": "optim.warmup_epochs",
    "max_norm": "optim.clip_norm",
    "n_ctx": "prompt.num_tokens",
    "epochs_prompt": "prompt.epochs",
    "lr_prompt": "prompt.lr",
    "weight_decay_prompt": "prompt.weight_decay",
    "center_lr": "optim.center_lr",
    "arcface_scale": "head.scale",
    "arcface_margin": "head.margin",
    "unfreeze_blocks": "model.image_blocks",
    "loss_id_weight": "loss.id",
    "loss_tri_weight": "loss.triplet",
    "supcon_loss_weight": "loss.supcon",
    "supcon_temperature": "loss.temperature",
}
# Keys without a counterpart, each with the reason.
IGNORED = {
    **dict.fromkeys(("experiment", "variant", "stage", "model", "clip_model"), ""),
    "center_loss_weight": "",
    **dict.fromkeys(("freeze_text", "freeze_text_encoder"), "the text tower is frozen"),
    **dict.fromkeys(("lr_text", "weight_decay_text"), "the text tower is frozen"),
    **dict.fromkeys(("output_dir", "save_dir", "log_dir"), "a run's folder is that of --out"),
    **dict.fromkeys(("ctx_init", "freeze_prompt", "use_arcface"), "nothing there reads it"),
    **dict.fromkeys(("pseudo_token_dim", "pseudo_token_init"), "the width is the text tower's"),
    **dict.fromkeys(("save_frequency", "log_frequency", "shuffle"), "every epoch; shuffled"),
    **dict.fromkeys(("loss", "loss_list"), "the weights of the terms say it"),
    **dict.fromkeys(("resume_from", "resume_from_checkpoint"), "a run goes on by --resume"),
    "pretrained": "the weights are OpenAI's",
    "cross_attention_layers": "there is one",
    "attention_heads": "there are 8",
    "val_type": "validation is by retrieval",
    "model_path": "evaluate the trainer's run instead: python -m examples.trainer.evaluate RUN",
}


@dataclass
class Converted:
    """A recipe as it is put together.

    Attributes:
        base: The recipe of the same stage, version and tower.
        changes: What the configuration says otherwise, by dotted key.
        remarks: What has no counterpart.
    """

    base: Path
    changes: Keys = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def convert_hands(tree: Keys, source: str, version: str | None = None) -> Converted:
    """Translate a configuration.

    Args:
        tree: The configuration: keys and values, without sections.
        source: Name of the file, for messages.
        version: Version whose recipe it is based on, such as ``v9``; ``None`` takes the one that
            ``experiment`` or ``variant`` name, or the last.

    Raises:
        ValueError: If a key or a value is unknown, or there is no such version.
    """
    _check_keys(tree, source)
    stage = _stage_of(tree)
    model = _model_of(tree, source)
    converted = Converted(_base(tree, stage, model, version, source))
    if stage > 1 and version is None and _version_in(tree) is None:
        name = LATEST[stage]
        converted.remarks.append(f"no version is named; {name} is taken. --version takes another.")

    if MODELS[model] not in load_recipe(converted.base).model.name:
        converted.changes["model.name"] = MODELS[model]
    _translate_keys(tree, converted)

    if stage == 1 and "lr" in tree:
        converted.changes["optim.lr"] = tree["lr"]
    elif "lr" in tree:
        converted.remarks.append("lr is left out: nothing there reads it in this stage.")
    return _with_effect(converted, source)


def _check_keys(tree: Keys, source: str) -> None:
    """Raise ValueError at a key that the pipeline does not know."""
    known = {*KEYS, *IGNORED, *SPECIAL}
    for key in tree:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise ValueError(f"{source}: there is no key {shorten(key)}. Did you mean {near[0]}?")


def _translate_keys(tree: Keys, converted: Converted) -> None:
    """Add the changes and the remarks of every key but the stage, the tower and ``lr``."""
    for key, value in tree.items():
        if key in KEYS:
            converted.changes[KEYS[key]] = value
        elif key in SPECIAL:
            SPECIAL[key](converted, value, tree)
        elif IGNORED[key]:
            converted.remarks.append(f"{key} is left out: {IGNORED[key]}.")


def _stage_of(tree: Keys) -> int:
    """The stage: as it is named, or else by the keys that only one has."""
    named = re.search(r"[123]", str(tree.get("stage", "")))
    if named:
        return int(named[0])
    if {"lr_clip_visual", "lr_modules", "transformer_layers", "loss_id_weight"} & set(tree):
        return 3
    if {"n_ctx", "epochs_prompt", "lr_prompt", "stage_mode", "unfreeze_blocks"} & set(tree):
        return 2
    return 1


def _model_of(tree: Keys, source: str) -> str:
    """The tower, as that pipeline names it."""
    given = str(tree.get("model", tree.get("clip_model", "vitb16")))
    model = re.sub(r"[^a-z0-9]", "", given.lower())
    if model not in MODELS:
        raise ValueError(f"{source}: model must be one of {', '.join(MODELS)}, got {given}.")
    return model


def _version_in(tree: Keys) -> str | None:
    """The version that the experiment's name holds."""
    text = f"{tree.get('experiment', '')} {tree.get('variant', '')}"
    found = re.search(r"(?<![a-z])v(\d+)(?!\d)", text)
    return f"v{found[1]}" if found else None


def _base(tree: Keys, stage: int, model: str, version: str | None, source: str) -> Path:
    """The recipe of the same stage, version and tower."""
    tower = "rn50" if model.startswith("rn") else "vit"
    if stage > 1:
        name = version or _version_in(tree) or LATEST[stage]
    elif not {"epochs", "lr", "classifier"} & set(tree):
        name = "zero_shot"
    elif tree.get("clip_init") == "random":
        name = "random"
    else:
        kind = str(tree.get("classifier", "linear"))
        name = "classifier" if kind == "linear" else kind

    path = RECIPES / f"stage{stage}" / f"{name}_{tower}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in path.parent.glob(f"*_{tower}.yaml")))
        raise ValueError(f"{source}: stage {stage} has no recipe {path.stem}; there are {known}.")
    return path


def _with_effect(converted: Converted, source: str) -> Converted:
    """Leave out changes to what the base says already, and those without effect, with a remark."""
    base = load_recipe(converted.base)
    tree: Keys = base.model_dump()
    for key, value in converted.changes.items():
        section, _, name = key.rpartition(".")
        if section not in tree:
            continue
        tree[section][name] = value

    try:
        recipe = recipe_of(tree)
    except (ValueError, UnknownKeyError) as error:
        raise ValueError(f"{source}: {error}") from None

    kept: Keys = {}
    idle = []
    for key, value in converted.changes.items():
        found, before = lookup(recipe, key), lookup(base, key)
        if found is None or found[0] != (tuple(value) if key == "model.image_size" else value):
            idle.append(key)
        elif before is None or before[0] != found[0]:
            kept[key] = value

    remarks = list(converted.remarks)
    if idle:
        remarks.append(f"without effect in this recipe, and left out: {', '.join(idle)}.")
    return Converted(converted.base, kept, remarks)


def _dataset(converted: Converted, value: str, _: Keys) -> None:
    if value not in DATASETS:
        raise ValueError(f"dataset must be one of {', '.join(DATASETS)}, got {shorten(value)}.")
    converted.changes["data.source"] = DATASETS[value]


def _batch_size(converted: Converted, value: object, _: Keys) -> None:
    if not isinstance(value, int) or value < 4:
        raise ValueError(f"batch_size must be a whole number of 4 or more, got {shorten(value)}.")
    converted.changes["batch.num_identities"] = value // 4
    if value % 4:
        converted.remarks.append(f"batch_size is {value // 4 * 4}: of {value // 4} persons.")


def _input_size(converted: Converted, value: list[int], _: Keys) -> None:
    if list(value) != [224, 224]:  # the towers' own
        converted.changes["model.image_size"] = list(value)


def _stage_mode(converted: Converted, value: str, _: Keys) -> None:
    if value == "image_only":
        converted.changes["prompt.epochs"] = 0
    elif value != "prompt_then_image":
        raise ValueError(
            f"stage_mode must be prompt_then_image or image_only, got {shorten(value)}: prompts "
            "alone are not trained here."
        )


def _template(converted: Converted, value: str | list[str], tree: Keys) -> None:
    """Sentences with {tokens} where theirs have {} or placeholders X."""
    if value == tree.get("prompt_template") and tree.get("prompt_template_list"):
        return  # the list has precedence
    texts = [value] if isinstance(value, str) else list(value)
    converted.changes["prompt.template"] = [
        re.sub(r"\{\}|X( X)+", "{tokens}", text) for text in texts
    ]
    if not all("{tokens}" in text for text in converted.changes["prompt.template"]):
        del converted.changes["prompt.template"]
        converted.remarks.append(
            "prompt_template is left out: it has no {} for the learned words. Set prompt.template "
            "with {tokens} in it."
        )


def _switch(term: str) -> Callable[[Converted, bool, Keys], None]:
    def switch(converted: Converted, value: bool, _: Keys) -> None:
        converted.changes[f"loss.{term}"] = 1.0 if value else 0.0

    return switch


def _center(converted: Converted, value: bool, tree: Keys) -> None:
    weight = tree.get("center_loss_weight", 5.0e-4)
    converted.changes["loss.center"] = weight if value else 0.0


def _identity_terms(converted: Converted, tree: Keys) -> None:
    """One term and one head of ours are two terms of theirs."""
    arcface = tree.get("loss_use_arcface", False)
    converted.changes["loss.id"] = 1.0 if arcface or tree.get("loss_use_id", True) else 0.0
    if converted.changes["loss.id"]:
        converted.changes["head.kind"] = "arcface" if arcface else "linear"


def _classifier(converted: Converted, value: str, _: Keys) -> None:
    if value in ("linear", "arcface"):
        converted.changes["head.kind"] = value


def _composed(converted: Converted, value: bool, _: Keys) -> None:
    converted.changes["prompt.mode"] = "composed" if value else "simplified"


def _transformer_layers(converted: Converted, value: int, _: Keys) -> None:
    """Theirs count the cross-attention as well."""
    converted.changes["prompt.interaction_blocks"] = max(value - 1, 0)


def _reduction(converted: Converted, value: bool, tree: Keys) -> None:
    converted.changes["head.reduced_dim"] = tree.get("bnneck_dim", 256) if value else None


def _nothing(_: Converted, __: object, ___: Keys) -> None:
    """A key that another one takes into account."""


SPECIAL: dict[str, Callable[[Converted, Any, Keys], None]] = {
    "dataset": _dataset,
    "batch_size": _batch_size,
    "input_size": _input_size,
    "stage_mode": _stage_mode,
    "prompt_template": _template,
    "prompt_template_list": _template,
    "loss_use_supcon": _switch("supcon"),
    "loss_use_triplet": _switch("triplet"),
    "loss_use_center": _center,
    "loss_use_arcface": lambda converted, _, tree: _identity_terms(converted, tree),
    "loss_use_id": lambda converted, _, tree: _identity_terms(converted, tree),
    "classifier": _classifier,
    "use_composed_prompt": _composed,
    "simplified_prompt": _nothing,
    "transformer_layers": _transformer_layers,
    "bnneck_reduction": _reduction,
    "bnneck_dim": _nothing,
    "clip_init": _nothing,
    "lr": _nothing,
}
