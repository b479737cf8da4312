"""``clipreid compare``: train all stages over several seeds, and gather their figures."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from clipreid_kit.cli._recipe_names import recipes_folder
from clipreid_kit.cli._trainer import trainer_module


def compare(
    folder: Annotated[
        str, typer.Argument(help="Folder of recipes with a pretrain.yaml, by name or path.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of all runs.")],
    data: Annotated[str | None, typer.Option(help="The images (data.root).")] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Repeatable. Default: 0, 1 and 2.")
    ] = None,
    stages: Annotated[
        list[str] | None, typer.Option("--stage", help="Repeatable. Default: all of the folder.")
    ] = None,
) -> None:
    """Train all stages over several seeds, and compare them.

    All start from the same weights; tables and figures go to OUT/report.

    A comparison that was interrupted continues where it stopped. Published figures are laid beside
    runs of their names by `clipreid report RUNS --published papers`.

    Example: clipreid compare quickstart --out runs/stages --seed 0 --stage clip_reid
    """
    from clipreid_kit.reports import gather_runs

    compared = trainer_module("compare")
    finished = compared.run_stages(
        _folder_of(folder),
        out,
        seeds or [0, 1, 2],
        stages or compared.STAGES,
        data=data,
        command=train_command,
    )
    if not finished:
        raise typer.Exit(1)

    print(gather_runs([out], out / "report"), end="")


def train_command(recipe: Path, run: Path, changes: list[str], data: str | None) -> list[str]:
    """The command that runs or resumes one recipe."""
    command = [sys.executable, "-m", "clipreid_kit", "train"]
    if (run / "recipe.json").is_file():
        return [*command, "--resume", str(run)]

    command += [str(recipe), "--out", str(run)]
    for change in changes:
        command += ["--set", change]
    if data:
        command += ["--data", data]
    return command


def _folder_of(name: str) -> Path:
    """A folder of recipes, by its path or its name."""
    for folder in (Path(name), recipes_folder() / name):
        if (folder / "pretrain.yaml").is_file():
            return folder
    raise ValueError(f"compare: there is no pretrain.yaml in {name}; quickstart has one.")
