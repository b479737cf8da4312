"""Choose the engine of an index by its address: a folder, or Milvus."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.engines.folder_store import FolderStore, build_folder, folder_to_build
from clipreid_kit.retrieval.engines.gallery_store import GalleryStore, StoreFacts
from clipreid_kit.retrieval.engines.milvus_connection import (
    MilvusConnection,
    is_milvus,
    parse_address,
)
from clipreid_kit.retrieval.engines.milvus_store import MilvusStore, build_milvus
from clipreid_kit.retrieval.exact.device_rows import search_device

Build = Callable[[StoreFacts, EmbeddingRows, Sequence[ImageRecord] | None], GalleryStore]


class BuildingSite(NamedTuple):
    """A place that a new index goes to, checked to be free.

    Attributes:
        address: Where the index is then opened.
        path: Its folder or file; ``None`` on a server.
        build: Writes the index.
    """

    address: str | Path
    path: Path | None
    build: Build


def open_store(
    owner: str,
    store: str | os.PathLike[str],
    token: str | None,
    device: str | torch.device | None = None,
) -> GalleryStore:
    """Open the store at an address.

    Raises:
        ValueError: If there is no index, it cannot be reached, or the device is not there.
    """
    found = _device_of(owner, store, device)
    if not is_milvus(store):
        return FolderStore(Path(store), found)

    connection = MilvusConnection(owner, parse_address(owner, store), token)
    return MilvusStore(owner, connection)


def building_site(
    owner: str,
    store: str | os.PathLike[str],
    token: str | None,
    approximate: str | None,
    device: str | torch.device | None = None,
) -> BuildingSite:
    """Find out whether a new index can go to an address, before anything is encoded for it.

    Args:
        owner: Name of the caller.
        store: The address.
        token: Of a Milvus server.
        approximate: A factory string of faiss for a folder; ``None`` for none.
        device: Where the index will be searched.

    Raises:
        ValueError: If there is something already, it cannot be reached, or the device is not there.
    """
    _device_of(owner, store, device)
    if not is_milvus(store):
        path = folder_to_build(owner, Path(store))
        return BuildingSite(
            path,
            path,
            lambda facts, rows, records: build_folder(
                owner, path, facts, rows, records, approximate
            ),
        )

    if approximate is not None:
        raise ValueError(
            f"{owner}: an approximate structure of faiss goes with a folder; Milvus compares all "
            "vectors. Leave out approximate."
        )
    connection = MilvusConnection(owner, parse_address(owner, store), token)
    return BuildingSite(
        connection.address.name,
        connection.address.path,
        lambda facts, rows, records: build_milvus(owner, connection, facts, rows, records),
    )


def _device_of(
    owner: str, store: str | os.PathLike[str], device: str | torch.device | None
) -> torch.device | None:
    """Return the device to search on, ``None`` for the CPU, if it is there."""
    if device is None:
        return None

    found = search_device(owner, device)
    if is_milvus(store):
        raise ValueError(f"{owner}: Milvus searches where it runs; leave out device=.")
    return found
