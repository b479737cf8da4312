"""Pages of single runs from their embeddings: the hardest errors."""

from collections.abc import Iterable
from pathlib import Path

from clipreid_kit._read_files import exists
from clipreid_kit.reports.errors_page import errors_page
from clipreid_kit.reports.features import read_features
from clipreid_kit.reports.own_files import write_own_files
from clipreid_kit.reports.runs import find_runs

_FEATURES = "features.npz"


def write_error_pages(folders: Iterable[Path], out: Path, *, max_errors: int = 100) -> list[Path]:
    """Write ``errors/<run>.html`` of every run in the folders: see :func:`errors_page`.

    Args:
        folders: Folders of runs, or folders that hold runs at any depth.
        out: Folder to write to.
        max_errors: Largest number of errors on a page, >= 1.

    Returns:
        The pages.

    Raises:
        ValueError: If there is no run, one has no embeddings, a file is damaged, an image cannot be
            read, or ``out`` holds another file of that name; nothing is written then.
    """
    pages = {}
    for name, features in features_of_runs(folders).items():
        page = errors_page(read_features(features), title=f"{name}: errors", max_errors=max_errors)
        pages[f"errors/{name.replace('/', '__')}.html"] = page.encode()

    write_own_files(out, pages)
    return [out / name for name in pages]


def features_of_runs(folders: Iterable[Path]) -> dict[str, Path]:
    """Find the embeddings of every run in the folders: its own, or those of its last evaluation.

    Raises:
        ValueError: If there is no run, or one has no embeddings.
    """
    return {run.name: _features_of(run.path) for run in find_runs(folders)}


def _features_of(run: Path) -> Path:
    if exists(run / _FEATURES):
        return run / _FEATURES

    evaluations = sorted(run.glob(f"evaluations/*/{_FEATURES}"))
    if not evaluations:
        raise ValueError(
            f"{run}: the run has no {_FEATURES}. Run `clipreid evaluate {run} --features`, or "
            "train with `evaluate.features: true`."
        )
    return evaluations[-1]
