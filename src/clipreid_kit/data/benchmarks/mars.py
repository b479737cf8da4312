"""MARS: tracklets of persons on a campus, six cameras."""

import os
import re
from collections.abc import Sequence
from typing import Literal

from clipreid_kit._checks import shown
from clipreid_kit._read_files import UnusableFileError
from clipreid_kit.data.benchmarks._listed_images import require_images
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.files.matlab_matrices import IntArray, parse_matrices
from clipreid_kit.data.records import ImageRecord

_OWNER = "read_mars"
_LAYOUT = "MARS's bbox_train, bbox_test and info"
_INFO = {
    "train names": "info/train_name.txt",
    "test names": "info/test_name.txt",
    "train tracks": "info/tracks_train_info.mat",
    "test tracks": "info/tracks_test_info.mat",
    "queries": "info/query_IDX.mat",
}

# 0001C1T0001F001.jpg; junk, which is no person, is in the folder 00-1.
_NAME = re.compile(r"(?P<identity>\d{4}|00-1)C(?P<camera>\d)T(?P<tracklet>\d+)F(?P<frame>\d+)\.\w+")
_JUNK = -1

_OFFICIAL = {"train": (509914, 625), "query": (None, 626), "gallery": (None, 622)}


def read_mars(
    path: str | os.PathLike[str],
    *,
    junk: bool = False,
    queries_in_gallery: bool = False,
    counts: Policy = "warn",
) -> list[ImageRecord]:
    """Read ``MARS/bbox_{train,test}/<identity>/<identity>C<camera>T<tracklet>F<frame>.jpg``.

    Use it for person search in video. Tracklets and queries are those of ``info``: the lists
    ``train_name.txt`` and ``test_name.txt``, the first and last row of each tracklet with its
    identity and camera in ``tracks_train_info.mat`` and ``tracks_test_info.mat``, and the rows of
    the queries in ``query_IDX.mat``. A zip archive is read in place.

    Args:
        path: The folder or zip archive, or a folder above it.
        junk: Whether to keep the gallery tracklets of identity -1, in the folder ``00-1``, which
            show no person. Every evaluation leaves them out.
        queries_in_gallery: Whether each query is also a gallery tracklet, as in the authors'
            evaluation. A query then meets the other queries of its identity by other cameras, too.
            Most later code takes the rest alone: 9,330 tracklets.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (509,914 images of 625 identities in 8,298 tracklets),
        ``query`` (1,980 tracklets, 626 identities) and ``gallery`` (9,330 tracklets, 622
        identities, of which 0 are distractors), ordered by split, tracklet and frame. Tracklets are
        named by their place in the tables, such as ``train_00001``, and frames are counted from 0
        in the order of the lists; identities and cameras are integers.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            a list or a table is damaged, a tracklet has images of two identities or two cameras, an
            image is missing, or the numbers differ and ``counts="raise"``.

    Example:
        >>> read_mars("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_mars: there is nothing at no/such/folder; expected ...

    References:
        Zheng et al., MARS: A Video Benchmark for Large-Scale Person Re-identification, ECCV 2016.
    """
    check_policy(_OWNER, counts)
    needed = [("bbox_train",), ("bbox_test",), *((file,) for file in _INFO.values())]
    tree, _ = locate(_OWNER, path, needed, _LAYOUT)

    train = _tracklets(tree, "train")
    test = _tracklets(tree, "test")
    is_query = _query_rows(tree, len(test))

    records = _with_split(train, "train")
    records += _with_split([test[row] for row in sorted(is_query)], "query")
    rest = [frames for row, frames in enumerate(test) if queries_in_gallery or row not in is_query]
    gallery = _with_split(rest, "gallery")

    found = [*records, *(record for record in gallery if record.identity != _JUNK)]
    check_counts(_OWNER, found, _OFFICIAL, counts)
    return [*records, *gallery] if junk else found


def _tracklets(tree: FileTree, side: Literal["train", "test"]) -> list[list[ImageRecord]]:
    """Build the records of each tracklet of a side, in the order of its frames."""
    names_file, tracks_file = _INFO[f"{side} names"], _INFO[f"{side} tracks"]
    names = [line.strip() for line in tree.text(_OWNER, names_file).splitlines() if line.strip()]
    tracks = _matrix(tree, tracks_file)
    if tracks.shape[1] != 4:
        raise ValueError(
            f"{_OWNER}: {tracks_file} has {tracks.shape[1]} columns; expected first row, last row, "
            "identity and camera. Download it again."
        )

    path_of = {name: f"bbox_{side}/{name[:4]}/{name}" for name in names}
    require_images(_OWNER, tree, list(path_of.values()), names_file)

    tracklets = []
    for number, (first, last, identity, camera) in enumerate(tracks.tolist(), start=1):
        if not 1 <= first <= last <= len(names):
            raise ValueError(
                f"{_OWNER}: tracklet {number} of {tracks_file} is of the rows {first} to {last}, "
                f"and {names_file} has {len(names)}. The two do not belong together; download both "
                "again."
            )

        images = names[first - 1 : last]
        _check_names(images, (identity, camera), f"tracklet {number} of {tracks_file}")

        tracklet = f"{side}_{number:05d}"
        paths = [tree.path(path_of[image]) for image in images]
        tracklets.append(
            [
                ImageRecord(path, identity, camera=camera, tracklet=tracklet, frame=frame)
                for frame, path in enumerate(paths)
            ]
        )

    return tracklets


def _check_names(images: Sequence[str], expected: tuple[int, int], tracklet: str) -> None:
    """Raise ValueError if an image of a tracklet has another identity or camera in its name."""
    for image in images:
        match = _NAME.fullmatch(image)
        if match is None:
            raise ValueError(
                f"{_OWNER}: the image {shown(image)} of {tracklet} is not named "
                "<identity>C<camera>T<tracklet>F<frame>.jpg. Download the lists again."
            )

        identity = _JUNK if match["identity"] == "00-1" else int(match["identity"])
        if (identity, int(match["camera"])) != expected:
            raise ValueError(
                f"{_OWNER}: {tracklet} is of identity {expected[0]} before camera {expected[1]}, "
                f"and its image {image} is of another. The tables and the lists of names do not "
                "belong together; download all of info again."
            )


def _query_rows(tree: FileTree, num_tracklets: int) -> set[int]:
    """Return the rows of the queries among the test tracklets, from 0."""
    file = _INFO["queries"]
    numbers = _matrix(tree, file).ravel().tolist()
    wrong = [number for number in numbers if not 1 <= number <= num_tracklets]
    if wrong:
        raise ValueError(
            f"{_OWNER}: {file} names tracklet {wrong[0]}, and {_INFO['test tracks']} has "
            f"{num_tracklets}. The two do not belong together; download both again."
        )
    return {number - 1 for number in numbers}


def _matrix(tree: FileTree, file: str) -> IntArray:
    """Read the one matrix of a table."""
    try:
        matrices = parse_matrices(tree.read(_OWNER, file))
    except UnusableFileError as error:
        raise ValueError(f"{_OWNER}: cannot read {file}: {error}. Download it again.") from error

    if len(matrices) != 1:
        names = ", ".join(matrices) or "none"
        raise ValueError(
            f"{_OWNER}: {file} has to hold one matrix, and holds {len(matrices)} ({names}). "
            "Download it again."
        )
    return next(iter(matrices.values()))


def _with_split(tracklets: Sequence[Sequence[ImageRecord]], split: str) -> list[ImageRecord]:
    """List the records of some tracklets, in a split."""
    # Not replace, which is slow for a million records.
    return [
        ImageRecord(
            record.path,
            record.identity,
            record.camera,
            split=split,
            tracklet=record.tracklet,
            frame=record.frame,
        )
        for frames in tracklets
        for record in frames
    ]
