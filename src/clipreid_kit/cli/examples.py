"""``clipreid examples``: write out the trainer, its recipes and its tests, to be changed."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from clipreid_kit.cli._trainer import examples_root

_PYTEST = """\
[pytest]
testpaths = tests
norecursedirs = exhaustive
pythonpath = . tests tests/examples
addopts = --strict-markers --import-mode=importlib
filterwarnings = error
markers =
    unhooked: runs without the checks of a shape-checking import hook
    reference: equivalence with an installed peer
    slow: more than ten seconds
"""

_NEXT = """\
{folder} holds the trainer, its recipes, single-file examples, and their tests. In that folder:
  python -m examples.trainer examples/recipes/quickstart/joint.yaml --out runs/quickstart
  pip install pytest hypothesis && python -m pytest -m "not slow"
`clipreid train` keeps running the trainer of the installed package."""


def examples(
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")],
) -> None:
    """Write out the trainer and its tests, to be changed.

    Example: clipreid examples my_trainer
    """
    write_examples(folder)
    print(_NEXT.format(folder=folder))


def write_examples(folder: Path) -> None:
    """Write the trainer as a package ``examples`` in a folder, and its tests beside it.

    Raises:
        ValueError: If the folder holds files.
        OSError: If it cannot be made.
    """
    from clipreid_kit._files import check_creatable, write_whole

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        problem = "is not empty" if folder.is_dir() else "is a file"
        raise ValueError(f"examples: {folder} {problem}. Name a new folder.")

    check_creatable(folder)

    root = examples_root()
    compiled = shutil.ignore_patterns("__pycache__", "*.pyc")
    for part in ("examples", "tests/examples"):
        shutil.copytree(root / part, folder / part, ignore=compiled)

    shutil.copy(root / "tests" / "conftest.py", folder / "tests")
    write_whole(folder / "pytest.ini", _PYTEST.encode(), flush=False)
