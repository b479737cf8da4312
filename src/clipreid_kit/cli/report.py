"""``clipreid report``: gather runs into tables and figures."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from clipreid_kit.cli._recipe_names import recipes_folder


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of runs, or folders that hold runs at any depth.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("report"),
    published: Annotated[
        str | None,
        typer.Option(help="Published figures beside runs of their names: papers, or a CSV file."),
    ] = None,
    errors: Annotated[
        bool, typer.Option("--errors", help="Also a page of each run's hardest errors.")
    ] = False,
    max_errors: Annotated[int, typer.Option(min=1, help="Errors on a page.")] = 100,
    maps: Annotated[
        bool, typer.Option("--map", help="Also a map of each run's embeddings, as page and PNG.")
    ] = False,
    method: Annotated[
        Literal["tsne", "umap", "pca"],
        typer.Option(help="Of a map: umap where umap-learn is installed."),
    ] = "tsne",
    max_images: Annotated[int, typer.Option(min=4, help="Images on a map.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of a map.")] = 0,
) -> None:
    """Gather runs into tables and figures, and print the tables.

    --errors and --map need embeddings: clipreid evaluate RUN --features.

    \b
    Examples:
      clipreid report runs --out tables
      clipreid report runs/papers --published papers
      clipreid report runs/photos --errors --map
    """
    from clipreid_kit.reports import gather_runs, write_error_pages, write_map_pages

    table = None if published is None else _table_of(published)
    print(gather_runs(runs, out, published=table), end="")

    if errors:
        for page in write_error_pages(runs, out, max_errors=max_errors):
            print(f"errors: {page}")
    if maps:
        written = write_map_pages(runs, out, method=method, max_images=max_images, seed=seed)
        for page in written:
            print(f"map: {page}")


def _table_of(name: str) -> Path:
    """A file, or that of a folder of recipes."""
    beside_recipes = recipes_folder() / name / "published.csv"
    return beside_recipes if beside_recipes.is_file() else Path(name)
