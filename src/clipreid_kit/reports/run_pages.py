"""Pages of single runs from their embeddings: the hardest errors, and maps."""

from collections.abc import Iterable
from pathlib import Path

import torch

from clipreid_kit._read_files import exists
from clipreid_kit.reports.embedding_map_page import embedding_map_page, sample_identities
from clipreid_kit.reports.errors_page import errors_page
from clipreid_kit.reports.evaluation import Evaluation
from clipreid_kit.reports.features import read_features
from clipreid_kit.reports.own_files import write_own_files
from clipreid_kit.reports.runs import find_runs
from clipreid_kit.viz import embedding_map_figure, embedding_positions, figure_png
from clipreid_kit.viz.embedding_map import MapMethod

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


def write_map_pages(
    folders: Iterable[Path],
    out: Path,
    *,
    method: MapMethod = "tsne",
    max_images: int = 1000,
    seed: int = 0,
) -> list[Path]:
    """Write ``maps/<run>.html`` and ``maps/<run>.png`` of every run in the folders.

    They show its queries and gallery images: see :func:`embedding_map_page` and
    :func:`~clipreid_kit.viz.embedding_map_figure`.

    Args:
        folders: Folders of runs, or folders that hold runs at any depth.
        out: Folder to write to.
        method: ``"tsne"``, ``"umap"`` or ``"pca"``.
        max_images: Largest number of images on a map, >= 1; of more, whole identities are chosen.
        seed: Seed of the choice and of the method.

    Returns:
        The pages.

    Raises:
        ValueError: If there is no run, one has no embeddings or fewer than four images, a file is
            damaged, an image cannot be read, or ``out`` holds another file of that name; nothing is
            written then.
        ImportError: If the method's package is not installed.
    """
    contents: dict[str, bytes] = {}
    for name, features in features_of_runs(folders).items():
        file = f"maps/{name.replace('/', '__')}"
        page, figure = _map_of(read_features(features), name, method, max_images, seed)
        contents[f"{file}.html"] = page.encode()
        contents[f"{file}.png"] = figure

    write_own_files(out, contents)
    return [out / name for name in contents if name.endswith(".html")]


def _map_of(
    evaluation: Evaluation, name: str, method: MapMethod, max_images: int, seed: int
) -> tuple[str, bytes]:
    """Page and figure of the images of an evaluation, each of them once."""
    records = [*evaluation.query, *evaluation.gallery]
    embeddings = torch.cat([evaluation.query_embeddings, evaluation.gallery_embeddings])
    rows = list({record.path: row for row, record in enumerate(records)}.values())
    records, embeddings = [records[row] for row in rows], embeddings[rows]

    chosen = sample_identities(records, max_images, seed=seed)
    note = f"Placed by {method}, seed {seed}."
    if len(chosen) < len(records):
        note = f"Whole identities, chosen at random from {len(records)} images. {note}"
    records = [records[row] for row in chosen]
    positions = embedding_positions(embeddings[chosen], method=method, seed=seed)

    cameras = [str(record.camera) for record in records]
    figure = embedding_map_figure(
        positions,
        identities=[str(record.identity) for record in records],
        cameras=cameras if all(record.camera is not None for record in records) else None,
    )
    page = embedding_map_page(
        records, positions, title=f"{name}: embeddings", note=note, max_images=max_images
    )
    return page, figure_png(figure, dpi=110)


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
