"""The folder of a run: created once, never overwritten, with all that repeats the run."""

import contextlib
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clipreid_kit import __version__
from clipreid_kit._read_files import is_file, is_folder
from clipreid_kit.reports.json_files import read_json_lines, read_object, write_json
from clipreid_kit.reports.run_lock import LOCK_FILE, RunLock

# any of these files shows that a run got far enough to be worth keeping
_SIGNS_OF_A_RUN = ("checkpoints/index.json", "prompt/checkpoints/index.json", "results.json")

# The files of a folder that SyntheticReid wrote.
_GENERATED = "synthetic.json"
_GENERATED_TABLES = (_GENERATED, "records.csv")
_GENERATED_IMAGE = re.compile(r"[0-9]{4,}_c[0-9]+_v[0-9]+\.png")


def open_run(out: Path, settings: Mapping[str, Any], *, resume: bool) -> RunLock:
    """Create the folder of a run, or check that the run to resume has the same settings.

    A run that failed before it had anything to keep, by a mistake in its data for instance, may be
    started again in the same folder.

    Args:
        out: The folder.
        settings: Every setting of the run, as JSON can hold it; kept as ``recipe.json``.
        resume: Whether a run in ``out`` is to be continued.

    Returns:
        The lock on the folder, to be held while the run lasts (``with open_run(...):``); no other
        process can open the run meanwhile.

    Raises:
        ValueError: If the folder cannot be created, or holds other files, a run that is not to be
            resumed or that another process is writing, one with other settings, or a damaged
            ``recipe.json``.
    """
    _check_own(out)
    _create(out)

    lock = RunLock(out)
    try:
        _open_locked(out, settings, resume=resume)
    except BaseException:
        lock.release()
        raise
    return lock


def _create(out: Path) -> None:
    """Create the folder of a run; raise ValueError, with the reason, if that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        taken = [path for path in (out, *out.parents) if path.is_symlink() or path.exists()][:1]
        reason = error.strerror
        if taken and taken[0].is_symlink() and not taken[0].exists():
            reason = f"{taken[0]} is a link that leads nowhere"
        elif taken and not taken[0].is_dir():
            reason = f"{taken[0]} is a file"
        raise ValueError(
            f"{out}: the folder of the run cannot be created: {reason}. Change --out."
        ) from error


def holds_run(out: Path) -> bool:
    """Whether a folder holds a run that got far enough to be worth keeping."""
    return any(is_file(out / sign) for sign in _SIGNS_OF_A_RUN)


def _check_own(out: Path) -> None:
    """Raise ValueError if a folder holds files, but no run."""
    if holds_run(out) or not is_folder(out):
        return
    if (out / "recipe.json").is_file() and (out / LOCK_FILE).is_file():
        return  # a run that failed early; a recipe.json alone may be anyone's

    if any(not path.name.startswith(".") for path in out.iterdir()):
        raise ValueError(f"{out}: the folder holds other files. Give --out a new or empty folder.")


def _open_locked(out: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
    """Check the settings of a run that is worth keeping, or write those of a new one."""
    if holds_run(out):
        _check_resumable(out, settings, resume=resume)
        read_object(out / "environment.json")  # found out now, and not when the report is written
        return

    kept = out / "recipe.json"
    if kept.is_file() and read_object(kept).get("data") != settings.get("data"):
        _delete_generated(out / "data")

    write_json(kept, settings)
    write_json(out / "environment.json", environment())


def _delete_generated(folder: Path) -> None:
    """Delete images that were generated for settings that failed, and nothing else."""
    if not (folder / _GENERATED).is_file() or folder.is_symlink():
        return

    # Deepest first, so that folders are empty when their turn comes.
    for path in sorted(folder.rglob("*"), reverse=True):
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif path.name in _GENERATED_TABLES or _GENERATED_IMAGE.fullmatch(path.name):
                path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


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
        "recipe": read_object(out / "recipe.json"),
        "environment": read_object(out / "environment.json"),
        "epochs": read_json_lines(out / "metrics.jsonl"),
        "results": results,
    }
    write_json(out / "history.json", history)


def _check_resumable(out: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
    if not resume:
        raise ValueError(
            f"{out}: the folder already holds a run. Continue it with --resume, or change --out."
        )

    kept = read_object(out / "recipe.json")
    changed = [key for key in {**settings, **kept} if settings.get(key) != kept.get(key)]
    if changed:
        raise ValueError(
            f"{out}: the run to resume has other settings ({', '.join(changed)}). Resume it with "
            f"its own, in {out / 'recipe.json'}, or change --out."
        )
