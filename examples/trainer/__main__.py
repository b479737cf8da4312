"""``python -m examples.trainer RECIPE --out FOLDER``: run one recipe."""

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

from clipreid_kit.reports import read_object
from examples.settings.base_recipes import Recipe
from examples.settings.recipe import load_recipe, recipe_of
from examples.settings.smoke import smoke
from examples.trainer.failures import sentence_of_failure
from examples.trainer.plugin import NO_PLUGIN, load_plugin
from examples.trainer.run import run


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run, and turn an error into one line."""
    options = _parser().parse_args(arguments)
    if options.resume and options.out is None:
        print("error: --resume needs --out with the folder of the run.", file=sys.stderr)
        return 2

    return launch(
        lambda: read_recipe(options.recipe, options.set, data=options.data, small=options.smoke),
        options.out or default_folder(options.recipe),
        resume=options.resume,
        plugin=options.plugin,
        go_on="--resume --out {out}",
    )


def launch(
    read: Callable[[], Recipe],
    out: Path,
    *,
    resume: bool,
    plugin: Path | None,
    go_on: str,
    checkpoint: str | None = None,
) -> int:
    """Run a recipe, and turn an error into one line.

    Args:
        read: Returns the recipe.
        out: Folder of the run, new or to resume.
        resume: Whether to continue the run in that folder.
        plugin: A file with your own records and losses.
        go_on: The options that continue an interrupted run, with ``{out}`` for its folder.
        checkpoint: Kept checkpoint of the run to go back to.

    Returns:
        The exit status: 0, 2 for an error, or 130 for an interrupt.
    """
    interruption = f"\ninterrupted: go on with {go_on.format(out=out)}"
    with _second_interrupt_ends() as interrupted:
        try:
            check_name("--out", str(out))
            own = load_plugin(plugin) if plugin else NO_PLUGIN
            run(read(), out, resume=resume, checkpoint=checkpoint, plugin=own)
        except KeyboardInterrupt:
            print(interruption, file=sys.stderr)
            return 130
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            if interrupted.is_set():  # what it broke
                print(interruption, file=sys.stderr)
                return 130
            reason = sentence_of_failure(error) or str(error)
            print(f"error: {' '.join(reason.split())}", file=sys.stderr)
            return 2
    return 0


def read_recipe(
    path: Path, changes: Sequence[str] = (), *, data: str | None = None, small: bool = False
) -> Recipe:
    """Read a recipe with its changes, and print which keys fall away.

    Args:
        path: The recipe.
        changes: ``section.key=value`` lines.
        data: Value for ``data.root``.
        small: Whether to shrink the recipe to a trial.
    """
    check_name("--data", data or "")
    notes: list[str] = []
    recipe = load_recipe(path, changes, data=data, say=notes.append)
    if recipe.track.console != "nothing":
        print(*notes, sep="\n", end="\n" if notes else "")
    return smoke(recipe) if small else recipe


def recipe_of_run(run: Path) -> Recipe:
    """The recipe that a run was started with."""
    return recipe_of(read_object(run / "recipe.json"))


def check_name(option: str, name: str) -> None:
    """Raise ValueError for a path that no file of the run could name."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", errors="backslashreplace")
        raise ValueError(f"{option}: the name {shown} is not UTF-8. Rename the folder.") from None


@contextlib.contextmanager
def _second_interrupt_ends() -> Iterator[threading.Event]:
    """End at once, and without a traceback, if Ctrl-C is pressed again while the run closes.

    Yields:
        Set by the first Ctrl-C.
    """
    interrupted = threading.Event()
    usual = signal.default_int_handler
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not usual:
        yield interrupted
        return

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (of a handler)
        if interrupted.is_set():
            os._exit(130)  # also a process that loads images, which inherits this
        interrupted.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        if not interrupted.is_set():
            signal.signal(signal.SIGINT, usual)


def default_folder(recipe: Path) -> Path:
    """Named as its recipe, by all folders below ``recipes``, and by the time."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H-%M-%S")
    folders = recipe.absolute().parent.parts
    first = len(folders) - folders[::-1].index("recipes") if "recipes" in folders else -1
    return Path("runs", *folders[first:], recipe.stem, now)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.trainer", description=__doc__)
    parser.add_argument(
        "recipe",
        type=Path,
        help="a YAML file, such as examples/recipes/quickstart/joint.yaml, or JSON",
    )

    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the run, new or to resume; runs/<recipe>/<time> if left out",
    )

    parser.add_argument("--data", help="folder, table or zip file of the images (data.root)")
    parser.add_argument(
        "--resume", action="store_true", help="continue after the last complete epoch"
    )

    parser.add_argument(
        "--smoke", action="store_true", help="small towers, two epochs: does the recipe run at all?"
    )

    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a line of the recipe; may be given several times",
    )

    parser.add_argument(
        "--plugin",
        type=Path,
        metavar="FILE",
        help="a Python file with your own `records(recipe)` or "
        "`losses(recipe, towers, num_identities)`",
    )

    return parser


if __name__ == "__main__":
    sys.exit(main())
