"""``clipreid compare``: the stages of a folder over several seeds, or runs with a publication."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from clipreid_kit._files import write_whole
from clipreid_kit.cli._cross_domain import TEST_SET, cross_domain
from clipreid_kit.cli._outputs import check_output
from clipreid_kit.cli._recipe_names import recipes_folder
from clipreid_kit.cli._trainer import trainer_module
from clipreid_kit.cli.report import report


def compare(
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            help="A folder of recipes with a pretrain.yaml, or runs to compare as they are.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of runs or tables, or a .md, .tex or .html."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="The images (data.root).")] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Repeatable. Default: 0, 1 and 2.")
    ] = None,
    stages: Annotated[
        list[str] | None, typer.Option("--stage", help="Repeatable. Default: all of the folder.")
    ] = None,
    published: Annotated[
        str | None,
        typer.Option(help="Lay published figures beside runs: papers, or a CSV."),
    ] = None,
    test: Annotated[
        bool,
        typer.Option("--test", help="Test which runs differ. With --train: the test sets."),
    ] = False,
    train: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH ...",
            help="Evaluate runs, or folders of runs, on --test PATH ...",
        ),
    ] = None,
    test_sets: Annotated[list[str] | None, typer.Option(TEST_SET, hidden=True)] = None,
    evaluations: Annotated[
        Path | None,
        typer.Option(help="With --train: their folder. Default: cross_domain."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="With --test: compare all with this one.")
    ] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            help="With --test: such as mean_ap. Repeatable.",
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="With --test: the task. Default: image_to_image.")
    ] = None,
    level: Annotated[
        float | None, typer.Option(help="With --test: significance level. Default: 0.05.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a leaderboard of runs to this file."),
    ] = None,
    table_format: Annotated[
        str | None,
        typer.Option("--format", help="With --test or --train: markdown, latex or html."),
    ] = None,
) -> None:
    """Train and compare stages over seeds, or compare runs.

    Tables and figures go to OUT/report, and what was interrupted continues. --test compares runs
    query by query, by a permutation test over identities; runs that differ in their seed are one
    model. --train evaluates runs on data sets (NAME=PATH names one), or on the data of other runs.

    \b
    Examples:
      clipreid compare quickstart --out runs/stages --seed 0 --stage clip_reid
      clipreid compare runs/a runs/b --test --out table.tex
      clipreid compare --train runs/a runs/b --test runs/a runs/b photos --out matrix.md
      clipreid compare runs --html leaderboard.html
    """
    of_stages = {"--data": data, "--seed": seeds, "--stage": stages, "--published": published}
    of_test = {"--baseline": baseline, "--measure": measures, "--task": task, "--level": level}

    if train:
        unused = {"FOLDERS": folders, **of_stages, **of_test, "--html": html}
        _check_unused(unused, "have no effect with --train")
        matrix = _matrix(train, test_sets or [], evaluations, _table_format(out, table_format))
        _write(out, matrix)
        return

    _check_unused({"--evaluations": evaluations}, "needs --train")
    if not folders:
        raise typer.BadParameter("name a folder of recipes, or runs; or use --train and --test")
    paths = [Path(folder) for folder in folders]

    if test or html is not None:
        _check_unused(of_stages, "have no effect on runs that exist")
    if not test:
        _check_unused({**of_test, "--format": table_format}, "need --test")

    if html is not None:
        check_output("--html", html)
        _write_leaderboard(paths, html)
    if test:
        table = _test(
            paths, _table_format(out, table_format), task, measures, baseline=baseline, level=level
        )
        _write(out, table)
    if test or html is not None:
        return

    if out is None:
        raise typer.BadParameter("--out is missing: name the folder to write to")
    if published is not None:
        report(paths, out, published)
        return

    if len(folders) > 1:
        raise typer.BadParameter("pass one folder of recipes, or --published and folders of runs")
    _train_and_gather(folders[0], out, seeds, stages, data)


def _matrix(
    trained: list[str], tests: list[str], evaluations: Path | None, table_format: str
) -> str:
    """Evaluate runs on data sets, and return the cross-domain table."""
    if not tests:
        raise typer.BadParameter("--train needs --test PATH ...: the sets to test on")
    return cross_domain(trained, tests, evaluations or Path("cross_domain"), table_format)


def _write(out: Path | None, text: str) -> None:
    """Write a table to a file; print it if there is none."""
    if out is None:
        print(text, end="")
    else:
        write_whole(out, text.encode(), flush=False)


def _check_unused(options: Mapping[str, object], reason: str) -> None:
    """Raise BadParameter if an option was given that would do nothing."""
    given = [name for name, value in options.items() if value is not None and value != []]
    if given:
        raise typer.BadParameter(f"{' and '.join(given)} {reason}")


def _table_format(out: Path | None, asked: str | None) -> str:
    """The format of the table: that of the file's name, or the one asked for."""
    formats = {".md": "markdown", ".tex": "latex", ".html": "html"}
    if out is None:
        if asked is not None and asked not in formats.values():
            raise typer.BadParameter(f"--format {asked}: choose markdown, latex or html")
        return asked or "markdown"

    if out.suffix.lower() not in formats or asked is not None:
        raise typer.BadParameter(
            f"--out {out}: with --test or --train, name a .md, .tex or .html file, without --format"
        )
    check_output("--out", out)
    return formats[out.suffix.lower()]


def _test(
    runs: list[Path],
    table_format: str,
    task: str | None,
    measures: list[str] | None,
    *,
    baseline: str | None,
    level: float | None,
) -> str:
    """Test which runs differ, and return the table."""
    from clipreid_kit.reports import compare_runs, comparison_table

    comparison = compare_runs(
        runs,
        task=task or "image_to_image",
        measures=measures or ["rank_1", "mean_ap", "mean_inp"],
        baseline=baseline,
        level=0.05 if level is None else level,
    )
    return comparison_table(comparison, table_format)  # type: ignore[arg-type]


def _write_leaderboard(runs: list[Path], file: Path) -> None:
    """Write the leaderboard of runs or result files."""
    from clipreid_kit.reports import leaderboard_page

    write_whole(file, leaderboard_page(runs).encode(), flush=False)


def _train_and_gather(
    folder: str, out: Path, seeds: list[int] | None, stages: list[str] | None, data: str | None
) -> None:
    """Train the stages of a folder of recipes, and print their tables."""
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
