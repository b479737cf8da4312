"""``clipreid train``: run a recipe with the reference trainer."""

from pathlib import Path
from typing import Annotated

import typer

from clipreid_kit.cli._recipe_names import find_recipe
from clipreid_kit.cli._trainer import note_on_copy, trainer_module

_FAILED = 2  # status of the trainer for any error
_GO_ON = "clipreid train --resume {out}"


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(help="Name, such as own/train, or file. `clipreid recipes list` lists all."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder, table or zip file of the images (data.root).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder of the run. Default: runs/RECIPE/TIME.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a line of the recipe. Repeatable."),
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A trial: small towers, few images, two epochs.")
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Continue a run, or go back to one of its checkpoints."),
    ] = None,
    plugin: Annotated[
        Path | None, typer.Option(help="Python file with your own records or losses.")
    ] = None,
) -> None:
    """Train by a recipe, and write a report.

    The model is evaluated before and after, and the table is printed.

    \b
    Examples:
      clipreid train quickstart
      clipreid train own/train --data photos --out runs/photos
      clipreid train --resume runs/photos
    """
    note = note_on_copy(Path.cwd())
    if note is not None:
        typer.echo(note, err=True)

    if resume is not None:
        if recipe or data or out or changes or smoke:
            raise typer.TyperException("--resume RUN needs nothing else: the run has its recipe.")
        status = _resume(resume, plugin)
    elif recipe is None:
        raise typer.TyperException("name a recipe, or a run with --resume.")
    else:
        status = _start(find_recipe(recipe), changes or [], data, out, smoke=smoke, plugin=plugin)

    if status:
        raise typer.Exit(1 if status == _FAILED else status)


def _start(
    file: Path,
    changes: list[str],
    data: str | None,
    out: Path | None,
    *,
    smoke: bool,
    plugin: Path | None,
) -> int:
    trainer = trainer_module("trainer.__main__")
    status: int = trainer.launch(
        lambda: trainer.read_recipe(file, changes, data=data, small=smoke),
        out or trainer.default_folder(file),
        resume=False,
        plugin=plugin,
        go_on=_GO_ON,
    )
    return status


def _resume(source: Path, plugin: Path | None) -> int:
    trainer = trainer_module("trainer.__main__")
    run = trainer_module("trainer.checkpoints").find_run(source)
    status: int = trainer.launch(
        lambda: trainer.recipe_of_run(run),
        run,
        resume=True,
        plugin=plugin,
        go_on=_GO_ON,
        checkpoint=source.name
        if source.parent.resolve() == run.resolve() / "checkpoints"
        else None,
    )
    return status
