"""``python -m examples.trainer RECIPE --out FOLDER``: run one recipe."""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

import clipreid_kit
from clipreid_kit.clip import ClipTowers
from examples.report.run_report import write_run_report
from examples.trainer.checkpoint import Checkpoints, write_json
from examples.trainer.config import Recipe
from examples.trainer.data import TEST, load_records
from examples.trainer.evaluation import Evaluation, evaluate
from examples.trainer.joint import prepare_joint, train_joint
from examples.trainer.recipe import load_recipe


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run, and turn an expected error into one line."""
    parser = argparse.ArgumentParser(prog="python -m examples.trainer", description=__doc__)
    parser.add_argument("recipe", type=Path, help="a YAML file, such as examples/recipes/quickstart.yaml")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; new, or the one to resume")
    parser.add_argument("--data", type=str, help="folder, CSV or zip file with the images (data.root)")
    parser.add_argument("--resume", action="store_true", help="go on after the last completed epoch")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a line of the recipe")
    options = parser.parse_args(arguments)
    try:
        recipe = load_recipe(options.recipe, options.set)
        if options.data is not None:
            recipe.data.root = options.data
        run(recipe, options.out, resume=options.resume)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted: go on with --resume --out {options.out}", file=sys.stderr)
        return 130
    return 0


def run(recipe: Recipe, out: Path, *, resume: bool = False) -> None:
    """Run a recipe: data, evaluation before, training, evaluation after, report."""
    accelerator = Accelerator(mixed_precision=None if recipe.precision == "no" else recipe.precision)
    if int(os.environ.get("WORLD_SIZE", "1")) > accelerator.num_processes:
        raise ValueError(
            f"expected {os.environ['WORLD_SIZE']} processes that know each other, got each on its own. "
            "Start them with `accelerate launch`, or on CPUs with ACCELERATE_USE_CPU=true torchrun."
        )
    main_process = accelerator.is_main_process
    if main_process:
        open_run(out, json.loads(json.dumps(asdict(recipe))), resume=resume)
        records = load_records(recipe, out)
    accelerator.wait_for_everyone()
    if not main_process:
        records = load_records(recipe, out, quiet=True)
    model = recipe.model
    towers = ClipTowers.from_open_clip(model.name, model.pretrained, image_size=model.image_size, seed=recipe.seed)
    towers.image_mean = model.image_mean or towers.image_mean
    towers.image_std = model.image_std or towers.image_std
    towers.to(accelerator.device)
    joint = prepare_joint(recipe, towers, records, accelerator) if recipe.stage == "joint" else None

    before = evaluate(recipe, towers, records, TEST) if main_process else None
    if joint is not None:
        # a run that was killed before its first epoch was complete starts anew
        resumable = resume and (out / "checkpoints" / "index.json").is_file()
        train_joint(recipe, towers, records, joint, out, accelerator, resume=resumable)
    if before is None:
        return
    results: dict[str, Any] = {"before": before.numbers()}
    after: Evaluation | None = None
    if joint is not None:
        after = evaluate(recipe, Checkpoints(out).load_best().to(accelerator.device), records, TEST)
        results["after"] = after.numbers()
    write_json(out / "results.json", results)
    write_run_report(out, recipe, before, after)
    print(table(results))
    print(f"report: {out / 'report.html'}")


def open_run(out: Path, resolved: dict[str, Any], *, resume: bool) -> None:
    """Make the run's folder with its recipe and environment, or check that the one to resume has the same recipe.

    A run that ended before it had anything to show (a mistake in its data, say) may be started again over itself.
    """
    kept = out / "recipe.json"
    shows = (out / "checkpoints" / "index.json").is_file() or (out / "results.json").is_file()
    if shows and not resume:
        raise ValueError(f"{out}: expected a new folder, got one with a run. Give --resume, or another --out.")
    if shows:
        other = json.loads(kept.read_text(encoding="utf-8"))
        changed = [key for key in resolved if resolved[key] != other.get(key)]
        if changed:
            raise ValueError(
                f"{out}: expected the recipe of the run to resume, got another one ({', '.join(changed)} differ). "
                f"See {kept}."
            )
        return
    foreign = [p.name for p in out.iterdir() if not p.name.startswith(".")] if out.is_dir() else []
    if foreign and not kept.is_file():
        raise ValueError(f"{out}: expected a new or empty folder, got one with other files. Give another --out.")
    out.mkdir(parents=True, exist_ok=True)
    if kept.is_file() and json.loads(kept.read_text(encoding="utf-8"))["data"] != resolved["data"]:
        shutil.rmtree(out / "data", ignore_errors=True)  # generated for the recipe that failed
    write_json(kept, resolved)
    environment = {
        "clipreid_kit": clipreid_kit.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "revision": revision(),
    }
    write_json(out / "environment.json", environment)


def revision() -> str | None:
    """Git revision of this trainer, where there is one."""
    folder = Path(__file__).parent
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S607
    except OSError:  # no git on this machine
        return None
    return found.stdout.strip() or None


def table(results: dict[str, Any]) -> str:
    """Before and after, in percent, one line a task."""
    columns = {"rank_1": "Rank-1", "rank_5": "Rank-5", "rank_10": "Rank-10", "mean_ap": "mAP", "mean_inp": "mINP"}
    lines = [f"{'':24}" + "".join(f"{title:>9}" for title in columns.values())]
    for task in results["before"]:
        for moment in results:
            cells = "".join(f"{100 * results[moment][task][key]:9.1f}" for key in columns)
            lines.append(f"{task.replace('_', ' ') + ', ' + moment:24}{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
