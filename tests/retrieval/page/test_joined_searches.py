"""Searches that wait are answered together, and as each alone would be."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from gallery_of import records_of

from clipreid_kit.retrieval import GalleryIndex
from clipreid_kit.retrieval.page.joined_searches import JoinedSearches, Question

COUNT, DIM = 60, 8
FORMS = [
    {"count": 3, "where": {}},
    {"count": 5, "where": {}},
    {"count": 3, "where": {"camera": [1, 2]}},
    {"count": 3, "where": {"camera": ["1", "2"]}},
    {"count": 3, "where": {}, "camera": 1},
    {"count": 3, "where": {}, "camera": 2},
    {"count": 2, "where": {}, "group_by": "identity"},
]


class Watched(GalleryIndex):
    """An index whose searches are counted, and wait for a sign."""

    def __init__(self, index):
        super().__init__(index.path)
        self.sizes = []
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def search(self, vectors, *arguments, **options):
        self.sizes.append(len(vectors))
        self.begun.set()
        assert self.go_on.wait(30)
        return super().search(vectors, *arguments, **options)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    rows = np.random.default_rng(0).standard_normal((COUNT, DIM)).astype(np.float32)
    store = tmp_path_factory.mktemp("joined") / "gallery.index"
    return GalleryIndex.build(rows, records_of(COUNT), store=store)


def alone(index, question):
    cameras = None if question.camera is None else [question.camera]
    return index.search(
        question.vector,
        question.count,
        where=question.where,
        query_cameras=cameras,
        group_by=question.group_by,
    )[0]


def asked_while_busy(watched, questions):
    """Ask some questions while a search is going on, and return what each of them gets."""
    searches = JoinedSearches(watched)

    def find(question):
        try:
            return searches.find(question).hits
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(len(questions) + 1) as pool:
        first = pool.submit(find, Question(torch.ones(1, DIM), 1, {}))
        assert watched.begun.wait(30)
        futures = [pool.submit(find, question) for question in questions]
        while len(searches._waiting) < len(questions):
            threading.Event().wait(0.001)
        watched.go_on.set()
        first.result(30)
        return [future.result(30) for future in futures]


def test_each_gets_its_own_answer(gallery):
    torch.manual_seed(0)
    questions = [Question(torch.randn(1, DIM), **form) for form in FORMS for _ in range(8)]
    watched = Watched(gallery)
    found = asked_while_busy(watched, questions)
    assert found == [alone(gallery, question) for question in questions]
    assert sorted(watched.sizes) == [1, 8, 8, 8, 8, 8, 16], "two cameras are one form"


def test_a_few_are_answered_one_by_one(gallery):
    watched = Watched(gallery)
    questions = [Question(torch.randn(1, DIM), 3, {}) for _ in range(3)]
    found = asked_while_busy(watched, questions)
    assert found == [alone(gallery, question) for question in questions]
    assert watched.sizes == [1] * 4


def test_one_that_cannot_be_answered_harms_no_other(gallery):
    good, bad = torch.ones(1, DIM), torch.full((1, DIM), torch.nan)
    found = asked_while_busy(
        Watched(gallery), [Question(one, 2, {}) for one in (good, bad, *[good] * 6)]
    )
    assert found[0] == found[-1] == alone(gallery, Question(good, 2, {}))
    assert "NaN" in found[1]


def test_a_failure_of_all_reaches_all(gallery):
    questions = [Question(torch.ones(1, DIM), 2, {"camra": 1}) for _ in range(8)]
    for reason in asked_while_busy(Watched(gallery), questions):
        assert "'camra', which is not a column" in reason
