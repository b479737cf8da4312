"""Searches of several clients at once: one search runs, and those that wait are joined.

Every search has all cores, so that its threads do not wait for those of another one. What arrives
meanwhile is answered by one pass over the gallery. Two or three queries are not joined: to scan the
8-bit codes for each costs less than to multiply them once.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from clipreid_kit.retrieval.gallery_index import GalleryIndex
from clipreid_kit.retrieval.search_result import Hit, SearchResult

_JOINED_FROM = 4  # waiting questions; fewer are answered one by one
_MOST_AT_ONCE = 64  # queries of one pass; later ones do not wait for all the others


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One search of a client.

    Attributes:
        vector: (1, D).
        count: How many images to find; with ``group_by``, how many identities.
        where: Conditions by column.
        camera: Images of this camera are left out; ``None`` for images of any.
        group_by: As for :meth:`GalleryIndex.search`.
    """

    vector: Tensor
    count: int
    where: Mapping[str, object]
    camera: int | str | None = None
    group_by: Literal["identity"] | None = None

    @property
    def form(self) -> str:
        """Equal for questions that can be answered together."""
        has_camera = self.camera is not None
        return repr((self.count, sorted(self.where.items()), has_camera, self.group_by))


class Answer(NamedTuple):
    """Answer to one search.

    Attributes:
        hits: The nearest images, nearest first.
        is_unknown: Whether none reaches the threshold; ``None`` without a calibration.
    """

    hits: list[Hit]
    is_unknown: bool | None


def without_probabilities(answer: Answer) -> Answer:
    """Return an answer of similarities alone."""
    return Answer([replace(hit, probability=None) for hit in answer.hits], None)


_Waiting = tuple[Question, "Future[Answer]"]


class JoinedSearches:
    """Search an index for any number of threads.

    The answers are those of :meth:`GalleryIndex.search` for each question alone.

    Args:
        index: The index, which nobody reloads.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     index = GalleryIndex.build(torch.eye(3), store=f"{folder}/gallery.index")
        ...     searches = JoinedSearches(index)
        ...     answer = searches.find(Question(torch.tensor([[0.6, 0.8, 0.0]]), 2, {}))
        >>> [hit.key for hit in answer.hits]
        [1, 0]
    """

    def __init__(self, index: GalleryIndex) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        # a thread that begins while another search has begun its own would use one of torch's only
        self._searcher = ThreadPoolExecutor(
            1, "search", torch.set_num_threads, (torch.get_num_threads(),)
        )

    def find(self, question: Question) -> Answer:
        """Wait for the searches before, and search.

        Raises:
            ValueError: As :meth:`GalleryIndex.search`.
        """
        future: Future[Answer] = Future()
        with self._lock:
            self._waiting.append((question, future))
        self._searcher.submit(self._answer_some)
        return future.result()

    def _answer_some(self) -> None:
        """Answer the question that has waited longest, and those like it if there are many."""
        with self._lock:
            if not self._waiting:
                return  # answered along with an earlier one
            chosen = self._next()
            self._waiting = [one for one in self._waiting if one not in chosen]

        self._answer(chosen)

    def _next(self) -> list[_Waiting]:
        """Return the questions to answer next."""
        form = self._waiting[0][0].form
        alike = [one for one in self._waiting if one[0].form == form]
        return alike[:_MOST_AT_ONCE] if len(alike) >= _JOINED_FROM else alike[:1]

    def _answer(self, alike: list[_Waiting]) -> None:
        """Answer questions of one form together; alone if one of them cannot be answered."""
        try:
            result = self._search([question for question, _ in alike])
        except Exception as error:  # noqa: BLE001 (raised in the thread that waits)
            if len(alike) == 1:
                alike[0][1].set_exception(error)
                return
            for one in alike:
                self._answer([one])
            return

        for number, (_, future) in enumerate(alike):
            is_unknown = None if result.is_unknown is None else bool(result.is_unknown[number])
            future.set_result(Answer(result[number], is_unknown))

    def _search(self, questions: list[Question]) -> SearchResult:
        first = questions[0]
        cameras = [question.camera for question in questions if question.camera is not None]
        return self._index.search(
            torch.cat([question.vector for question in questions]),
            first.count,
            where=first.where,
            query_cameras=cameras or None,
            group_by=first.group_by,
        )
