"""The index that a command works on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clipreid_kit.retrieval import GalleryIndex

_MOST_BYTES = 4096  # of a file with a token

STORE_HELP = "Folder of the index; milvus:FILE.db or milvus:http://HOST:PORT for Milvus."

StoreArgument = Annotated[str, typer.Argument(help=STORE_HELP)]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--milvus-token-file",
        help="File with the token, or user:password, of a Milvus server; the environment variable "
        "MILVUS_TOKEN without it.",
    ),
]


def open_index(store: str, token_file: Path | None = None) -> "GalleryIndex":
    """Open the index that a command was given.

    Raises:
        ValueError: If there is none, or the token cannot be read or is refused.
    """
    return open_indexes([store], token_file)[0]


def open_indexes(stores: "list[str]", token_file: Path | None = None) -> "list[GalleryIndex]":
    """Open the indexes that a command was given.

    Raises:
        ValueError: If there is none, or the token cannot be read or is refused.
    """
    from clipreid_kit.retrieval import GalleryIndex

    token = read_token(token_file, stores)
    for store in stores:
        _check_folder(store)
    return [GalleryIndex.open(store, token=token) for store in stores]


def check_free(store: str) -> None:
    """Require that a new index can go to a folder, before a model is opened for it.

    Raises:
        ValueError: If there is something already, or the folder cannot be made.
    """
    from clipreid_kit.retrieval.engines.folder_store import folder_to_build

    if not store.startswith("milvus:"):
        folder_to_build("index build", Path(store))


def check_structure(store: str, index: "GalleryIndex") -> None:
    """Require an approximate structure.

    Raises:
        ValueError: If an index with images has none.
    """
    if len(index) > 0 and index.info().approximate is None and not store.startswith("milvus:"):
        raise ValueError(
            f"{store} has no approximate structure. `clipreid index approximate {store} HNSW32` "
            "builds one."
        )


def _check_folder(store: str) -> None:
    """Raise ValueError if a folder is missing, or holds other things than an index."""
    from clipreid_kit.retrieval.store.manifest import NAME

    folder = Path(store)
    if store.startswith("milvus:") or folder.is_file() or (folder / NAME).exists():
        return

    problem = f"{store} is not an index" if folder.is_dir() else f"there is no index {store}"
    raise ValueError(
        f"{problem}. `clipreid index build {_new_name(folder)} MODEL IMAGES` makes one."
    )


def _new_name(folder: Path) -> Path:
    """Return the name of an index to build, which must be that of no other folder."""
    return folder.with_name(f"{folder.name}.index") if folder.is_dir() else folder


def counted_images(number: int) -> str:
    """Write a number of images.

    >>> counted_images(1), counted_images(2)
    ('1 image', '2 images')
    """
    return f"{number} image" if number == 1 else f"{number} images"


def read_token(file: Path | None, stores: "list[str]") -> str | None:
    """Read the token of a Milvus server: the one line of a file.

    A token among the arguments of a command would be seen by every user of the machine.

    Args:
        file: The file; ``None`` for no token.
        stores: The indexes of the command.

    Raises:
        ValueError: If the file holds anything else, or no index is on a server.
    """
    if file is None:
        return None
    if not any(store.startswith("milvus:") and "://" in store for store in stores):
        raise ValueError(
            f"--milvus-token-file has no effect: {', '.join(stores)} is not on a server of Milvus."
        )

    from clipreid_kit._read_files import open_file

    try:
        with open_file(file) as stream:
            lines = stream.read(_MOST_BYTES).decode("utf-8", "replace").split()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"--milvus-token-file {file}: {reason}.") from error

    if len(lines) != 1:
        raise ValueError(
            f"--milvus-token-file {file}: write the token, or user:password, on its one line."
        )
    return lines[0]
