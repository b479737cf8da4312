"""Random query and gallery splits of test images (Monte Carlo)."""

import os
from collections.abc import Sequence

from clipreid_kit._checks import check_integer
from clipreid_kit.data.manifests._build_manifest import build_manifest
from clipreid_kit.data.manifests._image_keys import draw_images, images_of, keys_except
from clipreid_kit.data.manifests.manifest import SplitManifest
from clipreid_kit.data.records import ImageRecord


def split_query_gallery(
    records: Sequence[ImageRecord],
    *,
    distractors: Sequence[ImageRecord] = (),
    num_splits: int = 10,
    gallery_images: int = 1,
    seed: int = 0,
    data: str = "",
    root: str | os.PathLike[str] | None = None,
) -> SplitManifest:
    """Draw gallery images of every identity, several times over; its remaining images are queries.

    Use it for test images without official queries: VehicleID, hands, your own data. Report mean
    and spread over the splits.

    Args:
        records: Test records only.
        distractors: Records for every gallery that match no query; their identities must not occur
            in ``records``.
        num_splits: Number N of splits, >= 1; parts are named ``query0``, ``gallery0``, ...,
            ``query<N-1>``, ``gallery<N-1>``.
        gallery_images: Gallery images of each identity, >= 1. An identity with no more images than
            that is in the gallery only.
        seed: Seed of the draws, >= 0. A draw depends on the seed, the split's number and the names
            of images.
        data: Name of the data, for the manifest.
        root: Folder that the manifest's paths are relative to; ``None`` means the deepest folder
            that holds all images.

    Returns:
        A manifest in which ``query<n>`` and ``gallery<n>`` together hold every image exactly once,
        for each n.

    Raises:
        ValueError: If there are no records, no identity has an image left for a query, or a
            distractor has an identity of the records.

    Example:
        >>> records = [ImageRecord(f"{n}.jpg", n // 3) for n in range(6)]
        >>> manifest = split_query_gallery(records, num_splits=2)
        >>> {name: len(keys) for name, keys in manifest.splits.items()}
        {'query0': 4, 'gallery0': 2, 'query1': 4, 'gallery1': 2}
    """
    owner = "split_query_gallery"
    check_integer(owner, "num_splits", num_splits, 1)
    check_integer(owner, "gallery_images", gallery_images, 1)
    check_integer(owner, "seed", seed, 0)

    tested = {record.identity for record in records}
    shared = tested & {record.identity for record in distractors}
    if shared:
        raise ValueError(
            f"{owner}: {len(shared)} identities of the distractors are tested, such as "
            f"{next(iter(shared))!r}. Give distractors other identities: they match no query."
        )

    images = images_of(owner, [*records, *distractors], root)
    tested_images = {identity: group for identity, group in images.items() if identity in tested}
    distractor_images = [
        key for identity, group in images.items() if identity not in tested for key in group
    ]

    splits: dict[str, list[str]] = {}
    for number in range(num_splits):
        gallery = draw_images(tested_images, gallery_images, seed, f"gallery{number}")
        splits[f"query{number}"] = keys_except(tested_images, set(gallery))
        splits[f"gallery{number}"] = [*gallery, *distractor_images]

    rule = (
        f"{num_splits} draws of {gallery_images} gallery images an identity, "
        f"{len(distractor_images)} distractors"
    )
    return build_manifest(owner, images, splits, data=data, rule=rule, seed=seed)
