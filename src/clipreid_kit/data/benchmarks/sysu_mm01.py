"""SYSU-MM01: persons by four visible and two infrared cameras."""

import os
import re

import numpy as np
import numpy.typing as npt

from clipreid_kit._read_files import UnusableFileError
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.benchmarks._text_lists import listed_identities
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.files.matlab_matrices import Cells, parse_cells
from clipreid_kit.data.records import ImageRecord

_LISTS = {"train": "exp/train_id.txt", "val": "exp/val_id.txt", "test": "exp/test_id.txt"}
_PERMUTATIONS = "exp/rand_perm_cam.mat"
_CAMERAS = range(1, 7)
_INFRARED = (3, 6)
_NAME = re.compile(r"cam\d/(?P<identity>\d+)/[^/]+")
_LAYOUT = "SYSU-MM01's cam1 to cam6 and exp/train_id.txt, val_id.txt and test_id.txt"


def read_sysu_mm01(
    path: str | os.PathLike[str], *, merge_val: bool = True, counts: Policy = "warn"
) -> list[ImageRecord]:
    """Read ``SYSU-MM01/cam<camera>/<identity>/<number>.jpg`` by the lists in ``exp``.

    Use it for SYSU-MM01, with :class:`SysuMM01Protocol`. Each of ``exp/train_id.txt``,
    ``val_id.txt`` and ``test_id.txt`` holds identities, separated by commas. Cameras 3 and 6 are
    infrared. A zip archive is read in place. The layout is that which the authors describe in the
    repository of the set.

    Args:
        path: The folder or zip archive, or a folder above it.
        merge_val: Whether the 99 identities of ``val`` are in the split ``train``, as nearly all
            published results have it.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (34,167 images of 395 identities with ``val``), ``val``
        without ``merge_val``, ``query`` (3,803 infrared images of 96 test identities) and
        ``gallery`` (all visible images of the same, of which the protocol draws), with the
        modality ``visible`` or ``infrared``, ordered by split, camera and name. Identities and
        cameras are integers. Images of identities in no list are left out.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            a list has another form, or the numbers differ and ``counts="raise"``.

    Example:
        >>> read_sysu_mm01("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_sysu_mm01: there is nothing at no/such/folder; expected ...

    References:
        Wu et al., RGB-Infrared Cross-Modality Person Re-Identification, ICCV 2017.
    """
    owner = "read_sysu_mm01"
    check_policy(owner, counts)
    tree = _tree(owner, path)
    split_of = {
        identity: split
        for split in _LISTS
        for identity in listed_identities(owner, tree, _LISTS[split])
    }

    records: list[ImageRecord] = []
    for camera in _CAMERAS:
        for image in tree.images(f"cam{camera}"):
            match = _NAME.fullmatch(image)
            if match is None:
                raise ValueError(
                    f"{owner}: {tree.path(image)} is not in a folder of an identity; expected "
                    "cam<camera>/<identity>/<number>.jpg. Remove it or download the set again."
                )
            split = split_of.get(int(match["identity"]))
            if split is not None:
                records.append(
                    _record(tree.path(image), int(match["identity"]), camera, split, merge_val)
                )

    check_counts(owner, records, _official(merge_val=merge_val), counts)
    order = ("train", "val", "query", "gallery")
    return sorted(records, key=lambda record: order.index(str(record.split)))


def read_sysu_permutations(
    path: str | os.PathLike[str],
) -> dict[tuple[int | str, int], npt.NDArray[np.int64]] | None:
    """Read the fixed draws of galleries, ``exp/rand_perm_cam.mat``, for ``SysuMM01Protocol``.

    The file is among the authors' evaluation code, and is put into ``exp`` by hand.

    Args:
        path: The folder or zip archive of SYSU-MM01, or a folder above it.

    Returns:
        For each (identity, camera) a matrix (trials, images) of numbers of images from 0, in the
        order of their names; ``None`` if there is no such file.

    Raises:
        ValueError: If the layout is different, or the file is damaged.

    Example:
        >>> read_sysu_permutations("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_sysu_permutations: there is nothing at no/such/folder; expected ...
    """
    owner = "read_sysu_permutations"
    tree = _tree(owner, path)
    if _PERMUTATIONS not in tree.names:
        return None

    try:
        cells = parse_cells(tree.read(owner, _PERMUTATIONS), "rand_perm_cam")
        return _permutations(cells)
    except UnusableFileError as error:
        raise ValueError(
            f"{owner}: {tree.path(_PERMUTATIONS)} is not the file of the authors: {error}. "
            "Download it again, or remove it to draw galleries by a seed."
        ) from error


def _permutations(cells: Cells) -> dict[tuple[int | str, int], npt.NDArray[np.int64]]:
    """Permutations from the cells of the cameras, each with a cell of every identity."""
    if not isinstance(cells, list) or len(cells) != len(_CAMERAS):
        raise UnusableFileError("expected six cameras")

    permutations: dict[tuple[int | str, int], npt.NDArray[np.int64]] = {}
    for camera, of_camera in enumerate(cells, start=1):
        for identity, matrix in enumerate(of_camera, start=1):
            if not isinstance(matrix, np.ndarray) or matrix.ndim != 2:
                raise UnusableFileError("expected a matrix of each identity")
            if matrix.size and not (matrix >= 1).all():
                raise UnusableFileError("images are numbered from 1")
            if matrix.size:
                permutations[identity, camera] = matrix - 1
    return permutations


def _tree(owner: str, path: str | os.PathLike[str]) -> FileTree:
    """Find the folder of the set."""
    needed = [*((f"cam{camera}",) for camera in _CAMERAS), *((file,) for file in _LISTS.values())]
    return locate(owner, path, needed, _LAYOUT)[0]


def _record(path: str, identity: int, camera: int, split: str, merge_val: bool) -> ImageRecord:
    is_infrared = camera in _INFRARED
    if split == "test":
        split = "query" if is_infrared else "gallery"
    if split == "val" and merge_val:
        split = "train"
    modality = "infrared" if is_infrared else "visible"
    return ImageRecord(path, identity, camera=camera, split=split, modality=modality)


def _official(*, merge_val: bool) -> dict[str, tuple[int | None, int | None]]:
    """Official numbers of images and identities."""
    tested: dict[str, tuple[int | None, int | None]] = {"query": (3803, 96), "gallery": (None, 96)}
    if merge_val:
        return {"train": (34167, 395), **tested}
    return {"train": (None, 296), "val": (None, 99), **tested}
