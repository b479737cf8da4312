"""An index that is served: its newest state, its encoder, and the images of its records."""

import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from clipreid_kit.data.images.load_image import decode_image, load_image
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.encoding.encoder import Encoder
from clipreid_kit.retrieval.engines.milvus_connection import PREFIX, is_milvus
from clipreid_kit.retrieval.gallery_index import GalleryIndex
from clipreid_kit.retrieval.page.column_choices import column_choices
from clipreid_kit.retrieval.page.joined_searches import JoinedSearches
from clipreid_kit.retrieval.page.request_error import RequestError

_KEPT_EMBEDDINGS = 512
_MILVUS_SECONDS = 2.0  # between two questions whether an index in Milvus has changed


class IndexState:
    """An index at one moment: all that one answer says comes from one of these.

    Args:
        index: The index, which nobody reloads.
        encoder: Its encoder; ``None`` if there is none.
        obstacle: Why there is none.
    """

    def __init__(self, index: GalleryIndex, encoder: Encoder | None, obstacle: str | None) -> None:
        self.index = index
        self.encoder = encoder
        self.obstacle = obstacle
        self.info = index.info()
        self.calibration = index.calibration
        self.searches = JoinedSearches(index)
        self._columns: list[dict[str, Any]] | None = None

    @property
    def columns(self) -> list[dict[str, Any]]:
        """Choices of the filters, read when they are first needed."""
        if self._columns is None:
            self._columns = column_choices(self.index)
        return self._columns

    @property
    def takes_texts(self) -> bool:
        """Whether a sentence can be searched by."""
        return self.encoder is not None and self.encoder.has_text

    def record(self, key: int) -> ImageRecord | None:
        """Return the record of an image.

        Raises:
            RequestError: If the index has no image with that key.
        """
        try:
            return self.index.records([key])[0]
        except ValueError as error:
            reason = (
                f"{short_name(self.index)} has no image with key {key}; it may have been removed"
            )
            raise RequestError(404, f"{reason}.") from error


class ServedIndex:
    """An index whose newest state is served; any thread may use it.

    Args:
        index: The index.
        encoding: Held while a model encodes, so that many clients do not fill the memory.
    """

    def __init__(self, index: GalleryIndex, encoding: threading.Lock) -> None:
        self.name = short_name(index)
        self._encoding = encoding
        self._reloading = threading.Lock()
        self._embeddings: OrderedDict[tuple[str, str], Tensor] = OrderedDict()
        self._seconds = _MILVUS_SECONDS if is_milvus(index.name) else 0.0
        self._looked = time.monotonic()
        self._state = _state_of(index, None)

    def state(self) -> IndexState:
        """Return the newest state; a look at one file tells whether there is a newer one.

        Milvus has to be asked for it, which is done at most once in two seconds.

        Raises:
            RequestError: If the index has gone or is damaged, or its server does not answer.
        """
        with self._reloading:
            if time.monotonic() - self._looked < self._seconds:
                return self._state

            try:
                newest = self._state.index.newest()
                if newest is not self._state.index:
                    self._state = _state_of(newest, self._state.encoder)
            except ValueError as error:
                raise RequestError(503, str(error)) from error
            self._looked = time.monotonic()
            return self._state

    def embed_record(self, state: IndexState, record: ImageRecord) -> Tensor:
        """Encode the image of a record, (1, D)."""
        encoder = self._encoder(state)
        name = (encoder.fingerprint, f"path {record.path}")
        with self._encoding:
            kept = self._kept(name)
            return self._keep(name, encoder.encode_images(record)) if kept is None else kept

    def embed_image(self, state: IndexState, sha256: str, content: bytes) -> Tensor:
        """Encode an image by the content of its file, (1, D)."""
        encoder = self._encoder(state)
        name = (encoder.fingerprint, f"sha256 {sha256}")
        with self._encoding:
            kept = self._kept(name)
            if kept is None:
                image = decode_image(content, "the image")
                kept = self._keep(name, encoder.encode_images(image))
            return kept

    def embed_text(self, state: IndexState, text: str) -> Tensor:
        """Encode a sentence, (1, D)."""
        encoder = self._encoder(state)
        name = (encoder.fingerprint, f"text {text}")
        with self._encoding:
            kept = self._kept(name)
            return self._keep(name, encoder.encode_texts(text)) if kept is None else kept

    def _encoder(self, state: IndexState) -> Encoder:
        if state.encoder is None:
            raise RequestError(422, f"{self.name} takes images by key only: {state.obstacle}")
        return state.encoder

    def _kept(self, name: tuple[str, str]) -> Tensor | None:
        return self._embeddings.get(name)

    def _keep(self, name: tuple[str, str], embedding: Tensor) -> Tensor:
        """Keep an embedding, as the same query often comes again with another filter."""
        self._embeddings[name] = embedding
        while len(self._embeddings) > _KEPT_EMBEDDINGS:
            self._embeddings.popitem(last=False)
        return embedding


def short_name(index: GalleryIndex) -> str:
    """Return the name of an index without its folder; the whole address of one on a server."""
    name = index.name.removeprefix(PREFIX)
    return index.name if "://" in name else Path(name).name


def image_of_record(record: ImageRecord | None) -> Image.Image:
    """Load the image of a record.

    Raises:
        RequestError: If there is none, or it cannot be read.
    """
    if record is None:
        raise RequestError(404, "The index was built without records, so it knows no images.")
    try:
        return load_image(record.path)
    except ValueError as error:
        raise RequestError(404, str(error)) from error


def _state_of(index: GalleryIndex, known: Encoder | None) -> IndexState:
    """Find the encoder of an index, perhaps the one that is open already."""
    fingerprint = index.info().fingerprint
    if known is not None and fingerprint in (None, known.fingerprint):
        return IndexState(index, known, None)

    try:
        encoder = index.encoder
    except ValueError as error:
        return IndexState(index, None, str(error))
    encoder.progress = False
    return IndexState(index, encoder, None)
