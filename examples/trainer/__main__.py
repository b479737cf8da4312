"""``python -m examples.trainer RECIPE --out FOLDER``: run one recipe."""

import argparse
import json
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import clipreid_kit
from clipreid_kit.clip import ClipTowers
from examples.trainer.checkpoint import Checkpoints, write_json
from examples.trainer.config import Recipe
from examples.trainer.data import TEST, load_records
from examples.trainer.evaluation import Evaluation, evaluate
from examples.trainer.joint import train_joint
from examples.trainer.recipe import load_recipe
from examples.trainer.report import write_run_report


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
    resolved = json.loads(json.dumps(asdict(recipe)))
    open_run(out, resolved, resume=resume)
    records = load_records(recipe, out)
    towers = ClipTowers.from_open_clip(
        recipe.model.name, recipe.model.pretrained, image_size=recipe.model.image_size, seed=recipe.seed
    )
    before = evaluate(recipe, towers, records, TEST)
    results: dict[str, Any] = {"before": before.numbers()}
    after: Evaluation | None = None
    if recipe.stage == "joint":
        # a run that was killed before its first epoch was complete starts anew
        resumable = resume and (out / "checkpoints" / "index.json").is_file()
        train_joint(recipe, towers, records, out, resume=resumable)
        after = evaluate(recipe, Checkpoints(out).load_best(), records, TEST)
        results["after"] = after.numbers()
    write_json(out / "results.json", results)
    write_run_report(out, recipe, before, after)
    print(table(results))
    print(f"report: {out / 'report.html'}")


def open_run(out: Path, resolved: dict[str, Any], *, resume: bool) -> None:
    """Make the run's folder with its recipe and environment, or check that the one to resume has the same recipe."""
    kept = out / "recipe.json"
    if kept.is_file():
        if not resume:
            raise ValueError(f"{out}: expected a new folder, got one with a run. Give --resume, or another --out.")
        if json.loads(kept.read_text(encoding="utf-8")) != resolved:
            raise ValueError(f"{out}: expected the recipe of the run to resume, got another one. See {kept}.")
        return
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out}: expected a new or empty folder, got one with other files. Give another --out.")
    out.mkdir(parents=True, exist_ok=True)
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    environment = {
        "clipreid_kit": clipreid_kit.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "revision": revision.stdout.strip() or None,
    }
    write_json(out / "environment.json", environment)
    write_json(kept, resolved)


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
