import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import cross_modality as oracle
from oracles import reid
from protocol_rows import check_rows

from clipreid_kit import CrossModalityProtocol, KReciprocalReranker

# queries and gallery on a line of angles: the nearest of query 0 is a wrong aerial image
DEGREES = np.array([0.0, 2.0, 5.0, 9.0, 20.0, 50.0])
ROWS = np.stack([np.cos(np.deg2rad(DEGREES)), np.sin(np.deg2rad(DEGREES))], axis=1)
COLUMNS = {
    "query_ids": [7, 3],
    "gallery_ids": [3, 7, 3, 7],
    "query_modalities": ["aerial", "ground"],
    "gallery_modalities": ["aerial", "aerial", "ground", "ground"],
}


def evaluate(*names, **options):
    return CrossModalityProtocol(*names, **options).evaluate(ROWS[:2], ROWS[2:], **COLUMNS)


def test_by_hand():
    # aerial 7 at 0: ground 3 at 20, ground 7 at 50; ground 3 at 2: aerial 3 at 5, aerial 7 at 9
    assert evaluate().first_rank.tolist() == [2, 1]
    assert evaluate("aerial", "ground").first_rank.tolist() == [2]
    assert evaluate("ground", "aerial").first_rank.tolist() == [1]
    assert evaluate("ground", "aerial").query_ids.tolist() == [3]
    # the query's own view, by name: aerial 3 at 5, aerial 7 at 9
    assert evaluate("aerial", "aerial").first_rank.tolist() == [2]
    # wrong aerial images stay: 3 at 5, (7 at 9 is left out), 3 at 20, 7 at 50
    assert evaluate("aerial", same="distractors").first_rank.tolist() == [3]


@given(
    st.integers(0, 2**20),
    st.sampled_from(["left_out", "distractors"]),
    st.sampled_from(["pessimistic", "optimistic", "mean"]),
    st.integers(2, 3),
)
def test_equals_brute_force(seed, same, ties, num_modalities):
    rng = np.random.default_rng(seed)
    queries, gallery = (rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (5, 9))
    columns = {
        "query_ids": rng.integers(0, 3, 5),
        "gallery_ids": rng.integers(0, 4, 9),
        "query_modalities": rng.integers(0, num_modalities, 5),
        "gallery_modalities": rng.integers(0, num_modalities, 9),
    }
    similarity = reid.exact(queries, gallery, "cosine")
    want = oracle.across(similarity, *columns.values(), same, ties)
    protocol = CrossModalityProtocol(same=same, ties=ties)

    if not any(want):
        with pytest.raises(ValueError, match="no query has a match in the gallery that it ranks"):
            protocol.evaluate(queries, gallery, **columns)
        return
    check_rows(protocol.evaluate(torch.tensor(queries), torch.tensor(gallery), **columns), want)


def test_both_directions_are_the_queries_of_each():
    both = evaluate()
    one_way, back = evaluate("aerial", "ground"), evaluate("ground", "aerial")
    joined = [*one_way.average_precision, *back.average_precision]
    assert both.average_precision.tolist() == joined


def test_cameras_leave_out_images_of_the_querys_own():
    cameras = {"query_cameras": [1, 2], "gallery_cameras": [4, 2, 3, 1]}
    result = CrossModalityProtocol().evaluate(ROWS[:2], ROWS[2:], **COLUMNS, **cameras)
    assert result.num_positives.tolist() == [0, 1]


def test_rerank_reaches_the_evaluation():
    def rerank(queries, gallery):
        calls.append((len(queries), len(gallery)))
        return KReciprocalReranker(queries, gallery, k1=2, k2=1)

    calls = []
    evaluate(rerank=rerank)
    assert calls == [(1, 2), (1, 2)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("drone", "ground"), "no row of query_modalities is 'drone'; there are aerial, ground"),
        (("aerial", "sea"), "no row of gallery_modalities is 'sea'"),
    ],
)
def test_a_name_that_no_row_has(names, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*names)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"same": "kept"}, "expected same to be one of left_out, distractors"),
        ({"gallery": "a", "same": "distractors"}, "same='distractors' has no effect with a named"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        CrossModalityProtocol(**options)


def test_cameras_of_one_side_are_an_error():
    with pytest.raises(ValueError, match="cameras of both sides or of neither"):
        CrossModalityProtocol().evaluate(ROWS[:2], ROWS[2:], **COLUMNS, query_cameras=[1, 1])
