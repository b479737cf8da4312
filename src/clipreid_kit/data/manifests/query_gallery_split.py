"""Random query and gallery splits of test images (Monte-Carlo), and the protocol of the hand data sets."""

import os
from collections.abc import Mapping, Sequence

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.manifests._build import build_manifest
from clipreid_kit.data.manifests._keys import images_of, shuffled
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
    """Draw gallery images of every identity, several times over; all its other images are queries.

    Use it for test images without official queries: VehicleID, hands, data of your own. Report mean and
    spread over the splits.

    Args:
        records: Test records alone.
        distractors: Records that are in every gallery and nobody's match, with identities of their own.
        num_splits: N >= 1; parts are named ``query0``, ``gallery0``, ..., ``query<N-1>``, ``gallery<N-1>``.
        gallery_images: Gallery images of each identity, >= 1. An identity with no more than that is in the
            gallery only.
        seed: Any whole number >= 0. A draw depends on the seed, the split's number and the names of images.
        data: Name of the data, for the manifest.
        root: Folder that the manifest's paths begin at; ``None`` means the deepest that holds all images.

    Returns:
        A manifest in which the parts ``query<n>`` and ``gallery<n>`` of each n hold every image exactly once.

    Raises:
        ValueError: If there are no records, no identity has an image left for a query, or a distractor has an
            identity of the records.

    Example:
        >>> records = [ImageRecord(f"{n}.jpg", n // 3) for n in range(6)]
        >>> manifest = split_query_gallery(records, num_splits=2)
        >>> {name: len(keys) for name, keys in manifest.splits.items()}
        {'query0': 4, 'gallery0': 2, 'query1': 4, 'gallery1': 2}
    """
    check_integer("split_query_gallery", "num_splits", num_splits, 1)
    check_integer("split_query_gallery", "gallery_images", gallery_images, 1)
    check_integer("split_query_gallery", "seed", seed, 0)
    tested = {record.identity for record in records}
    both = tested & {record.identity for record in distractors}
    if both:
        got = f"{len(both)} that are tested, such as {next(iter(both))!r}"
        remedy = "A distractor is nobody's match: give it another identity."
        raise fail("split_query_gallery", "distractors with identities of their own", got, remedy)
    images = images_of("split_query_gallery", [*records, *distractors], root)
    own = {identity: group for identity, group in images.items() if identity in tested}
    others = [key for identity, group in images.items() if identity not in tested for key in group]
    splits: dict[str, list[str]] = {}
    for number in range(num_splits):
        gallery = draw(own, gallery_images, seed, f"gallery{number}")
        drawn = set(gallery)
        splits[f"query{number}"] = [
            key for group in own.values() for key in group if key not in drawn
        ]
        splits[f"gallery{number}"] = [*gallery, *others]
    rule = f"{num_splits} draws of {gallery_images} gallery images an identity, {len(others)} distractors"
    return build_manifest("split_query_gallery", images, splits, data=data, rule=rule, seed=seed)


def draw(
    images: Mapping[int | str, Mapping[str, ImageRecord]], number: int, seed: int, purpose: str
) -> list[str]:
    """Draw some images of each identity at random."""
    return [key for group in images.values() for key in shuffled(group, seed, purpose)[:number]]
