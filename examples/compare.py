"""Run all stages over several seeds: python -m examples.compare FOLDER --out RUNS.

FOLDER holds recipes, and ``pretrain.yaml``, whose weights the other recipes start from
(``init_from``). An interrupted comparison continues where it stopped. ``python -m
examples.trainer.report RUNS`` makes its tables and figures.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

STAGES = ("zero_shot", "classifier", "joint_v1", "joint_v2", "joint_v4", "clip_reid", "prompt_sg")

# of the recipe, the folder of its run, changes to the recipe, and the images
Command = Callable[[Path, Path, list[str], str | None], list[str]]


def main(arguments: list[str] | None = None) -> int:
    """Run all recipes that have no results yet; the first run that fails ends the comparison."""
    parser = argparse.ArgumentParser(prog="python -m examples.compare", description=__doc__)
    parser.add_argument("folder", type=Path, help="such as examples/recipes/quickstart")
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--data", help="passed on to the trainer")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--stages", nargs="+", default=list(STAGES), metavar="STAGE")
    options = parser.parse_args(arguments)

    finished = run_stages(
        options.folder, options.out, options.seeds, options.stages, data=options.data
    )
    return 0 if finished else 1


def run_stages(
    folder: Path,
    out: Path,
    seeds: Sequence[int],
    stages: Sequence[str],
    *,
    data: str | None = None,
    command: Command | None = None,
) -> bool:
    """Run all recipes that have no results yet.

    Args:
        folder: Folder of the recipes.
        out: Folder of all runs.
        seeds: Seeds to run each stage with.
        stages: Names of the recipes, beside ``pretrain``.
        data: Value for ``data.root``.
        command: Makes the command that runs or resumes one recipe; defaults to
            :func:`trainer_command`.

    Returns:
        Whether all runs ended well; the first that fails ends the comparison.
    """
    for seed in seeds:
        pretrained = out / f"pretrain-{seed}"
        # with another seed the generated set is another, so the first weights have seen no test
        # identity
        changes = {"pretrain": [f"seed={1000 + seed}"]}
        for stage in stages:
            changes[stage] = [f"seed={seed}", f"init_from={pretrained}"]

        for stage, stage_changes in changes.items():
            run = out / f"{stage}-{seed}"
            if (run / "results.json").is_file():
                continue

            print(f"{stage}, seed {seed}", flush=True)
            make_command = command or trainer_command
            line = make_command(folder / f"{stage}.yaml", run, stage_changes, data)
            if subprocess.run(line, check=False).returncode != 0:  # noqa: S603 (this Python)
                return False
    return True


def trainer_command(recipe: Path, out: Path, changes: list[str], data: str | None) -> list[str]:
    """The command that runs or resumes one recipe."""
    command = [sys.executable, "-m", "examples.trainer", str(recipe), "--out", str(out)]
    for change in changes:
        command += ["--set", change]
    if data:
        command += ["--data", data]
    if (out / "recipe.json").is_file():
        command.append("--resume")
    return command


if __name__ == "__main__":
    sys.exit(main())
