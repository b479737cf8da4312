"""The folder of a run: created once, never overwritten, with all that repeats the run."""

import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clipreid_kit import __version__
from clipreid_kit.reports.json_files import read_json_lines, write_json

# any of these files shows that a run got far enough to be worth keeping
_SIGNS_OF_A_RUN = ("checkpoints/index.json", "prompt/checkpoints/index.json", "results.json")


def open_run(out: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
    """Create the folder of a run, or check that the run to resume has the same settings.

    A run that failed before it had anything to keep, by a mistake in its data for instance, may be
    started again in the same folder.

    Args:
        out: The folder.
        settings: Every setting of the run, as JSON can hold it; kept as ``recipe.json``.
        resume: Whether a run in ``out`` is to be continued.

    Raises:
        ValueError: If the folder holds other files, a run that is not to be resumed, or one with
            other settings.
    """
    if any((out / sign).is_file() for sign in _SIGNS_OF_A_RUN):
        _check_resumable(out, settings, resume=resume)
        return

    kept = out / "recipe.json"
    if kept.is_file():
        # images that were generated for the settings that failed
        if _read(kept).get("data") != settings.get("data"):
            shutil.rmtree(out / "data", ignore_errors=True)
    elif out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise ValueError(f"{out}: the folder holds other files. Give --out a new or empty folder.")

    out.mkdir(parents=True, exist_ok=True)
    write_json(kept, settings)
    write_json(out / "environment.json", environment())


def environment() -> dict[str, str | None]:
    """Versions, machine and git revision of this run."""
    return {
        "clipreid_kit": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "revision": revision(),
    }


def revision() -> str | None:
    """Git revision of the working directory; ``None`` without git or outside a repository."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False
        )
    except OSError:  # git is not installed
        return None

    return done.stdout.strip() or None


def write_history(out: Path, results: Mapping[str, Any]) -> None:
    """Write ``results.json``, and ``history.json`` with everything about the run."""
    write_json(out / "results.json", results)

    history = {
        "recipe": _read(out / "recipe.json"),
        "environment": _read(out / "environment.json"),
        "epochs": read_json_lines(out / "metrics.jsonl"),
        "results": results,
    }
    write_json(out / "history.json", history)


def _check_resumable(out: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
    if not resume:
        raise ValueError(
            f"{out}: the folder already holds a run. Add --resume to continue it, or change --out."
        )

    kept = _read(out / "recipe.json")
    changed = [key for key, value in settings.items() if value != kept.get(key)]
    if changed:
        raise ValueError(
            f"{out}: the run to resume has other settings ({', '.join(changed)}). Resume it with "
            f"its own, in {out / 'recipe.json'}, or change --out."
        )


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
