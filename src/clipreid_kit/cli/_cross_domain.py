"""``clipreid compare --train A B --test A B C``: the cross-domain matrix."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from clipreid_kit.cli._trainer import trainer_function

TEST_SET = "--test-set"  # hidden: what --test NAME ... becomes beside --train


class CompareCommand(TyperCommand):
    """A command whose options --train and --test take several values each."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 (typer exports no type)
        """Parse the arguments, with an option for each value."""
        parsed: list[str] = super().parse_args(ctx, repeat_options(args))
        return parsed


def repeat_options(arguments: Sequence[str]) -> list[str]:
    """Write an option in front of each value of --train, and of --test beside it.

    Without --train nothing changes.

    Example:
        >>> repeat_options("--train a b --test a c --out t.md".split())
        ['--train', 'a', '--train', 'b', '--test-set', 'a', '--test-set', 'c', '--out', 't.md']
        >>> repeat_options(["a", "b", "--test"])
        ['a', 'b', '--test']
    """
    if "--train" not in arguments:
        return list(arguments)

    repeated = []
    option = None  # that the values which follow belong to
    for argument in arguments:
        if argument == "--train":
            option = "--train"
        elif argument == "--test":
            option = TEST_SET
        elif argument.startswith("-"):
            option = None
            repeated.append(argument)
        elif option is not None:
            repeated += [option, argument]
        else:
            repeated.append(argument)
    return repeated


def cross_domain(trained: Sequence[str], tests: Sequence[str], runs: Path, form: str) -> str:
    """Evaluate runs on data sets, and return the table.

    Args:
        trained: Runs, or folders of runs that differ in their seed; ``NAME=PATH`` names one.
        tests: Data sets, or runs whose data they are; ``NAME=PATH`` names one.
        runs: Folder of the evaluations; those that it has are not repeated.
        form: Format of the table.
    """
    from clipreid_kit.reports import cross_domain_table

    evaluate = trainer_function("trainer.cross_domain", "evaluate_matrix")
    results = evaluate(_named("--train", trained), _named("--test", tests), runs)
    return cross_domain_table(results, form)  # type: ignore[arg-type]


def _named(option: str, values: Sequence[str]) -> dict[str, Path]:
    """Paths by their name: that before an equals sign, or of the file or folder."""
    paths: dict[str, Path] = {}
    for value in values:
        name, path = _name_and_path(value)
        if not name or name in paths:
            raise typer.BadParameter(
                f"{option} {value}: each needs a name of its own; write NAME={path}"
            )
        if not path.exists():
            raise typer.BadParameter(f"{option} {value}: there is no {path}")
        paths[name] = path
    return paths


def _name_and_path(value: str) -> tuple[str, Path]:
    """Split ``NAME=PATH``; a path alone is named after its file or folder."""
    name, equals_sign, rest = value.partition("=")
    if equals_sign:
        return name, Path(rest)

    path = Path(value)
    if path.is_file():
        return path.stem, path
    return path.resolve().name, path  # of ".", too
