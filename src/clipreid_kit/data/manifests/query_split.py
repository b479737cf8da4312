"""Divide test images into queries and a gallery, once."""

import os
from collections.abc import Sequence

from clipreid_kit._checks import check_integer
from clipreid_kit.data.manifests._build_manifest import build_manifest
from clipreid_kit.data.manifests._image_keys import images_of, keys_except, shuffled
from clipreid_kit.data.manifests._query_choice import choose_queries
from clipreid_kit.data.manifests.manifest import SplitManifest
from clipreid_kit.data.records import ImageRecord


def split_queries(
    records: Sequence[ImageRecord],
    *,
    query_images: int = 1,
    names: tuple[str, str] = ("query", "gallery"),
    seed: int = 0,
    data: str = "",
    root: str | os.PathLike[str] | None = None,
) -> SplitManifest:
    """Divide test images at random into queries and one gallery, so that each query has a match.

    Use it for test images without official queries. A query keeps a gallery image of its identity,
    from another camera if cameras are known; an identity that can give no query is in the gallery
    alone. For several random splits, use :func:`split_query_gallery`.

    Args:
        records: Test records only.
        query_images: Maximum number of queries of an identity, >= 1.
        names: Names of the two parts.
        seed: Seed of the draw, >= 0. A draw depends on the seed and the names of images.
        data: Name of the data, for the manifest.
        root: Folder that the manifest's paths are relative to; ``None`` means the deepest folder
            that holds all images.

    Returns:
        A manifest whose two parts hold every image exactly once.

    Raises:
        ValueError: If there are no records, or no identity gives a query.

    Example:
        >>> records = [ImageRecord(f"{n}.jpg", n // 3, camera=n % 3) for n in range(7)]
        >>> manifest = split_queries(records)
        >>> {name: len(keys) for name, keys in manifest.splits.items()}
        {'query': 2, 'gallery': 5}
    """
    owner = "split_queries"
    check_integer(owner, "query_images", query_images, 1)
    check_integer(owner, "seed", seed, 0)

    images = images_of(owner, records, root)
    queries: list[str] = []
    for group in images.values():
        queries += choose_queries(group, shuffled(group, seed, "query"), query_images)

    if not queries:
        raise ValueError(
            f"{owner}: none of the {len(images)} identities has images from two cameras (or two "
            "images, if cameras are unknown), so that no query would have a match. Add images."
        )

    query, gallery = names
    splits = {query: queries, gallery: keys_except(images, set(queries))}
    rule = f"at most {query_images} random queries of each identity"
    return build_manifest(owner, images, splits, data=data, rule=rule, seed=seed)
