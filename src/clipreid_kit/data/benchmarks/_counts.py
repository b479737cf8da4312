"""What a complete copy of a benchmark holds, compared with what was found."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.data.files.file_tree import FileTree
from clipreid_kit.data.records import ImageRecord

Policy = Literal["warn", "raise", "ignore"]


def check_policy(owner: str, counts: str) -> None:
    """Require a known policy, before anything is read."""
    check_choice(owner, "counts", counts, ("warn", "raise", "ignore"))


def check_counts(
    owner: str,
    records: Sequence[ImageRecord],
    official: Mapping[str, tuple[int | None, int | None]],
    counts: str,
    field: Literal["split", "view"] = "split",
) -> None:
    """Compare images and identities of each split (or view) with the official numbers; ``None`` is not compared."""
    if counts == "ignore":
        return
    different = []
    for name, (images, identities) in official.items():
        chosen = [record for record in records if getattr(record, field) == name]
        found = (len(chosen), len({record.identity for record in chosen}))
        if (images is not None and images != found[0]) or (
            identities is not None and identities != found[1]
        ):
            officially = [
                f"{number} {what}"
                for number, what in ((images, "images"), (identities, "identities"))
                if number
            ]
            different.append(
                f"{name}: {found[0]} images of {found[1]} identities, officially {' of '.join(officially)}"
            )
    if not different:
        return
    expected = "the official number of images and identities"
    remedy = 'A part or a changed copy cannot be compared with published numbers. If it is meant, pass counts="ignore".'
    error = fail(owner, expected, "; ".join(different), remedy)
    if counts == "raise":
        raise error
    warnings.warn(str(error), stacklevel=3)


def require_images(owner: str, tree: FileTree, names: Sequence[str], listed_in: str) -> None:
    """Require that every image that a list names is there."""
    there = set(tree.names)
    missing = [name for name in names if name not in there]
    if missing:
        shown = ", ".join(tree.path(name) for name in missing[:3]) + (
            ", ..." if len(missing) > 3 else ""
        )
        expected = f"an image for each of the {len(names)} rows of {listed_in}"
        raise fail(
            owner, expected, f"{len(missing)} missing: {shown}", "Unpack or fetch the images again."
        )
