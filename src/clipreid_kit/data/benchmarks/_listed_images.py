"""Check that the images that a benchmark's list names exist."""

from collections.abc import Sequence

from clipreid_kit.data.files.file_tree import FileTree


def require_images(owner: str, tree: FileTree, names: Sequence[str], listed_in: str) -> None:
    """Raise ValueError if an image that a list names is missing."""
    existing = set(tree.names)
    missing = [tree.path(name) for name in names if name not in existing]
    if missing:
        more = ", ..." if len(missing) > 3 else ""
        raise ValueError(
            f"{owner}: {len(missing)} of the {len(names)} images in {listed_in} are missing: "
            f"{', '.join(missing[:3])}{more}. Unpack or download the images again."
        )
