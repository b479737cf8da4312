"""The web application of the search page: its routes, over one index or two side by side."""

import asyncio
import hashlib
import json
import math
import os
import threading
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import anyio
import numpy as np
from anyio import CapacityLimiter
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from clipreid_kit import __version__
from clipreid_kit.data.files.archives import UnreadableFileError
from clipreid_kit.data.images.load_image import decode_image
from clipreid_kit.retrieval.gallery_index import GalleryIndex
from clipreid_kit.retrieval.page.api_types import (
    ErrorAnswer,
    ImageAnswer,
    MarkAnswer,
    MarkBody,
    PageFacts,
    SearchAnswer,
    SearchBody,
)
from clipreid_kit.retrieval.page.byte_cache import ByteCache
from clipreid_kit.retrieval.page.guard import Guard
from clipreid_kit.retrieval.page.mark_book import MarkBook
from clipreid_kit.retrieval.page.page_limits import PageLimits
from clipreid_kit.retrieval.page.page_search import GONE, PageSearch
from clipreid_kit.retrieval.page.picture_files import shown_file
from clipreid_kit.retrieval.page.rate_limit import RateLimit
from clipreid_kit.retrieval.page.request_error import RequestError, reason_of
from clipreid_kit.retrieval.page.served_index import IndexState, ServedIndex, image_of_record

_STATIC = Path(__file__).with_name("static")
_FILES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "address.js": "text/javascript",
    "elements.js": "text/javascript",
    "filters.js": "text/javascript",
    "results.js": "text/javascript",
    "server.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

_UPLOAD_PATH = "/api/images"
_UPLOAD_TYPES = ("image/", "application/octet-stream")
_LONGEST_SIDE = 1600  # of an image that is shown large
_THUMBNAIL_SIDE = 320
_ENCODERS = 2  # threads of which one encodes, while the other searches
_SEARCHERS = 64  # threads that wait for their search
_NUM_SAMPLES = 24  # images of a page without a query

Result = TypeVar("Result")


def search_app(
    indexes: GalleryIndex | Sequence[GalleryIndex],
    *,
    marks: str | os.PathLike[str] | None = None,
    token: str | None = None,
    hosts: Collection[str] = (),
    limits: PageLimits | None = None,
) -> FastAPI:
    """Build the web application of the search page, for ``clipreid serve`` or any ASGI server.

    The page shows what :meth:`GalleryIndex.search` finds, and never changes an index. When somebody
    writes to an index, the next search sees it; in Milvus, after two seconds at most. Only images
    of the indexes and those that were dropped are sent, drawn anew and without their metadata.

    Args:
        indexes: An index, or two to compare.
        marks: File for marks of right and wrong hits, which :func:`read_marks` reads. ``None`` for
            the name of the first index with ``.marks.jsonl``, beside it.
        token: What a client has to know: ``?token=`` in the URL of the page, or ``Authorization:
            Bearer``. ``None`` for a page that anyone who reaches it may use.
        hosts: Names of the machine in URLs, beside ``localhost`` and addresses.
        limits: Limits of uploads, memory and rate; ``None`` for the defaults of
            :class:`PageLimits`.

    Raises:
        ValueError: If there are no indexes or more than two, the token is short, or the file of
            marks cannot be read.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     index = GalleryIndex.build(np.eye(3, dtype=np.float32), store=f"{folder}/g.index")
        ...     app = search_app(index)
        >>> sorted(path for path in app.openapi()["paths"] if "mark" in path or "search" in path)
        ['/api/marks', '/api/search']
    """
    listed = [indexes] if isinstance(indexes, GalleryIndex) else list(indexes)
    if len(listed) not in (1, 2):
        raise ValueError(f"search_app: pass one index, or two to compare; got {len(listed)}.")
    if token is not None and len(token) < 16:
        raise ValueError("search_app: a token needs 16 characters at least; others are guessed.")

    return _SearchPage(listed, marks, limits or PageLimits()).app(token, hosts)


class _SearchPage:
    """The state behind the routes.

    Encoding runs one at a time, searches too, and images on as many threads as there are cores;
    where many searches wait, they are answered together. So many clients wait in line, instead of
    filling the memory.
    """

    def __init__(
        self,
        indexes: Sequence[GalleryIndex],
        marks: str | os.PathLike[str] | None,
        limits: PageLimits,
    ) -> None:
        encoding = threading.Lock()

        self.limits = limits
        self.marks = MarkBook(_marks_beside(indexes[0]) if marks is None else Path(marks))
        self.dropped = ByteCache[str](limits.kept_bytes)
        self.thumbnails = ByteCache[tuple[int, str]](limits.thumbnail_bytes)
        self.served = [ServedIndex(index, encoding) for index in indexes]
        self.search = PageSearch(
            self.served,
            self.dropped,
            self.marks,
            max_hits=limits.max_hits,
            max_text=limits.max_text,
        )
        self.rate = RateLimit(limits.rate, limits.burst)
        self.receiving = asyncio.Semaphore(limits.uploads_at_once)

        self.encoders = CapacityLimiter(_ENCODERS)
        self.searchers = CapacityLimiter(_SEARCHERS)
        self.painters = CapacityLimiter(os.cpu_count() or 1)

    def app(self, token: str | None, hosts: Collection[str]) -> FastAPI:
        """Return the application with all routes."""
        app = FastAPI(
            title="clipreid search",
            version=__version__,
            description="Search a gallery by an image or a sentence.",
            docs_url=None,  # it would load scripts from elsewhere
            redoc_url=None,
            openapi_url="/api/openapi.json",
            responses={"4XX": {"model": ErrorAnswer}},
        )
        app.add_middleware(
            Guard,
            token=token,
            hosts=hosts,
            upload_path=_UPLOAD_PATH,
            max_upload_bytes=self.limits.max_upload_bytes,
        )

        _add_error_handlers(app)
        self._add_files(app)
        self._add_api(app)
        return app

    def _add_files(self, app: FastAPI) -> None:
        """Add the page and its own files, which are named one by one."""

        @app.get("/", include_in_schema=False)
        async def page() -> Response:
            return FileResponse(_STATIC / "page.html", media_type="text/html")

        @app.get("/static/{name}", include_in_schema=False)
        async def file(name: str) -> Response:
            if name not in _FILES:
                raise RequestError(404, "There is no such file.")
            return FileResponse(_STATIC / name, media_type=_FILES[name])

    def _add_api(self, app: FastAPI) -> None:
        """Add the JSON API, and the images."""

        @app.get("/api/info", response_model=PageFacts, summary="What the page offers")
        async def info() -> dict[str, Any]:
            return await _in_thread(self.facts, self.searchers)

        @app.post(
            "/api/search",
            response_model=SearchAnswer,
            summary="Search by a key, a dropped image or a sentence",
        )
        async def search(body: SearchBody, request: Request) -> Response:
            encodes = body.query.key is None
            if encodes:
                self._count(request)
            limiter = self.encoders if encodes else self.searchers
            return await _in_thread(lambda: _json(self.search.answer(body)), limiter)

        @app.post(
            _UPLOAD_PATH,
            response_model=ImageAnswer,
            summary="Drop an image to search by",
            openapi_extra={"requestBody": {"content": {"image/*": {}}, "required": True}},
        )
        async def drop(request: Request) -> dict[str, Any]:
            kind = request.headers.get("content-type", "")
            if not kind.startswith(_UPLOAD_TYPES):
                raise RequestError(415, "Send the file of an image, with its type (image/...).")

            self._count(request)
            async with self.receiving:
                content = await self._received(request)
                return await _in_thread(lambda: self.keep(content), self.painters)

        @app.get(_UPLOAD_PATH + "/{sha256}", summary="A dropped image")
        async def dropped(sha256: str) -> Response:
            return await _in_thread(lambda: self.dropped_image(sha256), self.painters)

        @app.get("/api/image/{key}", summary="An image of an index")
        async def image(key: int, index: int = Query(0, ge=0, le=1)) -> Response:
            return await _in_thread(lambda: self.image(index, key), self.painters)

        @app.get("/api/thumbnail/{key}", summary="An image of an index, small")
        async def thumbnail(key: int, index: int = Query(0, ge=0, le=1)) -> Response:
            return await _in_thread(lambda: self.thumbnail(index, key), self.painters)

        @app.post("/api/marks", response_model=MarkAnswer, summary="Call a hit right or wrong")
        async def mark(body: MarkBody) -> dict[str, Any]:
            return await _in_thread(lambda: self.add_mark(body), self.searchers)

    def facts(self) -> dict[str, Any]:
        """Return what the page offers."""
        states = [served.state() for served in self.served]
        return {
            "indexes": [
                _facts(served.name, state)
                for served, state in zip(self.served, states, strict=True)
            ],
            "max_upload_bytes": self.limits.max_upload_bytes,
            "max_hits": self.limits.max_hits,
            "max_text": self.limits.max_text,
            "marks_file": str(self.marks.file),
            "num_marks": len(self.marks),
            "samples": _samples(states[0]),
        }

    def keep(self, content: bytes) -> dict[str, Any]:
        """Check a dropped image, and keep it for the searches that follow."""
        try:
            image = decode_image(content, "the image", max_pixels=self.limits.max_pixels)
        except UnreadableFileError as error:
            raise RequestError(422, f"The image cannot be read: {error.reason}.") from error

        sha256 = hashlib.sha256(content).hexdigest()
        self.dropped.put(sha256, content)
        return {"image": sha256, "width": image.width, "height": image.height}

    def dropped_image(self, sha256: str) -> Response:
        """Draw a dropped image."""
        content = self.dropped.get(sha256)
        if content is None:
            raise RequestError(404, GONE)
        return _file(shown_file(decode_image(content, "the image"), _THUMBNAIL_SIDE * 2))

    def image(self, index: int, key: int) -> Response:
        """Draw an image of an index."""
        record = self.search.served(index).state().record(key)
        return _file(shown_file(image_of_record(record), _LONGEST_SIDE))

    def thumbnail(self, index: int, key: int) -> Response:
        """Draw an image of an index, small; those that were used last are kept."""
        record = self.search.served(index).state().record(key)
        name = (index, "" if record is None else record.path)
        content = self.thumbnails.get(name)
        if content is None:
            content, _ = shown_file(image_of_record(record), _THUMBNAIL_SIDE)
            self.thumbnails.put(name, content)

        is_png = content.startswith(b"\x89PNG")
        return _file((content, "image/png" if is_png else "image/jpeg"))

    def add_mark(self, body: MarkBody) -> dict[str, Any]:
        """Write a mark."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        mark = self.search.mark(body.query, body.index, body.key, is_match=body.is_match, time_=now)
        self.marks.add(mark)
        return {"num_marks": len(self.marks)}

    def _count(self, request: Request) -> None:
        """Count an image or a text to encode, and refuse it if there are too many."""
        client = "" if request.client is None else request.client.host
        wait = self.rate.seconds_to_wait(client)
        if wait > 0:
            raise RequestError(429, "There are too many requests; wait a moment.", wait)

    async def _received(self, request: Request) -> bytes:
        """Receive a body, whose size was checked by its header, within the limits."""
        parts: list[bytes] = []
        size = 0
        try:
            with anyio.fail_after(self.limits.upload_seconds):
                async for part in request.stream():
                    size += len(part)
                    if size > self.limits.max_upload_bytes:
                        raise RequestError(413, "The image is too large.")
                    parts.append(part)
        except TimeoutError:
            raise RequestError(408, "The image took too long to arrive.") from None
        return b"".join(parts)


async def _in_thread(work: Callable[[], Result], limiter: CapacityLimiter) -> Result:
    """Run something beside the server's own thread, when there is room for it."""
    return await anyio.to_thread.run_sync(work, limiter=limiter)


def _marks_beside(index: GalleryIndex) -> Path:
    """Return the file of marks of an index, beside it.

    Raises:
        ValueError: If the index is on a server.
    """
    if "://" in index.name:
        raise ValueError(
            f"search_app: {index.name} is on a server, so the file of marks needs a name: pass "
            "marks=, or --marks to the command."
        )
    return index.path.with_name(f"{index.path.name}.marks.jsonl")


def _facts(name: str, state: IndexState) -> dict[str, Any]:
    """Return what the page says of an index."""
    info, calibration = state.info, state.calibration
    obstacle = state.obstacle
    if obstacle is None and not state.takes_texts:
        obstacle = "The model of this index has no text tower in the space of its images."

    return {
        "name": name,
        "num_images": info.num_images,
        "generation": info.generation,
        "model": None if info.encoder is None else _model_name(info.encoder),
        "fingerprint": info.fingerprint,
        "takes_images": state.encoder is not None,
        "takes_texts": state.takes_texts,
        "obstacle": obstacle,
        "has_records": bool(info.columns),
        "is_calibrated": calibration is not None,
        "threshold": None if calibration is None else calibration.threshold,
        "columns": state.columns,
    }


def _samples(state: IndexState) -> list[int]:
    """Return the keys of some images to begin with, spread over the index."""
    keys = state.index.keys()
    places = np.linspace(0, len(keys), num=min(_NUM_SAMPLES, len(keys)), endpoint=False)
    return [int(key) for key in keys[places.astype(np.int64)]]


def _model_name(source: Any) -> str:  # noqa: ANN401 (JSON of the index)
    """Return a short name of a model."""
    if "path" in source:
        path = Path(str(source["path"]))
        is_of_run = path.parent.name == "checkpoints"
        return f"{path.parents[1].name}, {path.name}" if is_of_run else path.name
    return str(source.get("name", "model"))


def _json(answer: dict[str, Any]) -> Response:
    """Return an answer as it is: to check a known one against its model costs more than a search.

    Characters beyond ASCII are escaped, as names of files may hold some that UTF-8 does not.
    """
    return Response(json.dumps(answer, separators=(",", ":")), media_type="application/json")


def _file(content: tuple[bytes, str]) -> Response:
    """Return an image, which the browser keeps for some minutes."""
    headers = {"Cache-Control": "private, max-age=300"}
    return Response(content[0], media_type=content[1], headers=headers)


def _add_error_handlers(app: FastAPI) -> None:
    """Answer every error with one sentence, and without a traceback."""

    @app.exception_handler(ValueError)
    async def of_value(_: Request, error: ValueError) -> Response:
        status = error.status if isinstance(error, RequestError) else 422
        wait = error.wait if isinstance(error, RequestError) else None
        headers = None if wait is None else {"Retry-After": str(math.ceil(wait))}
        return JSONResponse({"detail": reason_of(error)}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def of_body(_: Request, error: RequestValidationError) -> Response:
        sentences = [_sentence(part) for part in error.errors()]
        return JSONResponse({"detail": "; ".join(sentences)}, 422)

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> Response:
        return JSONResponse({"detail": f"{error.detail}."}, error.status_code)


def _sentence(error: Any) -> str:  # noqa: ANN401 (pydantic's dictionary)
    """Return what is wrong in a body, and where."""
    place = ".".join(str(part) for part in error["loc"] if part != "body")
    return f"{place or 'body'}: {error['msg'].removeprefix('Value error, ')}"
