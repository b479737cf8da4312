"""``clipreid evaluate``: evaluate a run, one of its checkpoints, or a file of features."""

from pathlib import Path
from typing import Annotated

import typer

from clipreid_kit.cli._trainer import trainer_function

PASS_ON = {"ignore_unknown_options": True}


def evaluate(
    source: Annotated[
        Path, typer.Argument(help="A run, one of its checkpoints, or features (.npz).")
    ],
    of_features: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OPTIONS", help="Of features: those of clipreid-evaluate.", show_default=False
        ),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Of a run: best (default), last, or epoch-0003.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Of a run: other images (data.root).")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Of a run: such as evaluate.rerank=true."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Of a run: new folder. Default: RUN/evaluations/TIME.")
    ] = None,
    features: Annotated[
        bool, typer.Option("--features", help="Of a run: also write features.npz.")
    ] = False,
    plugin: Annotated[Path | None, typer.Option(help="Of a run: its plugin.")] = None,
) -> None:
    """Evaluate a run as it was trained, or the features of any model.

    For features, the options are those of `clipreid-evaluate --help`, such as --protocol.

    \b
    Examples:
      clipreid evaluate runs/photos --set evaluate.rerank=true
      clipreid evaluate features.npz --protocol market1501 --json result.json
    """
    if not source.exists():
        raise ValueError(
            f"evaluate: there is no {source}. Pass the folder of a run, one of its checkpoints, or "
            "features (.npz)."
        )

    of_run = (checkpoint, data, changes, out, features, plugin)
    if source.is_dir() and not (source / "columns.npz").is_file():  # of `clipreid embed`
        if of_features:
            raise typer.TyperException(
                f"{of_features[0]} is an option for a file of features, and {source} is a run. "
                "Leave it out."
            )

        more = ["evaluate.features=true"] if features else []
        trainer_function("trainer.evaluate", "evaluate_run")(
            source,
            checkpoint or "best",
            [*(changes or []), *more],
            data=data,
            out=out,
            plugin=plugin,
        )
        return

    if any(of_run):
        raise typer.TyperException(
            f"{source} is not a folder, so it is read as a file of features. Leave out the "
            "options of a run."
        )
    from clipreid_kit.evaluate import main

    status = main([str(source), *(of_features or [])])
    if status:
        raise typer.Exit(status)
