"""LLCM: persons in low light by nine visible and near-infrared cameras."""

import os
import re

from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.benchmarks._text_lists import images_with_identities, listed_identities
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord

_OWNER = "read_llcm"
_LISTS = {"visible": "idx/train_vis.txt", "infrared": "idx/train_nir.txt"}
_TESTED = {"visible": "test_vis", "infrared": "test_nir"}
_TEST_LIST = "idx/test_id.txt"
_NAME = re.compile(r"test_(?:vis|nir)/cam(?P<camera>\d)/(?P<identity>\d+)/[^/]+")
_CAMERA = re.compile(r"cam(\d)(?!\d)|_c0*(\d+)(?!\d)")
_LAYOUT = "LLCM's test_vis, test_nir, idx/train_vis.txt, train_nir.txt and test_id.txt"
_OFFICIAL = {"train": (30921, 713), "test": (15846, 351)}


def read_llcm(path: str | os.PathLike[str], *, counts: Policy = "warn") -> list[ImageRecord]:
    """Read ``LLCM/test_{vis,nir}/cam<camera>/<identity>/*`` and the lists of training images.

    Use it for LLCM, with :class:`LLCMProtocol`. A row of ``idx/train_vis.txt`` or ``train_nir.txt``
    is ``<image> <identity>``; ``idx/test_id.txt`` holds the test identities, separated by commas. A
    zip archive is read in place. The layout is that which the authors' code reads.

    Args:
        path: The folder or zip archive, or a folder above it.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (30,921 images, 713 identities) and ``test`` (15,846, 351),
        with the modality ``visible`` or ``infrared``. Identities are integers; those of ``test``
        are moved behind those of ``train``, whose lists number them anew. Cameras of test images
        are integers from 1 to 9; those of training images are read from ``cam<n>`` or ``_c<n>`` in
        their paths, and are ``None`` without it.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            a row has another form, an image is missing, or the numbers differ and
            ``counts="raise"``.

    Example:
        >>> read_llcm("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_llcm: there is nothing at no/such/folder; expected ...

    References:
        Zhang and Wang, Diverse Embedding Expansion Network and Low-Light Cross-Modality Benchmark
        for Visible-Infrared Person Re-identification, CVPR 2023.
    """
    check_policy(_OWNER, counts)
    needed = [(name,) for name in (*_TESTED.values(), *_LISTS.values(), _TEST_LIST)]
    tree, _ = locate(_OWNER, path, needed, _LAYOUT)

    train = [
        record for modality, file in _LISTS.items() for record in _read_list(tree, file, modality)
    ]
    first = 1 + max((int(record.identity) for record in train), default=-1)
    records = train + _tested(tree, first)
    check_counts(_OWNER, records, _OFFICIAL, counts)
    return records


def _read_list(tree: FileTree, file: str, modality: str) -> list[ImageRecord]:
    """Read the training images of a modality."""
    records = []
    for image, identity in images_with_identities(_OWNER, tree, file):
        match = _CAMERA.search(image)
        camera = None if match is None else int(match[1] or match[2])
        records.append(
            ImageRecord(tree.path(image), identity, camera=camera, split="train", modality=modality)
        )
    return records


def _tested(tree: FileTree, first: int) -> list[ImageRecord]:
    """Read the images of the test identities, numbered from ``first``."""
    listed = set(listed_identities(_OWNER, tree, _TEST_LIST))
    records = []
    for modality, folder in _TESTED.items():
        for image in tree.images(folder):
            match = _NAME.fullmatch(image)
            if match is None or int(match["identity"]) not in listed:
                continue
            records.append(
                ImageRecord(
                    tree.path(image),
                    first + int(match["identity"]),
                    camera=int(match["camera"]),
                    split="test",
                    modality=modality,
                )
            )

    if not records:
        raise ValueError(
            f"{_OWNER}: {tree.path(_TEST_LIST)} names no identity with images in "
            f"{' or '.join(_TESTED.values())}. Download the set again."
        )
    return records
