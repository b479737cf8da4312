"""``python -m examples.trainer RECIPE --out FOLDER``: run one recipe."""

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

from examples.settings.recipe import load_recipe
from examples.settings.smoke import smoke
from examples.trainer.failures import sentence_of_failure
from examples.trainer.plugin import NO_PLUGIN, load_plugin
from examples.trainer.run import run


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run, and turn an error into one line."""
    options = _parser().parse_args(arguments)
    out = options.out or _default_folder(options.recipe)

    with _second_interrupt_ends() as interrupted:
        try:
            _run(options, out)
        except KeyboardInterrupt:
            return _interrupted(out)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            if interrupted.is_set():  # what it broke
                return _interrupted(out)
            reason = sentence_of_failure(error) or str(error)
            print(f"error: {' '.join(reason.split())}", file=sys.stderr)
            return 2
    return 0


def _interrupted(out: Path) -> int:
    print(f"\ninterrupted: go on with --resume --out {out}", file=sys.stderr)
    return 130


def _run(options: argparse.Namespace, out: Path) -> None:
    if options.resume and options.out is None:
        raise ValueError("--resume needs --out with the folder of the run.")
    _check_name("--out", str(out))
    _check_name("--data", options.data or "")

    plugin = load_plugin(options.plugin) if options.plugin else NO_PLUGIN
    notes: list[str] = []
    recipe = load_recipe(options.recipe, options.set, data=options.data, say=notes.append)
    if recipe.track.console != "nothing":
        print(*notes, sep="\n", end="\n" if notes else "")
    run(smoke(recipe) if options.smoke else recipe, out, resume=options.resume, plugin=plugin)


def _check_name(option: str, name: str) -> None:
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


def _default_folder(recipe: Path) -> Path:
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
