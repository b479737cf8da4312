"""A user's own records and losses: functions given in Python, or in a file by ``--plugin``.

A recipe never names such a file, so that a recipe from elsewhere cannot run code.
"""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from torch import nn

from clipreid_kit.clip import ClipTowers
from clipreid_kit.data import ImageRecord
from examples.settings.base_recipes import Recipe

ReadRecords = Callable[[Recipe], Sequence[ImageRecord]]
MakeLosses = Callable[[Recipe, ClipTowers, int], Mapping[str, nn.Module]]

_MODULE = "clipreid_plugin"


@dataclass(frozen=True)
class Plugin:
    """A user's own records and losses.

    Attributes:
        records: Called with the recipe; returns the records in place of those of ``data.source``,
            with their splits. Captions, checks and held-out identities are added as always.
        losses: Called with the recipe, the towers and the number of training identities; returns
            the modules of some loss terms, by name. Each needs a weight in the recipe, and is
            called as the library's loss of that term.
        source: Text of the file that they come from; ``None`` if they were given in Python.
    """

    records: ReadRecords | None = None
    losses: MakeLosses | None = None
    source: str | None = None

    def read(self, recipe: Recipe) -> list[ImageRecord] | None:
        """The records; ``None`` if those of ``data.source`` are to be read."""
        if self.records is None:
            return None

        records = list(self.records(recipe))
        for record in records:
            if not isinstance(record, ImageRecord):
                raise ValueError(
                    "plugin: `records` must return a list of ImageRecord; it holds a "
                    f"{type(record).__name__}."
                )
        if not records:
            raise ValueError("plugin: `records` returned no records.")
        return records

    def losses_of(
        self, recipe: Recipe, towers: ClipTowers, num_identities: int, terms: Collection[str]
    ) -> dict[str, nn.Module]:
        """The losses of some terms; empty if all are those of the recipe."""
        if self.losses is None:
            return {}

        losses = dict(self.losses(recipe, towers, num_identities))
        for name, module in losses.items():
            if name not in terms:
                raise ValueError(
                    f"plugin: `losses` has {name!r}, a term without a weight in this recipe; add "
                    f"loss.{name}, or use one of {', '.join(terms)}."
                )
            if not isinstance(module, nn.Module):
                raise ValueError(
                    f"plugin: the loss {name!r} must be a torch.nn.Module, not a "
                    f"{type(module).__name__}."
                )
        return losses

    def keep(self, out: Path, *, resume: bool) -> None:
        """Keep the file in the folder of its run, as ``plugin.py``; a resumed run needs the same.

        Raises:
            ValueError: If the run to resume has another plugin.
        """
        file = out / "plugin.py"
        kept = file.read_text(encoding="utf-8") if file.is_file() else None
        if resume and kept is not None and kept != self.source:
            raise ValueError(
                f"{out}: the run to resume has another plugin. Resume it with --plugin {file}."
            )

        if self.source is not None:
            file.write_text(self.source, encoding="utf-8")
        elif kept is not None:
            file.unlink()  # of a start that failed


NO_PLUGIN = Plugin()


def load_plugin(path: Path) -> Plugin:
    """Run a Python file, and return its functions ``records`` and ``losses``.

    Raises:
        ValueError: If the file is missing, fails, or has neither function.
    """
    if not path.is_file():
        raise ValueError(f"--plugin: there is no file {path}.")

    source = path.read_text(encoding="utf-8")
    module = _run_file(path)
    functions = {name: getattr(module, name, None) for name in ("records", "losses")}
    if not any(functions.values()):
        raise ValueError(
            f"--plugin: {path} has neither a function `records(recipe)` nor a function "
            "`losses(recipe, towers, num_identities)`."
        )
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise ValueError(f"--plugin: `{name}` in {path} must be a function.")
    return Plugin(functions["records"], functions["losses"], source)


def check_plugin(run: Path, plugin: Plugin) -> None:
    """Require the plugin that a finished run was made with.

    Raises:
        ValueError: If the run has a plugin and none is given: a run does not run code by itself.
    """
    file = run / "plugin.py"
    if file.is_file() and plugin == NO_PLUGIN:
        raise ValueError(
            f"{run}: this run was made with a plugin. Read it, and give it again: --plugin {file}."
        )


def _run_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--plugin: {path} is not a Python file (.py).")

    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # dataclasses look for their module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.lineno for frame in frames if frame.filename == str(path)]
        line = getattr(error, "lineno", None) or (own[-1] if own else 1)
        reason = " ".join(str(error).split())
        raise ValueError(
            f"--plugin: {path}, line {line}: {type(error).__name__}: {reason}"
        ) from error
    return module
