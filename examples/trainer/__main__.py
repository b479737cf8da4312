"""``python -m examples.trainer RECIPE --out FOLDER``: run one recipe."""

import argparse
import json
import os
import sys
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list
from torch import nn

from clipreid_kit.clip import read_card, warm_start
from clipreid_kit.data import ImageSpec
from examples.report import (
    Evaluation,
    open_run,
    table,
    write_history,
    write_json,
    write_predictions,
    write_run_report,
)
from examples.settings.config import Recipe
from examples.settings.recipe import load_recipe
from examples.settings.rules import check
from examples.settings.smoke import smoke
from examples.trainer.data import load_records, tests_of
from examples.trainer.evaluation import Encoder, evaluate
from examples.trainer.pictures import image_spec
from examples.trainer.stages import Session, make_towers, numbers_of, train


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run, and turn an expected error into one line."""
    parser = argparse.ArgumentParser(prog="python -m examples.trainer", description=__doc__)
    add = parser.add_argument
    add(
        "recipe",
        type=Path,
        help="a YAML file, such as examples/recipes/quickstart/joint.yaml, or JSON",
    )
    add(
        "--out",
        type=Path,
        help="folder of the run, new or to resume; runs/<recipe>/<time> if left out",
    )
    add("--data", type=str, help="folder, table or zip file with the images (data.root)")
    add("--resume", action="store_true", help="go on after the last completed epoch")
    add(
        "--smoke", action="store_true", help="small towers, two epochs: does the recipe run at all?"
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a line of the recipe",
    )
    options = parser.parse_args(arguments)
    named = Path("runs") / f"{options.recipe.parent.name}-{options.recipe.stem}"
    out = options.out or named / datetime.now(timezone.utc).strftime("%Y-%m-%dT%H-%M-%S")
    try:
        if options.resume and options.out is None:
            raise ValueError("--resume: expected --out with the folder of the run, got none.")
        recipe = load_recipe(options.recipe, options.set)
        if options.data is not None:
            recipe.data.root = options.data
            check(recipe, "--data")
        run(smoke(recipe) if options.smoke else recipe, out, resume=options.resume)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        print(
            f"error: {reason} Lower model.image_size, batch or evaluate.batch_size.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted: go on with --resume --out {out}", file=sys.stderr)
        return 130
    return 0


def run(recipe: Recipe, out: Path, *, resume: bool = False) -> None:
    """Run a recipe: data, evaluation before, training, evaluation of the best epoch, report."""
    torch.manual_seed(recipe.seed)  # heads and dropout
    track, trains = recipe.track, recipe.stage != "zero_shot"
    trackers = [
        name for name, on in (("tensorboard", track.tensorboard), ("wandb", track.wandb)) if on
    ]
    for name in trackers:  # accelerate goes on without one that is not installed
        if find_spec(name) is None:
            raise ValueError(
                f"track.{name}: expected the package {name}, got none. Install it: pip install {name}."
            )
    accelerator = Accelerator(
        mixed_precision=recipe.precision,  # none would be taken from the environment
        cpu=recipe.device == "cpu",
        log_with=trackers or None,
        project_dir=out,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=timedelta(hours=12))
        ],  # the others wait for an evaluation
    )
    if int(os.environ.get("WORLD_SIZE", "1")) > accelerator.num_processes:
        raise ValueError(
            f"expected {os.environ['WORLD_SIZE']} processes that know each other, got each on its own. "
            "Start them with `accelerate launch`, or on CPUs with ACCELERATE_USE_CPU=true torchrun."
        )
    if (
        recipe.precision == "fp16" and accelerator.device.type == "cpu"
    ):  # accelerate would compute in float32
        raise ValueError("precision: expected a GPU for fp16, got a CPU. Use bf16 or no.")
    main_process = accelerator.is_main_process
    out = Path(broadcast_object_list([str(out)])[0])  # its name may be the time, which differs
    settings: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    if main_process:
        open_run(out, settings, resume=resume)
        records, found = load_records(recipe, out)
    accelerator.wait_for_everyone()
    if not main_process:
        records, found = load_records(recipe, out, quiet=True)
    if trackers:
        wandb = {"entity": track.wandb_entity, "dir": str(out)}
        accelerator.init_trackers(track.wandb or "tensorboard", init_kwargs={"wandb": wandb})
    numbers = numbers_of(recipe, records)
    tests = tests_of(recipe, records)
    towers = make_towers(recipe, numbers).to(accelerator.device)
    if recipe.init_from is not None:
        trained = None if trains else read_card(recipe.init_from).get("image_spec")
        if trained:  # with other pictures than in training the numbers would be others
            ImageSpec.from_dict(trained).check_same(image_spec(recipe, towers))
        report = warm_start(towers, recipe.init_from)
        if main_process and not trains:  # others report what is beside the towers, too
            write_json(out / "init_from.json", {"from": recipe.init_from, **asdict(report)})

    def test(method: nn.Module) -> Evaluation | None:
        return evaluate(recipe, Encoder(recipe, method, numbers), tests) if main_process else None

    before, after = test(towers), None
    if trains:  # a run that was killed before its first epoch was complete starts anew
        after = test(
            train(Session(recipe, out, accelerator, records, towers, numbers), resume=resume)
        )
    accelerator.end_training()
    if before is None:
        return
    moments = {"before": before, "after": after}
    results: dict[str, Any] = {
        k: v.numbers(recipe.evaluate.k_values) for k, v in moments.items() if v is not None
    }
    if recipe.evaluate.predictions:
        write_predictions(
            out, after or before, recipe.evaluate.predictions, recipe.evaluate.distance
        )
    write_history(out, results | ({"data": found} if found else {}))
    write_run_report(
        out,
        title=f"{out.name}: {recipe.stage}",
        note=recipe.note,
        settings=settings,
        before=before,
        after=after,
        validation_task=recipe.evaluate.task,
    )
    if track.console != "nothing":
        print(table(results))
        print(f"report: {out / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
