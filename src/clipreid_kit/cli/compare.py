"""``clipreid compare``: the stages of a folder over several seeds, or runs with a publication."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from clipreid_kit.cli._recipe_names import recipes_folder
from clipreid_kit.cli._trainer import trainer_module
from clipreid_kit.cli.report import report


def compare(
    folders: Annotated[
        list[str],
        typer.Argument(help="A folder of recipes with a pretrain.yaml; with --published, of runs."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of all runs; with --published, of tables.")],
    data: Annotated[str | None, typer.Option(help="The images (data.root).")] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Repeatable. Default: 0, 1 and 2.")
    ] = None,
    stages: Annotated[
        list[str] | None, typer.Option("--stage", help="Repeatable. Default: all of the folder.")
    ] = None,
    published: Annotated[
        str | None,
        typer.Option(help="Compare runs with published figures instead: papers, or a CSV file."),
    ] = None,
) -> None:
    """Train all stages over several seeds, and compare them; or compare runs with a publication.

    All start from the same weights; tables and figures go to OUT/report. A comparison that was
    interrupted continues where it stopped.

    \b
    Examples:
      clipreid compare quickstart --out runs/stages --seed 0 --stage clip_reid
      clipreid compare runs/papers --published papers --out tables
    """
    if published is not None:
        report([Path(folder) for folder in folders], out, published)
        return
    if len(folders) > 1:
        raise typer.BadParameter("pass one folder of recipes, or --published and folders of runs")

    from clipreid_kit.reports import gather_runs

    compared = trainer_module("compare")
    finished = compared.run_stages(
        _folder_of(folders[0]),
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
