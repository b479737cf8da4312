"""Run a recipe: data, evaluation, training, evaluation of the best epoch, report."""

import contextlib
import importlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list
from torch import nn

from clipreid_kit.clip import (
    ClipTowers,
    TrainingCheckpoints,
    find_checkpoint,
    read_card,
    warm_start,
)
from clipreid_kit.data import ImageSpec
from clipreid_kit.reports import (
    Evaluation,
    holds_run,
    open_run,
    results_table,
    verdict,
    write_features,
    write_history,
    write_json,
    write_predictions,
    write_result_file,
    write_run_report,
)
from examples.settings.base_recipes import Recipe, TrainingRecipe
from examples.settings.track import Track
from examples.trainer.assemble import check_negatives
from examples.trainer.checkpoints import parts_beside_towers
from examples.trainer.deterministic import deterministic_algorithms
from examples.trainer.evaluation import evaluate, scoring_of
from examples.trainer.failures import one_line_errors
from examples.trainer.log import TEXT_LOG, write_text_log
from examples.trainer.memory import keep_freed_memory
from examples.trainer.plugin import NO_PLUGIN, Plugin
from examples.trainer.precision import slow_precision
from examples.trainer.records import Records, arrange_tests, load_records, records_of_sides
from examples.trainer.same_run import files_of, keep_or_check, trained_on
from examples.trainer.session import Session, categories_of, encoding_of, make_towers
from examples.trainer.threads import threads_of_torch


def run(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    checkpoint: str | None = None,
    plugin: Plugin = NO_PLUGIN,
) -> None:
    """Run a recipe.

    Args:
        recipe: What to run.
        out: Folder of the run, new or to resume.
        resume: Whether to continue the run in that folder.
        checkpoint: Kept checkpoint to go back to, such as ``epoch-0010``; later ones are deleted.
        plugin: Your own records and losses.
    """
    torch.manual_seed(recipe.seed)  # of heads and dropout
    accelerator = _accelerator(recipe, out)
    out = Path(broadcast_object_list([str(out)])[0])  # its name may be the time, which differs
    settings = recipe.model_dump(mode="json")
    if accelerator.device.type == "cpu":
        keep_freed_memory()

    with contextlib.ExitStack() as stack:
        stack.enter_context(threads_of_torch(recipe.threads))
        stack.enter_context(deterministic_algorithms(recipe.deterministic))
        if accelerator.is_main_process:
            stack.enter_context(open_run(out, settings, resume=resume))
            plugin.keep(out, resume=resume)
            if checkpoint is not None:
                TrainingCheckpoints(out / "checkpoints").rewind(checkpoint)
        stack.enter_context(one_line_errors(out, accelerator.process_index))
        _run_locked(recipe, out, settings, accelerator, resume=resume, plugin=plugin)


def _run_locked(
    recipe: Recipe,
    out: Path,
    settings: dict[str, Any],
    accelerator: Accelerator,
    *,
    resume: bool,
    plugin: Plugin,
) -> None:
    """Run a recipe in a folder that the main process has locked."""
    if isinstance(recipe, TrainingRecipe):
        check_negatives(recipe, accelerator.num_processes)
    records, found = _records(recipe, out, accelerator, plugin)
    if accelerator.is_main_process:
        trains = isinstance(recipe, TrainingRecipe)
        num_processes = accelerator.num_processes if trains else 1
        facts = trained_on(records, num_processes, files_of(recipe.data))
        keep_or_check(out, facts, resumes=holds_run(out))

    _start_trackers(recipe.track, out, accelerator)
    session = _session(recipe, out, accelerator, records, resume=resume, plugin=plugin)
    if accelerator.is_main_process:
        _write_heading(recipe, session)

    if accelerator.is_main_process and recipe.track.console == "epochs":
        print(f"run: {out}")

    slow = slow_precision(accelerator.mixed_precision, accelerator.device)
    if slow is not None:
        _tell(recipe, session, slow)

    before = _evaluate(recipe, session.towers, session, moment="before")
    method = _stage(recipe)(recipe, session)
    after = None if method is None else _evaluate(recipe, method, session, moment="after")
    accelerator.end_training()

    if before is not None:
        _report(recipe, out, settings, before, after, found)


def _accelerator(recipe: Recipe, out: Path) -> Accelerator:
    """Devices, precision, processes and trackers of a run."""
    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: cuda needs a GPU, and torch finds none; use auto or cpu.")
    for name in _trackers(recipe.track):  # accelerate ignores one that is not installed
        if find_spec(name) is None:
            wanted = "'clipreid_kit[tensorboard]'" if name == "tensorboard" else name
            raise ValueError(f"track.{name}: {name} is not installed; `pip install {wanted}`.")

    precision = recipe.precision if isinstance(recipe, TrainingRecipe) else "no"
    accelerator = Accelerator(
        mixed_precision=precision,  # None would be taken from the environment
        cpu=recipe.device == "cpu",
        log_with=_trackers(recipe.track) or None,
        project_dir=out,
        # The other processes wait while one evaluates.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=12))],
    )

    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > accelerator.num_processes:
        raise ValueError(
            f"WORLD_SIZE is {world_size} but no process group is initialised; start with "
            "`accelerate launch`, or on CPUs with ACCELERATE_USE_CPU=true torchrun."
        )
    if precision == "fp16" and accelerator.device.type == "cpu":
        raise ValueError("precision: fp16 needs a GPU; use bf16 or no.")
    return accelerator


def _trackers(track: Track) -> list[str]:
    trackers = []
    if track.tensorboard is True or (track.tensorboard and find_spec("tensorboard")):
        trackers.append("tensorboard")
    if track.wandb:
        trackers.append("wandb")
    return trackers


def _start_trackers(track: Track, out: Path, accelerator: Accelerator) -> None:
    if _trackers(track):
        options = {"wandb": {"entity": track.wandb_entity, "dir": str(out)}}
        accelerator.init_trackers(track.wandb or "tensorboard", init_kwargs=options)


def _records(
    recipe: Recipe, out: Path, accelerator: Accelerator, plugin: Plugin
) -> tuple[Records, dict[str, int]]:
    """The records, read by the main process first: it may have to generate the images."""
    with accelerator.main_process_first():
        return load_records(recipe, out, quiet=not accelerator.is_main_process, plugin=plugin)


def _session(
    recipe: Recipe,
    out: Path,
    accelerator: Accelerator,
    records: Records,
    *,
    resume: bool,
    plugin: Plugin = NO_PLUGIN,
) -> Session:
    """The towers, with the weights that a run begins with, and all else that a stage works with."""
    categories = categories_of(recipe.model, records)
    towers = make_towers(recipe.model, categories, recipe.seed).to(accelerator.device)
    encoding = encoding_of(recipe, towers, categories, quiet=not accelerator.is_main_process)
    session = Session(out, accelerator, records, towers, encoding, resume, plugin)
    if recipe.init_from is not None:
        _start_from(recipe.init_from, recipe, session)
    return session


def _start_from(source: str, recipe: Recipe, session: Session) -> None:
    """Load the towers of an earlier run; a stage that trains loads the rest of its method later."""
    trains = isinstance(recipe, TrainingRecipe)
    if not trains:
        _check_bare_towers(source, recipe, session)
        trained = read_card(source).get("image_spec")
        if trained:  # images of another size or normalisation would give other numbers
            ImageSpec.from_dict(trained).check_same(session.encoding.spec)

    report = warm_start(session.towers, source)
    if session.accelerator.is_main_process and not trains:
        write_json(session.out / "init_from.json", {"from": source, **asdict(report)})


def _check_bare_towers(source: str, recipe: Recipe, session: Session) -> None:
    """Refuse to evaluate the towers of a method that has more, unless the recipe asks for them.

    Raises:
        ValueError: With the command that evaluates the method whole.
    """
    checkpoint = find_checkpoint(Path(source))
    parts = [] if checkpoint is None else parts_beside_towers(checkpoint)
    if not parts:
        return

    if not recipe.evaluate.towers_only:
        raise ValueError(
            f"init_from: the method in {source} has more than towers ({', '.join(parts)}), and "
            "stage: zero_shot evaluates towers alone. Evaluate it whole by "
            f"`clipreid evaluate {source}`, or set evaluate.towers_only to true."
        )
    _tell(recipe, session, f"evaluate.towers_only: {source} without {', '.join(parts)}")


def _write_heading(recipe: Recipe, session: Session) -> None:
    """Begin the text log with what is run."""
    splits = Counter(str(record.split) for record in session.records)
    images = ", ".join(f"{name} {count}" for name, count in splits.items())
    lines = [
        f"stage {recipe.stage}, model {recipe.model.name}, seed {recipe.seed}: {recipe.note}",
        f"images of {recipe.data.source}: {images}",
    ]
    if session.resume:
        lines.append("resumed")
    write_text_log(session.out / TEXT_LOG, "\n".join(lines))


def _tell(recipe: Recipe, session: Session, line: str) -> None:
    """Write a line to the text log and, unless nothing is to be printed, to the console."""
    if session.accelerator.is_main_process:
        write_text_log(session.out / TEXT_LOG, line)
        if recipe.track.console != "nothing":
            print(line)


def _stage(recipe: Recipe) -> Callable[[Recipe, Session], nn.Module | None]:
    """The ``train`` of the file that has the stage's name."""
    module = importlib.import_module(f"examples.trainer.stages.{recipe.stage}")
    train: Callable[[Recipe, Session], nn.Module | None] = module.train
    return train


def _evaluate(
    recipe: Recipe, method: nn.Module | ClipTowers, session: Session, *, moment: str
) -> Evaluation | None:
    """Evaluate on the test identities, in the main process, and say so: it may take minutes."""
    if not session.accelerator.is_main_process:
        return None

    tests = arrange_tests(recipe, session.records)
    if recipe.track.console == "epochs":
        records = records_of_sides(chain.from_iterable(tests.values()))
        images = {record.path for record in records}
        when = f" {moment} training" if isinstance(recipe, TrainingRecipe) else ""
        print(f"evaluation{when}: {len(images)} images", flush=True)
    encoder = session.encoding.encoder(method)
    return evaluate(encoder, tests, scoring_of(recipe), occludes=True)


def _report(
    recipe: Recipe,
    out: Path,
    settings: dict[str, Any],
    before: Evaluation,
    after: Evaluation | None,
    found: dict[str, int],
) -> None:
    """Write results, predictions and the report, and print the table."""
    options = recipe.evaluate
    results: dict[str, Any] = {"before": before.numbers(options.k_values)}
    if after is not None:
        results["after"] = after.numbers(options.k_values)

    if options.predictions:
        write_predictions(out, after or before, options.predictions, options.distance)
    if options.features:
        write_features(out, after or before)
    write_result_file(out, after or before, settings)
    write_history(out, results | ({"data": found} if found else {}))
    write_run_report(
        out,
        title=f"{out.name}: {recipe.stage}",
        note=recipe.note,
        settings=settings,
        before=before,
        after=after,
        validation_task=options.task,
    )

    table = "\n".join(filter(None, [results_table(results), verdict(results)]))
    write_text_log(out / TEXT_LOG, table)
    if recipe.track.console != "nothing":
        print(table)
        print(f"report: {out / 'report.html'}")
