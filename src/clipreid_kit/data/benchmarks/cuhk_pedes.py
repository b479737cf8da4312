"""CUHK-PEDES: persons, described in sentences."""

import json
import os
from typing import Literal

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.data.benchmarks._counts import Policy, check_counts, check_policy, require_images
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord


def read_cuhk_pedes(
    path: str | os.PathLike[str],
    *,
    captions: Literal["first", "each"] = "first",
    counts: Policy = "warn",
) -> list[ImageRecord]:
    """Read ``CUHK-PEDES/imgs/**`` with the captions and splits of ``reid_raw.json``.

    Use it for text-to-image person search. A zip archive is read in place.

    Args:
        path: The folder or zip archive, or a folder above it.
        captions: ``"first"`` gives a record for each image, with its other captions in ``extra`` as
            ``caption_2``, ``caption_3``, ...; ``"each"`` a record for each caption, so that an image occurs
            as often as it has captions.
        counts: If a split has other than its official numbers: ``"warn"``, ``"raise"`` a ``ValueError``, or
            ``"ignore"`` it, for a part of the set.

    Returns:
        Records with splits ``train`` (34,054 images, 11,003 identities), ``val`` (3,078, 1,000) and ``test``
        (3,074, 1,000), in the file's order; integers for identities, no cameras.

    Raises:
        ValueError: If the layout is another one (what was looked for and what was found), an entry lacks a
            key, an image is missing, or the counts differ and shall not.

    Example:
        >>> read_cuhk_pedes("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_cuhk_pedes: expected a folder or zip archive with CUHK-PEDES's imgs and reid_raw.json, ...
    """
    check_policy("read_cuhk_pedes", counts)
    check_choice("read_cuhk_pedes", "captions", captions, ("first", "each"))
    tree, _ = locate(
        "read_cuhk_pedes",
        path,
        [("imgs",), ("reid_raw.json",)],
        "CUHK-PEDES's imgs and reid_raw.json",
    )
    entries = _entries(tree)
    require_images("read_cuhk_pedes", tree, [image for image, *_ in entries], "reid_raw.json")
    once = [
        ImageRecord(
            tree.path(image),
            identity,
            caption=texts[0],
            split=split,
            extra={f"caption_{number}": text for number, text in enumerate(texts[1:], start=2)},
        )
        for image, identity, split, texts in entries
    ]
    check_counts("read_cuhk_pedes", once, _OFFICIAL, counts)
    if captions == "first":
        return once
    return [
        ImageRecord(tree.path(image), identity, caption=text, split=split)
        for image, identity, split, texts in entries
        for text in texts
    ]


_OFFICIAL = {"train": (34054, 11003), "val": (3078, 1000), "test": (3074, 1000)}


def _entries(tree: FileTree) -> list[tuple[str, int, str, list[str]]]:
    """Read (image, identity, split, captions) of each entry."""
    try:
        content = json.loads(tree.text("read_cuhk_pedes", "reid_raw.json"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise fail(
            "read_cuhk_pedes", "reid_raw.json as JSON", str(error), "Fetch it again."
        ) from error
    if not isinstance(content, list) or not content:
        got = (
            f"{type(content).__name__} of {len(content)}"
            if isinstance(content, dict | list)
            else repr(content)
        )
        raise fail("read_cuhk_pedes", "a list of entries in reid_raw.json", got, "Fetch it again.")
    entries = []
    for number, entry in enumerate(content, start=1):
        values = (
            [entry.get(key) for key in ("file_path", "id", "split", "captions")]
            if isinstance(entry, dict)
            else []
        )
        match values:
            case [str(image), int(identity), str(split), [str(), *_] as texts] if all(
                isinstance(t, str) for t in texts
            ):
                entries.append((f"imgs/{image}", identity, split, texts))
            case _:
                expected = "file_path, id, split and captions in each entry of reid_raw.json"
                raise fail(
                    "read_cuhk_pedes",
                    expected,
                    f"{str(entry)[:120]} as entry {number}",
                    "Fetch it again.",
                )
    return entries
