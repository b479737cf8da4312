"""Translate a command of the fashion pipeline into one of the trainer, and print it.

Run it as ``python -m examples.prepare.fashion_command train_clip_joint_encoders_v1.py --image_dir
data/processed/splits --image_meta data/processed/metadata/image_paths.json --model ViT-B/16 ...``:
the pipeline's command line, without ``python``.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from examples.prepare.one_line_errors import run
from examples.settings.base_recipes import TrainingRecipe
from examples.settings.recipe import load_recipe

RECIPES = Path(__file__).parents[1] / "recipes" / "fashion"

# the recipe of each script, without its model; None evaluates a checkpoint
SCRIPTS = {
    "evaluate_clip_zeroshot.py": "stage1",
    "train_clip_img_encoder_finetune.py": "stage2",
    "train_clip_joint_encoders_v1.py": "stage3_v1",
    "train_clip_joint_encoders_v2.py": "stage3_v2",
    "train_clip_joint_encoders_v3.py": "stage3_v3",
    "train_clip_joint_encoders_v4.py": "stage3_v4",
    "train_clip_joint_encoders.py": "stage3_v4",
    "eval_clip_img_encoder.py": None,
    "eval_clip_joint.py": None,
}
MODELS = {"ViT-B/16": "vit", "RN50": "rn50"}
LOSSES = {
    "infonce": {"info_nce": 1.0},
    "supcon": {"supcon_image": 1.0, "supcon_text": 1.0},
    "triplet": {"triplet": 1.0},
    "center": {"center": 5.0e-4},
    "crossentropy": {"id": 1.0},
}

# flags that become one key each
KEYS = {
    "image_meta": "data.image_meta",
    "image_paths_json": "data.image_meta",
    "prompt_json": "data.texts",
    "p": "batch.num_identities",
    "k": "batch.num_instances",
    "epochs": "optim.epochs",
    "lr": "optim.lr",
    "temperature": "loss.temperature",
    "margin": "loss.margin",
    "early_stop_patience": "evaluate.patience",
    "seed": "seed",
}
IGNORED = {"log_dir": "the logs are in the run's folder, --out"}


@dataclass
class Translation:
    """A command of the trainer as it is put together.

    Attributes:
        script: Name of the pipeline's script.
        recipe: Name of the recipe, without its model; ``None`` if a checkpoint is evaluated.
        model: ``vit`` or ``rn50``.
        run: The checkpoint to evaluate.
        images: Folder of the images, for ``--data``.
        saved: Folder that runs are saved in, each in a folder of its own, for ``--out``.
        changes: Values of ``--set`` by key.
        remarks: What has no counterpart.
    """

    script: str
    recipe: str | None
    model: str = "vit"
    run: str = ""
    images: str | None = None
    saved: str | None = None
    changes: dict[str, str] = field(default_factory=lambda: {"data.source": "fashion"})
    remarks: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The recipe's file."""
        return RECIPES / f"{self.recipe}_{self.model}.yaml"

    @property
    def name(self) -> str:
        """Name of the run's folder: of the version, or of the run that is evaluated."""
        if self.recipe is None:
            return PurePath(self.run).stem
        continued = self.recipe == "stage3_v2" and {"init_from", "model.pretrained"} & set(
            self.changes
        )
        return f"{'stage3_v3' if continued else self.recipe}_{self.model}"

    def options(self) -> list[list[str]]:
        """The options with their values."""
        options = [] if self.images is None else [["--data", self.images]]
        if self.saved is not None:
            options.append(["--out", (PurePath(self.saved) / self.name).as_posix()])
        return options

    def words(self) -> list[list[str]]:
        """The command, by lines."""
        if self.recipe is None:
            lines = [["python", "-m", "examples.trainer.evaluate", self.run]]
        else:
            recipe = Path("examples", *self.path.parts[-3:])
            lines = [["python", "-m", "examples.trainer", recipe.as_posix()]]
        return (
            lines
            + self.options()
            + [["--set", f"{key}={value}"] for key, value in self.changes.items()]
        )


def main(arguments: list[str] | None = None) -> None:
    """Print the trainer's command; what has no counterpart is a remark on standard error."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the pipeline's command line")
    options = parser.parse_args(arguments)

    translation = translate(options.command)
    for remark in translation.remarks:
        print(f"remark: {remark}", file=sys.stderr)
    print(" \\\n    ".join(shlex.join(words) for words in translation.words()))


def translate(command: list[str]) -> Translation:
    """Translate the words of a command line.

    Raises:
        ValueError: If the script or a flag is unknown, a value is missing, or the recipe with these
            values would not run.
    """
    words = command[1:] if command[:1] == ["python"] else command
    script = PurePath(words[0]).name if words else ""
    if script not in SCRIPTS:
        raise ValueError(f"fashion_command: give one of the scripts {', '.join(SCRIPTS)} first.")

    translation = Translation(script, SCRIPTS[script])
    flags = _flags(words[1:])
    for name in sorted(flags, key=["model", "model_arch"].count, reverse=True):  # the model first
        _translate_flag(translation, name, flags[name])

    if translation.recipe is None:
        if not translation.run:
            raise ValueError("fashion_command: --ckpt is missing, the run to evaluate.")
        return translation

    load_recipe(
        translation.path,
        [f"{key}={value}" for key, value in translation.changes.items()],
        data=translation.images,
    )
    return translation


def _flags(words: list[str]) -> dict[str, str]:
    flags: dict[str, str] = {}
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            raise ValueError(f"fashion_command: expected a flag such as --lr, got {word!r}.")

        found = value if equals else next(remaining, None)
        if found is None or (not equals and found.startswith("--")):
            raise ValueError(f"fashion_command: --{name} has no value.")
        flags[name] = found
    return flags


def _translate_flag(translation: Translation, name: str, value: str) -> None:
    if name in KEYS:
        translation.changes[KEYS[name]] = value
    elif name in IGNORED:
        translation.remarks.append(f"--{name} is left out: {IGNORED[name]}.")
    elif name in _SPECIAL:
        _SPECIAL[name](translation, value)
    else:
        known = sorted({*KEYS, *IGNORED, *_SPECIAL})
        raise ValueError(f"fashion_command: there is no flag --{name}; use {', '.join(known)}.")


def _model(translation: Translation, value: str) -> None:
    if value not in MODELS:
        raise ValueError(f"fashion_command: --model must be {' or '.join(MODELS)}, got {value}.")
    translation.model = MODELS[value]


def _images(translation: Translation, value: str) -> None:
    translation.images = value


def _saved(translation: Translation, value: str) -> None:
    """The folder that the pipeline adds files to; a run of the trainer needs one of its own."""
    translation.saved = value


def _meta_dir(translation: Translation, value: str) -> None:
    translation.changes["data.image_meta"] = (PurePath(value) / "image_paths.json").as_posix()


def _batch_size(translation: Translation, value: str) -> None:
    """Identities of a batch: with one image each in version 1, else with two."""
    images = 1 if translation.recipe == "stage3_v1" else 2
    if not value.isdigit() or int(value) < images:
        raise ValueError(f"fashion_command: --batch_size must be a number, got {value}.")
    translation.changes["batch.num_identities"] = str(int(value) // images)


def _loss(translation: Translation, value: str) -> None:
    """The weights of the terms, where the recipe has others."""
    parts = value.split("+")
    if sorted(parts) == ["center", "triplet"]:
        parts.append("crossentropy")  # as the pages describe this loss

    unknown = [name for name in parts if name not in LOSSES]
    if unknown:
        raise ValueError(f"fashion_command: --loss is made of {', '.join(LOSSES)}, got {value}.")

    recipe = load_recipe(translation.path)
    if not isinstance(recipe, TrainingRecipe):
        raise ValueError(f"fashion_command: {translation.script} trains nothing; leave out --loss.")
    wanted: dict[str, float] = {}
    for name in parts:
        wanted |= LOSSES[name]

    weights = recipe.loss.weights()
    for term in (*weights, *wanted):
        if wanted.get(term, 0.0) != weights.get(term, 0.0):
            translation.changes[f"loss.{term}"] = str(wanted.get(term, 0.0))


def _val_split(translation: Translation, value: str) -> None:
    """Validate on the pipeline's images, which are of training items, and not on other items."""
    if value != "val":
        raise ValueError(f"fashion_command: --val_split must be val, got {value}.")
    translation.changes |= {"data.merge_val": "false", "data.validation": "0"}


def _early_stop_metric(translation: Translation, value: str) -> None:
    if value != "val_loss":
        raise ValueError(f"fashion_command: --early_stop_metric must be val_loss, got {value}.")
    translation.changes["evaluate.metric"] = "loss"


def _resume(translation: Translation, value: str) -> None:
    """A file of the pipeline's weights, or a run of the trainer."""
    is_file = bool(PurePath(value).suffix)
    translation.changes["model.pretrained" if is_file else "init_from"] = value


def _checkpoint(translation: Translation, value: str) -> None:
    translation.run = value
    if PurePath(value).suffix:
        translation.remarks.append(f"--ckpt {value}: give the folder of the trainer's run instead.")


_SPECIAL: dict[str, Callable[[Translation, str], None]] = {
    "model": _model,
    "model_arch": _model,
    "image_dir": _images,
    "save_path": _saved,
    "store_path": _saved,
    "meta_dir": _meta_dir,
    "metadata_dir": _meta_dir,
    "metadata": _meta_dir,
    "batch_size": _batch_size,
    "loss": _loss,
    "val_split": _val_split,
    "early_stop_metric": _early_stop_metric,
    "resume_ckpt": _resume,
    "ckpt": _checkpoint,
}


if __name__ == "__main__":
    sys.exit(run(main))
