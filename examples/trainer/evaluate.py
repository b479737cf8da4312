"""``python -m examples.trainer.evaluate RUN``: evaluate a finished run or checkpoint as it is.

The method is built again from the recipe of its run, loaded whole, and evaluated as at the end of
the run, on the same images or on others. Nothing is trained.
"""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from clipreid_kit.clip import ClipTowers, find_checkpoint, load_towers, read_card, warm_start
from clipreid_kit.data import CategoryIndex
from clipreid_kit.reports import (
    Evaluation,
    open_run,
    read_object,
    results_table,
    write_features,
    write_json,
    write_predictions,
    write_result_file,
)
from examples.settings.base_recipes import Recipe, TrainingRecipe
from examples.settings.recipe import recipe_of
from examples.trainer.assemble import training_images
from examples.trainer.checkpoints import find_run
from examples.trainer.evaluation import evaluate, scoring_of
from examples.trainer.plugin import NO_PLUGIN, Plugin, check_plugin, load_plugin
from examples.trainer.records import Records, arrange_tests, load_records
from examples.trainer.session import Session, categories_of, encoding_of, make_towers
from examples.trainer.threads import threads_of_torch

# what may be other than in training
_CHANGEABLE = (
    "evaluate.",
    "data.",
    "track.",
    "device",
    "threads",
    "deterministic",
    "prompt.test_mode",
)


@dataclass(frozen=True)
class Trained:
    """A run, one of its checkpoints, and the recipe that it is evaluated by.

    Attributes:
        run: Folder of the run.
        checkpoint: Folder of the checkpoint; ``None`` if the run has trained nothing.
        recipe: The run's recipe, with changes to the evaluation.
        card: What the checkpoint's card says; of an earlier version empty for frozen towers.
    """

    run: Path
    checkpoint: Path | None
    recipe: Recipe
    card: Mapping[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Evaluate, and print the results; an expected error becomes one line."""
    options = _parser().parse_args(arguments)
    changes = [*options.set, *(["evaluate.features=true"] if options.features else [])]

    try:
        evaluate_run(
            options.run,
            options.checkpoint,
            changes,
            data=options.data,
            out=options.out,
            plugin=options.plugin,
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def evaluate_run(
    source: Path,
    checkpoint: str = "best",
    changes: Sequence[str] = (),
    *,
    data: str | None = None,
    out: Path | None = None,
    plugin: Path | None = None,
) -> None:
    """Evaluate a run as it is, write the results, and print them.

    Args:
        source: A run, or a single checkpoint of it.
        checkpoint: Of a run: ``best``, ``last``, or a name such as ``epoch-0003``.
        changes: ``section.key=value`` lines about the evaluation.
        data: Value for ``data.root``.
        out: New folder for the results; defaults to one in the run, with the time as its name.
        plugin: The plugin of the run.

    Raises:
        ValueError: As :func:`open_trained` and :func:`evaluate_trained`.
    """
    own = load_plugin(plugin) if plugin else NO_PLUGIN
    trained = open_trained(source, checkpoint, changes, data)
    folder = out or _default_folder(trained.run)
    print(results_table(evaluate_trained(trained, folder, own)))
    print(f"written to {folder}")


def open_trained(
    source: Path, checkpoint: str = "best", changes: Sequence[str] = (), data: str | None = None
) -> Trained:
    """Find a run and its checkpoint, and read its recipe.

    Args:
        source: A run, or a single checkpoint of it.
        checkpoint: Of a run: ``best``, ``last``, or a name such as ``epoch-0003``.
        changes: ``section.key=value`` lines about the evaluation.
        data: Value for ``data.root``.

    Raises:
        ValueError: If there is no such run or checkpoint, it did not get as far as a checkpoint, or
            a change is about training.
    """
    for change in changes:
        if not change.strip().startswith(_CHANGEABLE):
            raise ValueError(
                f"--set {change}: the method is evaluated as it was trained; only the keys of "
                "evaluate, data and track, device, threads, deterministic and prompt.test_mode can "
                "change."
            )

    run = find_run(source)
    recipe = recipe_of(read_object(run / "recipe.json"), changes, data=data)

    folder = find_checkpoint(source, checkpoint)
    if folder is None and isinstance(recipe, TrainingRecipe):
        raise ValueError(f"{run}: this run has no checkpoint; no epoch was completed.")
    return Trained(run, folder, recipe, {} if folder is None else read_card(folder))


def evaluate_trained(
    trained: Trained,
    out: Path,
    plugin: Plugin = NO_PLUGIN,
) -> dict[str, Any]:
    """Evaluate a method of a run, and write the results into a new folder.

    Args:
        trained: The run and its checkpoint.
        out: New or empty folder: results, recipe and environment, and the predictions and features
            that the recipe asks for.
        plugin: The plugin of the run, if it had one.

    Returns:
        Numbers by moment (``after`` training, or ``before`` where nothing was trained) and task.
    """
    recipe = trained.recipe
    check_plugin(trained.run, plugin)
    records, _ = load_records(recipe, trained.run, plugin=plugin, trains=False)
    session = _session(trained, records, out, plugin)
    method = load_method(trained, session)

    settings = recipe.model_dump(mode="json")
    with open_run(out, settings, resume=False), threads_of_torch(recipe.threads):
        tests = arrange_tests(recipe, records)
        encoder = session.encoding.encoder(method)
        evaluation = evaluate(encoder, tests, scoring_of(recipe), occludes=True)

        moment = "after" if isinstance(recipe, TrainingRecipe) else "before"
        results = {moment: evaluation.numbers(recipe.evaluate.k_values)}
        _write(trained, out, evaluation, results)
    return results


def load_method(trained: Trained, session: Session) -> nn.Module:
    """The trained method, with every tensor of its checkpoint, in evaluation mode.

    Raises:
        ValueError: If the checkpoint is not of the method that the recipe describes.
    """
    recipe = trained.recipe
    stage = importlib.import_module(f"examples.trainer.stages.{recipe.stage}")
    method: nn.Module = stage.build(recipe, session, _num_identities(trained, session))
    if trained.checkpoint is not None:
        _load_whole(method, trained.checkpoint, has_towers=_has_towers(trained.checkpoint))

    if isinstance(recipe, TrainingRecipe) and recipe.model.channels_last:
        method.to(memory_format=torch.channels_last)
    return method.eval()


def _load_whole(method: nn.Module, checkpoint: Path, *, has_towers: bool) -> None:
    """Load a checkpoint, and require that all its tensors are those of the method.

    Towers that were frozen are not in it; they are already those that the run began with.
    """
    if not has_towers and not list(checkpoint.glob("heads.safetensors")):
        raise ValueError(f"{checkpoint}: there are no weights in this checkpoint.")

    own = {name: value.clone() for name, value in method.state_dict().items()}
    report = warm_start(method, checkpoint)
    missing = [name for name in report.missing if has_towers or not name.startswith("towers.")]
    misfits = [*missing, *report.unexpected, *(name for name, *_ in report.mismatched)]
    if misfits:
        method.load_state_dict(own)
        raise ValueError(
            f"{checkpoint}: the checkpoint is not of the method of its recipe: {len(misfits)} "
            f"tensors differ ({', '.join(misfits[:3])}, ...)."
        )


def _session(trained: Trained, records: Records, out: Path, plugin: Plugin) -> Session:
    """Return the settings that the stage's file builds its method with."""
    recipe = trained.recipe
    accelerator = Accelerator(mixed_precision="no", cpu=recipe.device == "cpu")
    categories = _categories(trained, records)
    towers = _towers(trained, categories).to(accelerator.device)
    encoding = encoding_of(recipe, towers, categories, quiet=recipe.track.console == "nothing")
    return Session(out, accelerator, records, towers, encoding, resume=False, plugin=plugin)


def _categories(trained: Trained, records: Records) -> list[CategoryIndex]:
    """Numbers of the cameras and views that the towers were trained with."""
    known: Mapping[Any, list[int | str]] = trained.card.get("categories", {})
    if not known:
        return categories_of(trained.recipe.model, records)
    return [CategoryIndex.of_names(names, field) for field, names in known.items()]


def _towers(trained: Trained, categories: Sequence[CategoryIndex]) -> ClipTowers:
    """The towers of the checkpoint, or those that the run began with, if they were frozen."""
    if trained.checkpoint is not None and _has_towers(trained.checkpoint):
        return load_towers(trained.checkpoint)

    recipe = trained.recipe
    towers = make_towers(recipe.model, categories, recipe.seed)
    if recipe.init_from is not None:
        warm_start(towers, recipe.init_from)
    return towers


def _has_towers(checkpoint: Path) -> bool:
    """Whether a checkpoint holds towers; it does not if they were frozen."""
    return (checkpoint / "model.safetensors").is_file()


def _num_identities(trained: Trained, session: Session) -> int:
    """Number of the identities that the method was trained on."""
    recipe = trained.recipe
    if not isinstance(recipe, TrainingRecipe):
        return 0
    if "identities" in trained.card:
        return len(trained.card["identities"]) * recipe.data.orientations

    if not any(record.split == "train" for record in session.records):
        raise ValueError(
            f"{trained.checkpoint}: the checkpoint does not say how many identities it was trained "
            "on, because its towers were frozen. Evaluate it on data with the training images."
        )
    return training_images(recipe, session).num_identities


def _write(trained: Trained, out: Path, evaluation: Evaluation, results: Mapping[str, Any]) -> None:
    """Write the results, and the predictions and features that the recipe asks for."""
    options = trained.recipe.evaluate
    write_result_file(out, evaluation, trained.recipe.model_dump(mode="json"))
    write_json(out / "results.json", results)
    write_json(
        out / "evaluated.json",
        {
            "run": str(trained.run),
            "checkpoint": None if trained.checkpoint is None else trained.checkpoint.name,
            "epoch": trained.card.get("epoch"),
        },
    )
    if options.predictions:
        write_predictions(out, evaluation, options.predictions, options.distance)
    if options.features:
        write_features(out, evaluation)


def _default_folder(run: Path) -> Path:
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H-%M-%S")
    return run / "evaluations" / now


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.trainer.evaluate", description=__doc__
    )

    parser.add_argument("run", type=Path, help="folder of a run, or of one of its checkpoints")
    parser.add_argument(
        "--checkpoint",
        default="best",
        help="of a run: best (the default), last, or a name such as epoch-0003",
    )

    parser.add_argument("--data", help="other images: folder, table or zip file (data.root)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change how it is evaluated, such as evaluate.rerank=true; may be given several times",
    )

    parser.add_argument(
        "--out",
        type=Path,
        help="new folder for the results; RUN/evaluations/<time> if left out",
    )

    parser.add_argument(
        "--features", action="store_true", help="also write the embeddings, as features.npz"
    )

    parser.add_argument("--plugin", type=Path, metavar="FILE", help="the plugin of the run")

    return parser


if __name__ == "__main__":
    raise SystemExit(main())
