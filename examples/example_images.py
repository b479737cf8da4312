"""Images for the examples: a folder of yours, Omniglot, or a generated set."""

from pathlib import Path

from clipreid_kit.data import ImageRecord, SyntheticReid, read_folder, read_omniglot


def read_images(arguments: list[str]) -> list[ImageRecord]:
    """Read the images that the command line names, or generate some in ``runs/generated-images``.

    Args:
        arguments: The path of a folder with ``train/``, ``query/`` and ``gallery/``, each with a
            folder of images per identity; or of Omniglot's zip file. Empty for generated images.
    """
    if not arguments:
        return SyntheticReid(200, views_per_camera=2).write("runs/generated-images")

    path = Path(arguments[0])
    if path.name.startswith("omniglot"):
        return read_omniglot(path)
    return read_folder(path, splits=("train", "query", "gallery"))
