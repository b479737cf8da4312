"""RSTPReid: persons of MSMT17 in five images each, with two descriptions of each image."""

import os
import re

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

_LAYOUT = "RSTPReid's imgs and data_captions.json"
_FILE = "data_captions.json"
_OFFICIAL = {"train": (18505, 3701), "val": (1000, 200), "test": (1000, 200)}

_CAMERA = re.compile(r"(?:^|/)\d+_c(?P<camera>\d+)_[^/]*$")  # 0000_c14_0031.jpg


def read_rstpreid(
    path: str | os.PathLike[str],
    *,
    captions: Captions = "first",
    counts: Policy = "warn",
) -> list[ImageRecord]:
    """Read ``RSTPReid/imgs/*.jpg`` with the captions and splits of ``data_captions.json``.

    Use it for text-to-image person search, with :class:`TextToPersonProtocol`. A zip archive is
    read in place.

    Args:
        path: The folder or zip archive, or a folder above it.
        captions: As for :func:`read_cuhk_pedes`. An image has two captions here.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (18,505 images, 3,701 identities), ``val`` (1,000, 200) and
        ``test`` (1,000, 200), in the order of the file. Identities are integers; cameras are the
        numbers in the names of files.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            an entry lacks a key, an image is missing, or the numbers differ and ``counts="raise"``.

    Example:
        >>> read_rstpreid("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_rstpreid: there is nothing at no/such/folder; expected ...

    References:
        Zhu et al., DSSL: Deep Surroundings-person Separation Learning for Text-based Person
        Retrieval, ACM Multimedia 2021.
    """
    check_policy("read_rstpreid", counts)
    check_captions("read_rstpreid", captions)
    tree, _ = locate("read_rstpreid", path, [(IMAGES,), (_FILE,)], _LAYOUT)

    records = read_described_persons(
        "read_rstpreid", tree, _FILE, image_key="img_path", camera=_CAMERA
    )
    check_counts("read_rstpreid", records, _OFFICIAL, counts)
    return chosen_captions(records, captions)
