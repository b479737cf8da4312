"""The ``clipreid`` program: its commands, its errors of one line, and its exit status."""

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from clipreid_kit._files import error_line
from clipreid_kit.cli._command import Command, Program
from clipreid_kit.cli._cross_domain import CompareCommand
from clipreid_kit.cli.calibrate import calibrate
from clipreid_kit.cli.compare import compare
from clipreid_kit.cli.discover import discover
from clipreid_kit.cli.doctor import doctor
from clipreid_kit.cli.embed import embed
from clipreid_kit.cli.evaluate import PASS_ON, evaluate
from clipreid_kit.cli.examples import examples
from clipreid_kit.cli.export import export
from clipreid_kit.cli.index import index_app
from clipreid_kit.cli.recipes import recipes_app
from clipreid_kit.cli.report import report
from clipreid_kit.cli.search import search
from clipreid_kit.cli.serve import serve
from clipreid_kit.cli.train import train

_HELP = """Fine-tune CLIP-like models on re-identification and instance retrieval.

Exit status: 0 for success, 1 for an error in the data or the recipe, 2 for one in the options, 130
after Ctrl-C.
"""

_FAILURES = (ValueError, OSError, RuntimeError, MemoryError, ImportError)


def _print_version(asked: bool) -> bool:
    if asked:
        from clipreid_kit import __version__

        print(f"clipreid_kit {__version__}")
        raise typer.Exit
    return asked


def build_app() -> typer.Typer:
    """The program with all its commands."""
    app = typer.Typer(
        name="clipreid",
        cls=Program,
        help=_HELP,
        no_args_is_help=True,
        rich_markup_mode=None,  # plain text: the same in a pipe, a log and a terminal
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_program)

    app.command()(train)
    app.command(context_settings=PASS_ON)(evaluate)
    app.command(cls=Command)(report)
    app.command(cls=CompareCommand)(compare)
    app.command(cls=Command)(embed)
    app.add_typer(index_app(), name="index")
    app.command(cls=Command)(search)
    app.command(cls=Command)(serve)
    app.command(cls=Command)(calibrate)
    app.command(cls=Command)(discover)
    app.command(cls=Command)(export)
    app.add_typer(recipes_app(), name="recipes")
    app.command()(examples)
    app.command()(doctor)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: Command-line arguments; defaults to those of the program.

    Returns:
        The exit status.
    """
    try:
        with _warnings_on_one_line():
            status = build_app()(
                args=None if arguments is None else list(arguments),
                prog_name="clipreid",
                standalone_mode=False,
            )
        sys.stdout.flush()
    except typer.TyperException as error:  # in the options
        return _fail_of_options(error)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", status=130)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except _FAILURES as error:
        return _fail(error_line(error), status=1)

    return status if isinstance(status, int) else 0


@contextmanager
def _warnings_on_one_line() -> Iterator[None]:
    """Show warnings as errors are: as one line, without the line of code that warns."""
    before = warnings.formatwarning
    warnings.formatwarning = _warning_line
    try:
        yield
    finally:
        warnings.formatwarning = before


def _warning_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"warning: {' '.join(str(message).split())}\n"


def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def _fail_of_options(error: typer.TyperException) -> int:
    """Print the help of a group that was named without a command, or an error and where help is."""
    context = getattr(error, "ctx", None)
    if context is not None and error.format_message() == context.get_help():
        print(context.get_help())
        return 2

    path = "" if context is None else f" See {context.command_path} --help."
    reason = error.format_message()
    end = "" if reason.endswith((".", "?", ")")) else "."
    return _fail(f"{reason}{end}{path}", status=2)


def _fail(reason: str, *, status: int) -> int:
    """Print an error as one line, and return the exit status."""
    print(f"error: {' '.join(reason.split())}", file=sys.stderr)
    return status
