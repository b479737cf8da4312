"""Comparison of a benchmark's images and identities with its official numbers."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

from clipreid_kit._checks import check_choice
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
    """Compare each split (or view) with its official number of images and of identities.

    A number that is ``None`` is not compared. A warning points at the caller of the reader.
    """
    if counts == "ignore":
        return

    differences = []
    for name, (num_images, num_identities) in official.items():
        of_name = [record for record in records if getattr(record, field) == name]
        found_images = len(of_name)
        found_identities = len({record.identity for record in of_name})

        same_images = num_images in (None, found_images)
        same_identities = num_identities in (None, found_identities)
        if not (same_images and same_identities):
            differences.append(
                f"{name} has {found_images} images of {found_identities} identities, officially "
                f"{_describe(num_images, num_identities)}"
            )

    if not differences:
        return
    message = (
        f"{owner}: {'; '.join(differences)}. Results on a part of the set or on a changed copy "
        'cannot be compared with published ones. If this is intended, pass counts="ignore".'
    )
    if counts == "raise":
        raise ValueError(message)
    warnings.warn(message, stacklevel=3)


def _describe(num_images: int | None, num_identities: int | None) -> str:
    """Return official numbers in words."""
    words = []
    if num_images is not None:
        words.append(f"{num_images} images")
    if num_identities is not None:
        words.append(f"{num_identities} identities")
    return " of ".join(words)
