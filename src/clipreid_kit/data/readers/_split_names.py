"""Names of folders that are splits, and those that are nearly one of the splits to read."""

import re
import warnings
from collections.abc import Iterable, Sequence

from clipreid_kit.data.files.near_names import plain_name

_SPLITS = frozenset(
    {
        "dev",
        "eval",
        "evaluation",
        "gallery",
        "galleries",
        "probe",
        "probes",
        "queries",
        "query",
        "test",
        "testing",
        "train",
        "training",
        "trainval",
        "val",
        "valid",
        "validation",
    }
)

# What is added to these names, as in bounding_box_train, query_images and train2017.
_ADDITIONS = frozenset(
    {
        "all",
        "bounding",
        "box",
        "crop",
        "crops",
        "data",
        "dataset",
        "folder",
        "image",
        "images",
        "img",
        "imgs",
        "photo",
        "photos",
        "set",
        "split",
    }
)

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def is_split_name(name: str) -> bool:
    """Return whether the name of a folder is that of a split, such as ``val`` or ``TestImages``."""
    words = {word.casefold() for word in _WORD.findall(name)}
    rest = _WORD.sub("", name)
    has_other_letters = any(character.isalpha() for character in rest)
    return bool(words & _SPLITS) and words <= _SPLITS | _ADDITIONS and not has_other_letters


def warn_of_near_folders(owner: str, splits: Sequence[str], folders: Iterable[str]) -> None:
    """Warn the caller's caller of folders that are not read, and named nearly as a split that is.

    Args:
        owner: Name of the caller.
        splits: The splits to read.
        folders: The folders beside them.
    """
    split_of = {_plain(split): split for split in splits}
    near = sorted(name for name in set(folders) - set(splits) if _plain(name) in split_of)

    for name in near:
        warnings.warn(
            f"{owner}: the folder {name!r} is not read; its name is nearly that of the split "
            f"{split_of[_plain(name)]!r}. Move its images, or rename it.",
            stacklevel=3,
        )


def _plain(name: str) -> str:
    """Return a name without what separates its words, nor anything that a reader does not see."""
    return re.sub(r"[-_ .]", "", plain_name(name))
