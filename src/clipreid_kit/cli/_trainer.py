"""Find and import the reference trainer: the folder ``examples`` of the wheel, or of a checkout."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_SIGN = Path("examples", "trainer", "__main__.py")


def examples_root() -> Path:
    """Folder that holds ``examples``: inside the installed package, or the root of a checkout.

    Raises:
        ValueError: If the folder is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for root in (package / "_examples", package.parents[1]):
        if (root / _SIGN).is_file():
            return root

    raise ValueError(
        f"clipreid: the trainer is not in {package / '_examples'}. Install clipreid_kit again."
    )


def trainer_module(name: str) -> ModuleType:
    """Import a module of the trainer, such as ``trainer.run``, by its usual name.

    The folder that holds ``examples`` becomes the first entry of ``sys.path``, so that processes
    that load images find it as well, and a folder ``examples`` of the user does not hide it.

    Raises:
        ValueError: If another package ``examples`` was imported before, or an extra is missing.
    """
    root = examples_root()
    if str(root) not in sys.path[:1]:
        sys.path.insert(0, str(root))

    try:
        module = importlib.import_module(f"examples.{name}")
    except ModuleNotFoundError as error:
        raise _import_error(error, root) from error

    if root not in Path(str(module.__file__)).resolve().parents:
        raise _other_package(root)
    return module


def note_on_copy(folder: Path) -> str | None:
    """A line that says which trainer runs, if a folder holds a copy that does not.

    Args:
        folder: The folder that the command is started in.
    """
    root = examples_root()
    if not (folder / _SIGN).is_file() or folder.resolve() == root:
        return None
    return (
        f"clipreid runs the trainer in {root / 'examples'}. The copy in this folder runs as: "
        "python -m examples.trainer RECIPE"
    )


def trainer_function(module: str, name: str) -> Any:  # noqa: ANN401 (the library imports no examples)
    """A function of a module of the trainer."""
    return getattr(trainer_module(module), name)


def _import_error(error: ModuleNotFoundError, root: Path) -> ValueError:
    missing = str(error.name).partition(".")[0]
    if missing == "examples":
        return _other_package(root)
    return ValueError(
        f"clipreid: {missing} is not installed. Run pip install 'clipreid_kit[train]'."
    )


def _other_package(root: Path) -> ValueError:
    return ValueError(
        f"clipreid: another package `examples` is loaded than the one in {root}. Start clipreid in "
        "a process of its own."
    )
