"""Omniglot handwriting as re-identification: identities are characters, cameras their drawers."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipreid_kit._checks import check_integer, fail
from clipreid_kit._read_files import is_folder
from clipreid_kit.data.files.file_tree import FileTree, open_tree
from clipreid_kit.data.records import ImageRecord

_LAYOUT = "omniglot-reid/{train,test}/<alphabet>/<character>/<id>_<drawer>.png"
_DRAWING = re.compile(
    r"(?:omniglot-reid/)?(?P<part>train|test)/(?P<alphabet>[^/]+)/(?P<character>[^/]+)"
    r"/[^/]+_(?P<drawer>[0-9]{1,6})\.png"
)
_IMAGE = re.compile(r"(?:omniglot-reid/)?(?:train|test)/.*\.png")


def read_omniglot(
    path: str | os.PathLike[str],
    *,
    query_drawers: int = 4,
    held_out_alphabets: Sequence[str] = (),
) -> list[ImageRecord]:
    """Read ``omniglot-reid/{train,test}/<alphabet>/<character>/<id>_<drawer>.png`` as records.

    Use it for a small real benchmark on which a CPU trains in minutes: 136 training and 106 test
    characters of different alphabets, 20 drawings each. A zip archive is read in place. A part of
    the set is read as well if it has this layout; files that are not images are ignored.

    Args:
        path: The zip archive, the folder ``omniglot-reid``, or the folder that holds it.
        query_drawers: Test drawings of drawers 1 to ``query_drawers`` are queries, all others the
            gallery; >= 1.
        held_out_alphabets: Training alphabets to take out of ``train``, such as ``("Balinese",)``,
            to choose settings without the test alphabets. Their drawings have the splits
            ``val_query`` and ``val_gallery`` by the same rule.

    Returns:
        One record for each drawing, ordered by part and path: ``identity`` is
        ``"alphabet/character"``, ``camera`` the drawer (an integer from 1), ``split`` is ``train``,
        ``query``, ``gallery``, ``val_query`` or ``val_gallery``, and ``extra["alphabet"]`` the
        alphabet.

    Raises:
        ValueError: If the archive or folder is missing or has another layout (the message names the
            expected and the found files), a held-out alphabet is not a training alphabet, or
            ``query_drawers < 1``.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("train/Greek/character01/1_01.png", "test/Latin/character02/2_05.png"):
        ...         file = pathlib.Path(root, "omniglot-reid", name)
        ...         file.parent.mkdir(parents=True)
        ...         file.touch()
        ...     records = read_omniglot(root)
        >>> [(record.identity, record.camera, record.split) for record in records]
        [('Greek/character01', 1, 'train'), ('Latin/character02', 5, 'gallery')]
    """
    check_integer("read_omniglot", "query_drawers", query_drawers, 1)
    if isinstance(held_out_alphabets, str):
        remedy = f"One alphabet: held_out_alphabets=({held_out_alphabets!r},)."
        expected = "held_out_alphabets as a sequence of names"
        raise fail("read_omniglot", expected, repr(held_out_alphabets), remedy)

    folder = Path(path, "omniglot-reid")
    tree = open_tree("read_omniglot", folder if is_folder(folder) else path, _LAYOUT)
    drawings = _find_drawings(tree)
    _check_alphabets(drawings, held_out_alphabets)

    records = []
    for drawing in drawings:
        split = "query" if drawing.drawer <= query_drawers else "gallery"
        if drawing.part == "train":
            is_held_out = drawing.alphabet in held_out_alphabets
            split = f"val_{split}" if is_held_out else "train"

        records.append(
            ImageRecord(
                drawing.path,
                f"{drawing.alphabet}/{drawing.character}",
                camera=drawing.drawer,
                split=split,
                extra={"alphabet": drawing.alphabet},
            )
        )
    return records


@dataclass(frozen=True, slots=True)
class _Drawing:
    """One drawing, by its path."""

    part: str
    alphabet: str
    character: str
    drawer: int
    path: str


def _find_drawings(tree: FileTree) -> list[_Drawing]:
    """Find every drawing of a tree, the training part first."""
    drawings: list[_Drawing] = []
    stray: list[str] = []
    for name in tree.names:
        match = _DRAWING.fullmatch(name)
        if match is not None:
            part, alphabet, character = match["part"], match["alphabet"], match["character"]
            drawings.append(
                _Drawing(part, alphabet, character, int(match["drawer"]), tree.path(name))
            )
        elif _IMAGE.fullmatch(name):
            stray.append(name)

    if stray:
        raise ValueError(
            f"read_omniglot: {len(stray)} images in {tree.root} are not at {_LAYOUT}, such as "
            f"{stray[0]}. Rename or remove them."
        )
    for part in ("train", "test"):
        if not any(drawing.part == part for drawing in drawings):
            found = ", ".join(tree.names[:3]) or "no files"
            raise ValueError(
                f"read_omniglot: there is no {part} drawing at {_LAYOUT} in {tree.root}; found "
                f"{len(tree.names)} files: {found}."
            )

    return sorted(drawings, key=lambda drawing: (drawing.part != "train", drawing.path))


def _check_alphabets(drawings: Sequence[_Drawing], held_out_alphabets: Sequence[str]) -> None:
    """Raise ValueError if a held-out alphabet is not a training alphabet."""
    known = sorted({drawing.alphabet for drawing in drawings if drawing.part == "train"})
    unknown = [name for name in held_out_alphabets if name not in known]
    if unknown:
        raise fail(
            "read_omniglot",
            f"held_out_alphabets among {', '.join(known)}",
            ", ".join(map(repr, unknown)),
        )
