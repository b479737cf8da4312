"""AG-ReID: persons by a drone and by a camera on the ground."""

import os
import re

from clipreid_kit.data.benchmarks._camera_in_name import match_name
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord

_OWNER = "read_ag_reid"
_FOLDERS = {
    "bounding_box_train": "train",
    "query_all_c0": "query",
    "query_all_c3": "query",
    "bounding_box_test_all_c3": "gallery",
    "bounding_box_test_all_c0": "gallery",
}
_VIEWS = {0: "aerial", 3: "ground"}
_FORM = "P<person>T<time>A<altitude>C<0 or 3>F<frame>.jpg"
_NAME = re.compile(r"(?P<identity>P\d+T\d+A\d+)C(?P<camera>[03])F\d+\..*")
_LAYOUT = f"AG-ReID's {', '.join(_FOLDERS)}"
_OFFICIAL = {"train": (None, 199), "query": (1701 + 962, 189), "gallery": (3331 + 7204, 189)}


def read_ag_reid(path: str | os.PathLike[str], *, counts: Policy = "warn") -> list[ImageRecord]:
    """Read ``AG-ReID/<folder>/P0001T02193A0C0F00000.jpg``: person, time, altitude, camera, frame.

    Use it for AG-ReID (its first version), with :class:`CrossModalityProtocol` on views: aerial
    queries of ``query_all_c0`` rank the ground images of ``bounding_box_test_all_c3``, and ground
    queries of ``query_all_c3`` the aerial ones of ``bounding_box_test_all_c0``. Training images are
    in ``bounding_box_train``. A zip archive is read in place. Folders and names are those of the
    authors' repository.

    Args:
        path: The folder or zip archive, or a folder above it.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (199 identities), ``query`` (1,701 aerial and 962 ground
        images, 189) and ``gallery`` (3,331 ground and 7,204 aerial images, 189), and with the view
        ``aerial`` (camera 0, the drone) or ``ground`` (camera 3). An identity is person, time and
        altitude, such as ``P0001T02193A0``, as the authors' code has it.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            an image has another name, or the numbers differ and ``counts="raise"``.

    Example:
        >>> read_ag_reid("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_ag_reid: there is nothing at no/such/folder; expected ...

    References:
        Nguyen et al., Aerial-Ground Person Re-ID, ICME 2023.
    """
    check_policy(_OWNER, counts)
    tree, _ = locate(_OWNER, path, [(folder,) for folder in _FOLDERS], _LAYOUT)

    records = []
    for folder, split in _FOLDERS.items():
        records += [_record(tree, image, split) for image in tree.images(folder)]
    check_counts(_OWNER, records, _OFFICIAL, counts)
    return records


def _record(tree: FileTree, image: str, split: str) -> ImageRecord:
    """Build the record of an image."""
    match = match_name(_OWNER, tree, image, _NAME, _FORM)
    camera = int(match["camera"])
    return ImageRecord(
        tree.path(image), match["identity"], camera=camera, view=_VIEWS[camera], split=split
    )
