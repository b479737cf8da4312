"""The Omniglot handwriting set as re-identification.

An identity is a character, a camera the person who drew it.
"""

import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from clipreid_kit._checks import fail
from clipreid_kit.data.records import ImageRecord


def read_omniglot(
    path: str | os.PathLike[str],
    *,
    query_drawers: int = 4,
    held_out_alphabets: Sequence[str] = (),
) -> list[ImageRecord]:
    """Read ``omniglot-reid/{train,test}/<alphabet>/<character>/<id>_<drawer>.png`` as records.

    Use it for a small real benchmark on which a plain CPU trains in minutes: 136 training and 106 test
    characters of different alphabets, 20 drawings each. A zip archive is read in place. A part of the set is
    read as well, if it has this layout; files other than pictures are ignored.

    Args:
        path: The zip archive, the folder ``omniglot-reid``, or the folder that holds it.
        query_drawers: The test drawings of drawers 1 to ``query_drawers`` are queries, the others the
            gallery; >= 1.
        held_out_alphabets: Training alphabets to take out of ``train``, such as ``("Balinese",)``, for
            choosing settings without looking at the test alphabets. Their drawings get the splits
            ``val_query`` and ``val_gallery`` by the same rule.

    Returns:
        One record for each drawing, ordered by part and path: ``identity`` is ``"alphabet/character"``,
        ``camera`` the drawer (an integer from 1), ``split`` is ``train``, ``query``, ``gallery``,
        ``val_query`` or ``val_gallery``, and ``extra["alphabet"]`` the alphabet.

    Raises:
        ValueError: If the archive or folder is missing or laid out otherwise (what was looked for and what
            was found), a held-out alphabet is no training alphabet, or ``query_drawers < 1``.

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
    if query_drawers < 1:
        raise fail("read_omniglot", "query_drawers >= 1", query_drawers)
    if isinstance(held_out_alphabets, str):
        remedy = f"One alphabet: held_out_alphabets=({held_out_alphabets!r},)."
        raise fail(
            "read_omniglot",
            "held_out_alphabets as a sequence of names",
            repr(held_out_alphabets),
            remedy,
        )
    drawings = _drawings(Path(path))
    known = sorted({alphabet for part, alphabet, _, _, _ in drawings if part == "train"})
    unknown = [name for name in held_out_alphabets if name not in known]
    if unknown:
        expected = f"held_out_alphabets among {', '.join(known)}"
        raise fail("read_omniglot", expected, ", ".join(map(repr, unknown)))
    records = []
    for part, alphabet, character, drawer, file in drawings:
        split = "query" if drawer <= query_drawers else "gallery"
        if part == "train":
            split = f"val_{split}" if alphabet in held_out_alphabets else "train"
        identity = f"{alphabet}/{character}"
        records.append(
            ImageRecord(file, identity, camera=drawer, split=split, extra={"alphabet": alphabet})
        )
    return records


_LAYOUT = "omniglot-reid/{train,test}/<alphabet>/<character>/<id>_<drawer>.png"
_DRAWING = re.compile(
    r"(?:omniglot-reid/)?(?P<part>train|test)/(?P<alphabet>[^/]+)/(?P<character>[^/]+)/[^/]+_(?P<drawer>[0-9]{1,6})\.png"
)
_PICTURE = re.compile(r"(?:omniglot-reid/)?(?:train|test)/.*\.png")


def _drawings(path: Path) -> list[tuple[str, str, str, int, str]]:
    """Find (part, alphabet, character, drawer, record path) of every drawing, training part first."""
    if path.is_dir():
        base = path / "omniglot-reid" if (path / "omniglot-reid").is_dir() else path
        names = sorted(
            file.relative_to(base).as_posix() for file in base.rglob("*") if file.is_file()
        )
        prefix = f"{base}{os.sep}"
    elif path.exists():
        try:
            with zipfile.ZipFile(path) as archive:
                names = sorted(name for name in archive.namelist() if not name.endswith("/"))
        except (OSError, zipfile.BadZipFile) as error:
            remedy = f"The archive holds {_LAYOUT}; fetch it again, or give the unpacked folder."
            raise fail(
                "read_omniglot", f"{path} to be a zip archive or a folder", str(error), remedy
            ) from error
        prefix = f"{path}::"
    else:
        raise fail(
            "read_omniglot",
            f"a zip archive or folder with {_LAYOUT}",
            f"nothing at {path}",
            "Correct the path.",
        )
    drawings = [
        (match["part"], match["alphabet"], match["character"], int(match["drawer"]), prefix + name)
        for name in names
        if (match := _DRAWING.fullmatch(name))
    ]
    stray = [name for name in names if _PICTURE.fullmatch(name) and not _DRAWING.fullmatch(name)]
    if stray:
        got = f"{len(stray)} named otherwise in {path}, such as {stray[0]}"
        raise fail("read_omniglot", f"every picture at {_LAYOUT}", got, "Rename or remove them.")
    for part in ("train", "test"):
        if not any(drawing[0] == part for drawing in drawings):
            found = (
                f"{len(names)} files in {path}, such as {', '.join(names[:3])}"
                if names
                else f"no files in {path}"
            )
            raise fail("read_omniglot", f"drawings at {_LAYOUT}", f"none for {part} among {found}")
    return sorted(drawings, key=lambda drawing: (drawing[0] != "train", drawing[4]))
