"""Build a manifest from the images of each part."""

from collections.abc import Mapping, Sequence

from clipreid_kit.data.manifests._image_keys import ImagesByIdentity
from clipreid_kit.data.manifests.manifest import SplitManifest, checksum


def build_manifest(
    owner: str,
    images: ImagesByIdentity,
    splits: Mapping[str, Sequence[str]],
    *,
    data: str,
    rule: str,
    seed: int | None,
    identities: Mapping[str, int | str] | None = None,
) -> SplitManifest:
    """Build a manifest whose parts are sorted; every part needs an image."""
    empty = [repr(name) for name, keys in splits.items() if not keys]
    if empty:
        num_images = sum(len(group) for group in images.values())
        raise ValueError(
            f"{owner}: {num_images} images of {len(images)} identities leave no image for "
            f"{', '.join(empty)}. Use more data, or another fraction."
        )

    used = {key for keys in splits.values() for key in keys}
    identity_of: dict[str, int | str] = {}
    for identity, group in images.items():
        for key in group:
            if key in used:
                identity_of[key] = identity

    return SplitManifest(
        data=data or "unnamed",
        rule=rule,
        seed=seed,
        splits={name: tuple(sorted(keys)) for name, keys in splits.items()},
        sha256=checksum(identity_of),
        identities=dict(identities or {}),
    )
