"""Choose the queries of an identity so that each keeps a match among its other images."""

from collections.abc import Mapping, Sequence

from clipreid_kit.data.records import ImageRecord


def choose_queries(images: Mapping[str, ImageRecord], order: Sequence[str], most: int) -> list[str]:
    """Choose queries in the given order, so that each keeps a match among the remaining images."""
    chosen: list[str] = []
    for key in order:
        attempt = [*chosen, key]
        if _all_have_matches(images, attempt):
            chosen = attempt
        if len(chosen) == most:
            break

    return chosen


def _all_have_matches(images: Mapping[str, ImageRecord], queries: Sequence[str]) -> bool:
    """Check that each query has a remaining image, from another camera if cameras are known."""
    remaining = {record.camera for key, record in images.items() if key not in queries}
    if not remaining:
        return False

    for key in queries:
        camera = images[key].camera
        if camera is not None and not remaining - {camera}:
            return False

    return True
