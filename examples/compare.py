"""``python -m examples.compare FOLDER --out RUNS``: every stage of a folder of recipes, over several seeds.

The folder holds ``pretrain.yaml``, whose weights the others begin with (``init_from``). A comparison that was cut off
goes on where it stopped; ``python -m examples.trainer.report RUNS`` makes its tables and pictures.
"""

import argparse
import subprocess
import sys
from pathlib import Path

STAGES = ("zero_shot", "classifier", "joint_v1", "joint_v2", "joint_v4", "clip_reid", "prompt_sg")


def main(arguments: list[str] | None = None) -> int:
    """Run what has no results yet; the first run that fails ends the comparison."""
    parser = argparse.ArgumentParser(prog="python -m examples.compare", description=__doc__)
    parser.add_argument("folder", type=Path, help="such as examples/recipes/quickstart")
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--data", help="passed on to the trainer")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--stages", nargs="+", default=list(STAGES), metavar="STAGE")
    options = parser.parse_args(arguments)
    for seed in options.seeds:
        first = options.out / f"pretrain-{seed}"
        # a generated set is another one with another seed, so the weights to begin with know none of its identities
        runs = [("pretrain", first, ["--set", f"seed={1000 + seed}"])]
        begin = ["--set", f"seed={seed}", "--set", f"init_from={first}"]
        runs += [(stage, options.out / f"{stage}-{seed}", begin) for stage in options.stages]
        for stage, out, changes in runs:
            if (out / "results.json").is_file():
                continue
            command = [
                sys.executable,
                "-m",
                "examples.trainer",
                str(options.folder / f"{stage}.yaml"),
                "--out",
                str(out),
            ]
            command += [*changes, *(["--data", options.data] if options.data else [])]
            command += ["--resume"] if (out / "recipe.json").is_file() else []
            print(f"{stage}, seed {seed}", flush=True)
            if subprocess.run(command, check=False).returncode:  # noqa: S603 (this Python, and what was given)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
