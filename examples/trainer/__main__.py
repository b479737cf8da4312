"""``python -m examples.trainer RECIPE --out FOLDER``: run one recipe."""

import argparse
import sys
from datetime import datetime, timezone
from pathlib import Path

from examples.settings.recipe import load_recipe
from examples.settings.smoke import smoke
from examples.trainer.plugin import NO_PLUGIN, load_plugin
from examples.trainer.run import run


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run, and turn an expected error into one line."""
    options = _parser().parse_args(arguments)
    out = options.out or _default_folder(options.recipe)

    try:
        if options.resume and options.out is None:
            raise ValueError("--resume needs --out with the folder of the run.")

        plugin = load_plugin(options.plugin) if options.plugin else NO_PLUGIN
        notes: list[str] = []
        recipe = load_recipe(options.recipe, options.set, data=options.data, say=notes.append)
        if recipe.track.console != "nothing":
            print(*notes, sep="\n", end="\n" if notes else "")
        run(smoke(recipe) if options.smoke else recipe, out, resume=options.resume, plugin=plugin)
    except (ValueError, OSError) as error:
        return _failed(str(error))
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        return _failed(f"{reason} Lower model.image_size, batch or evaluate.batch_size.")
    except KeyboardInterrupt:
        print(f"\ninterrupted: go on with --resume --out {out}", file=sys.stderr)
        return 130
    return 0


def _failed(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 2


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
