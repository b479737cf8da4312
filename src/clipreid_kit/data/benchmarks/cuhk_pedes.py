"""CUHK-PEDES: persons described in sentences."""

import os

from clipreid_kit.data.benchmarks._described_persons import (
    IMAGES,
    Captions,
    check_captions,
    chosen_captions,
    read_described_persons,
)
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.files.file_tree import locate
from clipreid_kit.data.records import ImageRecord

_LAYOUT = "CUHK-PEDES's imgs and reid_raw.json"
_FILE = "reid_raw.json"
_OFFICIAL = {"train": (34054, 11003), "val": (3078, 1000), "test": (3074, 1000)}


def read_cuhk_pedes(
    path: str | os.PathLike[str],
    *,
    captions: Captions = "first",
    counts: Policy = "warn",
) -> list[ImageRecord]:
    """Read ``CUHK-PEDES/imgs/**`` with the captions and splits of ``reid_raw.json``.

    Use it for text-to-image person search, with :class:`TextToPersonProtocol`. A zip archive is
    read in place.

    Args:
        path: The folder or zip archive, or a folder above it.
        captions: ``"first"`` returns a record for each image, with its further captions in
            ``extra`` as ``caption_2``, ``caption_3``, ...; ``"each"`` returns a record for each
            caption, so that an image occurs as often as it has captions.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (34,054 images, 11,003 identities), ``val`` (3,078, 1,000) and
        ``test`` (3,074, 1,000), in the order of the file. Identities are integers; there are no
        cameras.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            an entry lacks a key, an image is missing, or the numbers differ and ``counts="raise"``.

    Example:
        >>> read_cuhk_pedes("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_cuhk_pedes: there is nothing at no/such/folder; expected ...

    References:
        Li et al., Person Search with Natural Language Description, CVPR 2017.
    """
    check_policy("read_cuhk_pedes", counts)
    check_captions("read_cuhk_pedes", captions)
    tree, _ = locate("read_cuhk_pedes", path, [(IMAGES,), (_FILE,)], _LAYOUT)

    records = read_described_persons("read_cuhk_pedes", tree, _FILE)
    check_counts("read_cuhk_pedes", records, _OFFICIAL, counts)
    return chosen_captions(records, captions)
