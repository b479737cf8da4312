"""Hits in JSON's types."""

import json

import numpy as np

from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import Hit, SearchResult
from clipreid_kit.retrieval.hit_fields import answer_fields, hit_fields


def test_a_hit_with_a_record():
    record = ImageRecord("a.jpg", 3, camera="door", caption="a coat", extra={"frame": "7"})
    fields = hit_fields(2, Hit(row=0, key=5, similarity=0.5, record=record, probability=0.1))
    assert json.loads(json.dumps(fields)) == {
        "rank": 2,
        "key": 5,
        "similarity": 0.5,
        "probability": 0.1,
        "path": "a.jpg",
        "identity": 3,
        "camera": "door",
        "view": None,
        "caption": "a coat",
        "split": None,
        "extra": {"frame": "7"},
    }


def test_a_modality_is_shown_where_there_is_one():
    record = ImageRecord("a.jpg", 3, modality="infrared")
    fields = hit_fields(1, Hit(row=0, key=5, similarity=0.5, record=record, probability=None))
    assert fields["modality"] == "infrared"


def test_the_answer_to_a_query():
    result = SearchResult(
        rows=np.array([[1, 0], [0, -1]]),
        keys=np.array([[8, 7], [7, -1]]),
        similarities=np.array([[0.9, 0.5], [0.2, np.nan]]),
        records=[[None, None], [None]],
        probabilities=np.array([[0.8, 0.3], [0.1, np.nan]]),
        is_unknown=np.array([False, True]),
    )
    assert answer_fields(result, 1) == {
        "unknown": True,
        "hits": [{"rank": 1, "key": 7, "similarity": 0.2, "probability": 0.1}],
    }
    assert [hit["key"] for hit in answer_fields(result, 0)["hits"]] == [8, 7]
