"""The searches of the page: by an image of an index, a dropped image or a sentence."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.hit_fields import hit_fields
from clipreid_kit.retrieval.marks import Mark
from clipreid_kit.retrieval.page.api_types import QueryBody, SearchBody
from clipreid_kit.retrieval.page.byte_cache import ByteCache
from clipreid_kit.retrieval.page.joined_searches import (
    Answer,
    Question,
    without_probabilities,
)
from clipreid_kit.retrieval.page.mark_book import MarkBook
from clipreid_kit.retrieval.page.request_error import RequestError, reason_of
from clipreid_kit.retrieval.page.served_index import IndexState, ServedIndex
from clipreid_kit.retrieval.search_result import Hit

GONE = (
    "The server no longer has this image. Dropped images are kept in memory for a while only; "
    "drop it again."
)


class PageSearch:
    """Answer the searches of the page, over one index or two.

    Args:
        served: The indexes.
        dropped: Contents of dropped images, by their SHA-256.
        marks: Marks of right and wrong hits.
        max_hits: Most hits of one search.
        max_text: Longest text, in characters.
    """

    def __init__(
        self,
        served: Sequence[ServedIndex],
        dropped: ByteCache[str],
        marks: MarkBook,
        *,
        max_hits: int,
        max_text: int,
    ) -> None:
        self._served = tuple(served)
        self._dropped = dropped
        self._marks = marks
        self._max_hits = max_hits
        self._max_text = max_text

    def served(self, number: int) -> ServedIndex:
        """Return an index by its number.

        Raises:
            RequestError: If there is none.
        """
        if number >= len(self._served):
            raise RequestError(404, f"There is no index {number}; {len(self._served)} are served.")
        return self._served[number]

    def answer(self, body: SearchBody) -> dict[str, Any]:
        """Search each index, or the one that is asked for.

        With two indexes, what one cannot answer is said in its place. The query itself is not among
        its hits.

        Raises:
            ValueError: If the one index that is searched cannot answer.
        """
        if body.k > self._max_hits:
            raise RequestError(422, f"k is {body.k}; at most {self._max_hits} hits are shown.")
        numbers = range(len(self._served)) if body.index is None else [body.index]
        states = {number: self.served(number).state() for number in numbers}
        record = self._query_record(body.query, states)

        answers = [
            self._answer_or_reason(number, state, body, record) for number, state in states.items()
        ]
        return {"query": _echo(body.query, record), "answers": answers}

    def mark(
        self, query: QueryBody, index: int, key: int, *, is_match: bool | None, time_: str
    ) -> Mark:
        """Build the mark of a hit for a query.

        Raises:
            RequestError: If the query or the hit is not there any more.
        """
        served = self.served(index)
        state = served.state()
        record = self._query_record(query, {index: state})
        mark = _unsaid_mark(query, record, key, state.record(key))
        return replace(
            mark,
            is_match=is_match,
            index=served.name,
            fingerprint=state.info.fingerprint,
            time=time_,
        )

    def _query_record(self, query: QueryBody, states: dict[int, IndexState]) -> ImageRecord | None:
        """Return the record of a query that is an image of an index."""
        if query.key is None:
            return None
        state = states.get(query.index) or self.served(query.index).state()
        return state.record(query.key)

    def _answer_or_reason(
        self, number: int, state: IndexState, body: SearchBody, record: ImageRecord | None
    ) -> dict[str, Any]:
        """Search one index; of two, one may say why it cannot answer."""
        try:
            return self._answer_of(number, state, body, record)
        except ValueError as error:
            if len(self._served) == 1 or body.index is not None:
                raise
            return _failed(number, state, reason_of(error))

    def _answer_of(
        self, number: int, state: IndexState, body: SearchBody, record: ImageRecord | None
    ) -> dict[str, Any]:
        """Search one index."""
        vector = self._vector(number, state, body.query, record)
        began = time.perf_counter()
        hits, is_unknown = _find(number, state, vector, body, record)
        milliseconds = 1000 * (time.perf_counter() - began)

        return {
            "index": number,
            "generation": state.info.generation,
            "milliseconds": round(milliseconds, 2),
            "unknown": is_unknown,
            "hits": [hit_fields(rank, hit) for rank, hit in enumerate(hits, start=1)],
            "marks": self._marks_of(body.query, record, hits),
        }

    def _vector(
        self, number: int, state: IndexState, query: QueryBody, record: ImageRecord | None
    ) -> Tensor:
        """Return the embedding of a query for one index, (1, D)."""
        served = self.served(number)
        if query.text is not None:
            if len(query.text) > self._max_text:
                raise RequestError(422, f"A sentence has at most {self._max_text} characters.")
            return served.embed_text(state, query.text)

        if query.image is not None:
            content = self._dropped.get(query.image)
            if content is None:
                raise RequestError(404, GONE)
            return served.embed_image(state, query.image, content)

        key = query.key or 0
        if query.index == number:
            return state.index.vectors([key])
        other = self.served(query.index).state()
        if state.info.fingerprint is not None and (
            state.info.fingerprint == other.info.fingerprint
        ):
            return other.index.vectors([key])
        if record is None:
            raise RequestError(422, "The query has no record, so the other model cannot encode it.")
        return served.embed_record(state, record)

    def _marks_of(
        self, query: QueryBody, record: ImageRecord | None, hits: Sequence[Hit]
    ) -> dict[int, bool]:
        """Return what was said of hits for a query, by key."""
        if query.key is not None and record is None:
            return {}

        said = {
            hit.key: self._marks.is_match(_unsaid_mark(query, record, hit.key, hit.record))
            for hit in hits
        }
        return {key: is_match for key, is_match in said.items() if is_match is not None}


def _unsaid_mark(
    query: QueryBody, record: ImageRecord | None, key: int, hit: ImageRecord | None
) -> Mark:
    """Return a mark of a query and a hit, with nothing said of it yet."""
    if query.key is not None and record is None:
        raise RequestError(422, "An index without records keeps no marks of its images.")
    return Mark(
        path=None if hit is None else hit.path,
        key=key,
        is_match=None,
        query_path=None if record is None else record.path,
        query_sha256=query.image,
        query_text=query.text,
        identity=None if hit is None else hit.identity,
        query_identity=None if record is None else record.identity,
    )


def _find(
    number: int,
    state: IndexState,
    vector: Tensor,
    body: SearchBody,
    record: ImageRecord | None,
) -> tuple[list[Hit], bool | None]:
    """Search one index; the query itself is left out of what is found."""
    if len(state.index) == 0:
        return [], None

    where = _where(body)
    camera = record.camera if record is not None and body.other_cameras else None

    def search(
        count: int, conditions: dict[str, object], group: Literal["identity"] | None
    ) -> Answer:
        count = min(count, len(state.index))
        found = state.searches.find(Question(vector, count, conditions, camera, group))
        # the calibration is about two images
        return found if body.query.text is None else without_probabilities(found)

    found, is_unknown = search(body.k + 1, where, body.group_by)
    own = next((hit for hit in found if _is_query(number, hit, body.query, record)), None)
    hits = [hit for hit in found if hit is not own]
    if own is None:
        return hits[: body.k], is_unknown

    # the query stood for its identity: the nearest other image of it does now
    if body.group_by is not None and own.record is not None:
        same = {**where, "identity": own.record.identity}
        others = [hit for hit in search(2, same, None).hits if hit.key != own.key]
        hits = sorted([*hits, *others], key=lambda hit: (-hit.similarity, hit.row))

    hits = hits[: body.k]
    return hits, _is_unknown(state, hits, is_unknown)


def _is_unknown(state: IndexState, hits: Sequence[Hit], before: bool | None) -> bool | None:
    """Whether none of the hits reaches the threshold, now that the query is not among them."""
    if before is None or state.calibration is None:
        return None
    return not hits or hits[0].similarity < state.calibration.threshold


def _is_query(number: int, hit: Hit, query: QueryBody, record: ImageRecord | None) -> bool:
    """Whether a hit is the query itself."""
    if query.key is None:
        return False
    if query.index == number:
        return hit.key == query.key
    return record is not None and hit.record is not None and hit.record.path == record.path


def _where(body: SearchBody) -> dict[str, object]:
    """Return the conditions of a search by column."""
    conditions: dict[str, object] = {}
    for condition in body.where:
        if condition.column in conditions:
            raise RequestError(422, f"There are two conditions on {condition.column}.")
        conditions[condition.column] = condition.condition()
    return conditions


def _echo(query: QueryBody, record: ImageRecord | None) -> dict[str, Any]:
    """Return a query with what its record says."""
    if query.key is None:
        return {"image": query.image, "text": query.text}

    echo: dict[str, Any] = {"key": query.key, "index": query.index}
    if record is not None:
        for name in ("path", "identity", "camera", "caption"):
            echo[name] = getattr(record, name)
    return echo


def _failed(number: int, state: IndexState, reason: str) -> dict[str, Any]:
    """Return the place of an answer that there is none of."""
    return {
        "index": number,
        "generation": state.info.generation,
        "milliseconds": 0.0,
        "hits": [],
        "marks": {},
        "error": reason,
    }
