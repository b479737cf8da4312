"""``clipreid recipes``: list, show, compare and convert recipes."""

import shutil
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from clipreid_kit.cli._outputs import check_output
from clipreid_kit.cli._recipe_names import find_recipe, recipe_names, recipes_folder
from clipreid_kit.cli._trainer import trainer_function


def recipes_app() -> typer.Typer:
    """The commands below ``clipreid recipes``."""
    app = typer.Typer(
        help="List, show, compare and convert recipes. Example: clipreid recipes list papers",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    app.command("list")(list_recipes)
    app.command("show")(show_recipe)
    app.command("diff")(diff_recipes)
    app.command("convert")(convert_recipe)
    return app


def list_recipes(
    folder: Annotated[str, typer.Argument(help="Only those whose name begins so.")] = "",
) -> None:
    """List the recipes by name, with their notes.

    Example: clipreid recipes list papers
    """
    names = [name for name in recipe_names() if name.startswith(folder)]
    if not names:
        raise ValueError(f"recipes list: no recipe's name begins with {folder!r}.")

    width = max(len(name) for name in names)
    for name in names:
        print(_entry(f"{name:{width}}  ", _note(recipes_folder() / f"{name}.yaml")))


def _entry(name: str, note: str) -> str:
    """Write a recipe on one line; in a terminal, on as many as its width asks for."""
    if not sys.stdout.isatty():
        return f"{name}{note}"

    columns = max(shutil.get_terminal_size().columns, len(name) + 20)
    return textwrap.fill(note, columns, initial_indent=name, subsequent_indent=" " * len(name))


def show_recipe(
    recipe: Annotated[str, typer.Argument(help="Name or file.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="As of `clipreid train`. Repeatable."),
    ] = None,
    source: Annotated[
        bool, typer.Option("--source", help="Print the file, with its comments and parent.")
    ] = False,
) -> None:
    """Show every key of a recipe, with parents and defaults.

    Example: clipreid recipes show own/train
    """
    file = find_recipe(recipe)
    if source:
        from clipreid_kit._read_files import read_text

        print(f"# {file}\n{read_text(file)}", end="")
        return

    import yaml

    print(yaml.safe_dump(_tree(file, changes), sort_keys=False, allow_unicode=True), end="")


def diff_recipes(
    first: Annotated[str, typer.Argument(help="Name or file.")],
    second: Annotated[str, typer.Argument(help="Name or file.")],
) -> None:
    """Show the keys in which two recipes differ, one a line.

    Example: clipreid recipes diff quickstart/joint_v1 quickstart/joint_v2
    """
    before, after = (_flat(_tree(find_recipe(name))) for name in (first, second))
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key, "-"), after.get(key, "-")
        if old != new and key != "note":
            print(f"{key}: {_shown(old)} -> {_shown(new)}")


def convert_recipe(
    file: Annotated[
        Path, typer.Argument(help="YAML (hands), JSON (top-k), or a text of command lines.")
    ],
    out: Annotated[Path | None, typer.Option(help="Write the recipe into this file.")] = None,
    version: Annotated[
        str | None, typer.Option(help="Of the hands pipeline: version of the file, such as v9.")
    ] = None,
) -> None:
    """Make a recipe of a configuration of another pipeline.

    It is one of the fashion, hands or top-k pipeline. What has no counterpart is a remark on
    standard error.

    Example: clipreid recipes convert config.yml --out mine.yaml
    """
    if out is not None:
        check_output("--out", out)

    convert = trainer_function("prepare.convert_recipe", "convert")
    text, remarks = convert(file, version)
    for remark in remarks:
        print(f"remark: {remark}", file=sys.stderr)

    if out is None:
        print(text)
        return

    from clipreid_kit._files import write_whole

    write_whole(out, f"{text}\n".encode())


def _note(file: Path) -> str:
    """The note of a recipe, on one line."""
    from clipreid_kit._read_files import read_text

    tree = trainer_function("settings.yaml_files", "parse_yaml")(read_text(file), str(file))
    return " ".join(str(tree["note"]).split())


def _tree(file: Path, changes: list[str] | None = None) -> dict[str, Any]:
    """Every key of a resolved recipe."""
    recipe = trainer_function("settings.recipe", "load_recipe")(file, changes or [])
    tree: dict[str, Any] = recipe.model_dump(mode="json")
    return tree


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    """Values by dotted key."""
    from clipreid_kit.reports import flat

    return {key.replace("/", "."): value for key, value in flat(tree)}


def _shown(value: object) -> str:
    """A value as YAML has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
