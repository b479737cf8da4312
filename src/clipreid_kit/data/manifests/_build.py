"""From images in parts to a manifest."""

from collections.abc import Mapping, Sequence

from clipreid_kit._checks import fail
from clipreid_kit.data.manifests.manifest import SplitManifest, checksum
from clipreid_kit.data.records import ImageRecord

Images = Mapping[int | str, Mapping[str, ImageRecord]]


def build_manifest(
    owner: str,
    images: Images,
    splits: Mapping[str, Sequence[str]],
    *,
    data: str,
    rule: str,
    seed: int | None,
    identities: Mapping[str, int | str] | None = None,
) -> SplitManifest:
    """Put the parts together, each sorted; a part without images is an error."""
    empty = [name for name, keys in splits.items() if not keys]
    if empty:
        total = sum(map(len, images.values()))
        got = f"none in {', '.join(map(repr, empty))} of {total} images of {len(images)} identities"
        raise fail(owner, "images in every part", got, "Give more data, or another fraction.")
    used = {key for keys in splits.values() for key in keys}
    known = {key: identity for identity, group in images.items() for key in group if key in used}
    parts = {name: tuple(sorted(keys)) for name, keys in splits.items()}
    return SplitManifest(
        data or "unnamed", rule, seed, parts, checksum(known), dict(identities or {})
    )
