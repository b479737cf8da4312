"""RegDB: persons by a visible and a thermal camera, in ten splits."""

import os

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.benchmarks._text_lists import images_with_identities
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord

_OWNER = "read_regdb"
_NUM_SPLITS = 10
_CAMERAS = {"visible": 1, "thermal": 2}
_OFFICIAL = {"train": (4120, 206), "test": (4120, 206)}


def read_regdb(
    path: str | os.PathLike[str], *, split: int = 1, counts: Policy = "warn"
) -> list[ImageRecord]:
    """Read ``RegDB/Visible`` and ``RegDB/Thermal`` by the lists ``idx/*_<split>.txt``.

    Use it for RegDB, with :class:`CrossModalityProtocol`. Each split is trained and tested by
    itself; published figures are means over all ten. A row of ``idx/train_visible_<split>.txt``,
    ``train_thermal_``, ``test_visible_`` or ``test_thermal_<split>.txt`` is
    ``Visible/<person>/<image>.bmp <identity>``. A zip archive is read in place. The layout is that
    which published code reads, of the set as its readers use it since 2018.

    Args:
        path: The folder or zip archive, or a folder above it.
        split: Which of the ten splits, from 1 to 10.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` and ``test`` (4,120 images of 206 identities each, half of
        them ``visible`` and half ``thermal`` by their modality), in the order of the lists.
        Identities are integers; those of ``test``, whose lists number them from 0 again, follow
        those of ``train``. The camera is 1 for visible and 2 for thermal images.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            a row has another form, an image is missing, or the numbers differ and
            ``counts="raise"``.

    Example:
        >>> read_regdb("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_regdb: there is nothing at no/such/folder; expected ...

    References:
        Nguyen et al., Person Recognition System Based on a Combination of Body Images from Visible
        Light and Thermal Cameras, Sensors 2017. Ye et al., Hierarchical Discriminative Learning for
        Visible Thermal Person Re-Identification, AAAI 2018 (the splits).
    """
    check_policy(_OWNER, counts)
    check_integer(_OWNER, "split", split, 1)
    if split > _NUM_SPLITS:
        raise fail(_OWNER, f"split from 1 to {_NUM_SPLITS}", split)

    files = {
        (part, modality): f"idx/{part}_{modality}_{split}.txt"
        for part in ("train", "test")
        for modality in _CAMERAS
    }
    needed = [("Visible",), ("Thermal",), *((file,) for file in files.values())]
    layout = f"RegDB's Visible, Thermal and {', '.join(files.values())}"
    tree, _ = locate(_OWNER, path, needed, layout)

    records: list[ImageRecord] = []
    first = 0
    for part in ("train", "test"):
        of_part = [
            record
            for modality in _CAMERAS
            for record in _read_list(tree, files[part, modality], part, modality, first)
        ]
        records += of_part
        first = 1 + max((int(record.identity) for record in of_part), default=-1)

    check_counts(_OWNER, records, _OFFICIAL, counts)
    return records


def _read_list(
    tree: FileTree, file: str, split: str, modality: str, first: int
) -> list[ImageRecord]:
    """Read the records of a list; its identities are numbered from ``first``."""
    return [
        ImageRecord(
            tree.path(image),
            first + identity,
            camera=_CAMERAS[modality],
            split=split,
            modality=modality,
        )
        for image, identity in images_with_identities(_OWNER, tree, file)
    ]
