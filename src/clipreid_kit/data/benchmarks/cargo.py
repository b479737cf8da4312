"""CARGO: rendered persons by five aerial and eight ground cameras."""

import os
import re

from clipreid_kit.data.benchmarks._camera_in_name import match_name
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord

_OWNER = "read_cargo"
_SPLITS = ("train", "query", "gallery")
_LAST_AERIAL = 5
_FORM = "Cam<camera>_<time>_<identity>_*.jpg"
_NAME = re.compile(r"Cam(?P<camera>\d+)_[^_]+_(?P<identity>\d+)(?:_.*)?\.[^.]+")
_LAYOUT = "CARGO's train, query and gallery"
_OFFICIAL = {"train": (51451, 2500), "query": (312, None), "gallery": (50712, None)}


def read_cargo(path: str | os.PathLike[str], *, counts: Policy = "warn") -> list[ImageRecord]:
    """Read ``CARGO/{train,query,gallery}/Cam<camera>/Cam<camera>_<time>_<identity>_*.jpg``.

    Use it for CARGO. Cameras 1 to 5 are aerial, 6 to 13 on the ground. Its four protocols: all is
    :class:`Market1501Protocol`; ground to ground and aerial to aerial are
    :class:`CrossModalityProtocol` with the view as both ``query`` and ``gallery``, and cameras;
    aerial and ground is that protocol with ``same="distractors"``. A zip archive is read in place.
    Folders and names are those that the authors' code reads.

    Args:
        path: The folder or zip archive, or a folder above it.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (51,451 images, 2,500 identities), ``query`` (312) and
        ``gallery`` (50,712), ordered by split and name, with the view ``aerial`` or ``ground``.
        Identities are integers, cameras integers from 1 to 13.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            an image has another name, or the numbers differ and ``counts="raise"``.

    Example:
        >>> read_cargo("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_cargo: there is nothing at no/such/folder; expected ...

    References:
        Zhang et al., View-decoupled Transformer for Person Re-identification under Aerial-ground
        Camera Network, CVPR 2024.
    """
    check_policy(_OWNER, counts)
    tree, _ = locate(_OWNER, path, [(split,) for split in _SPLITS], _LAYOUT)

    records = []
    for split in _SPLITS:
        records += [_record(tree, image, split) for image in tree.images(split)]
    check_counts(_OWNER, records, _OFFICIAL, counts)
    return records


def _record(tree: FileTree, image: str, split: str) -> ImageRecord:
    """Build the record of an image."""
    match = match_name(_OWNER, tree, image, _NAME, _FORM)
    camera = int(match["camera"])
    view = "aerial" if camera <= _LAST_AERIAL else "ground"
    return ImageRecord(
        tree.path(image), int(match["identity"]), camera=camera, view=view, split=split
    )
