import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import cross_modality as oracle
from oracles import reid
from protocol_rows import check_rows

from clipreid_kit import LLCMProtocol


def test_by_hand():
    # the nearest image of 7 is by the query's camera; 3 has two images above the next, by two
    # cameras, which count once for Rank-k
    gallery = np.array([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3], [1.0, 0.4]])
    results = LLCMProtocol(num_splits=2).evaluate(
        np.array([[1.0, 0.0]]),
        gallery,
        query_ids=[7],
        gallery_ids=[7, 3, 3, 7],
        query_cameras=[1],
        gallery_cameras=[1, 1, 2, 2],
    )
    assert results.rank(1) == 0
    assert results.rank(2) == 1
    assert results.mean_ap == pytest.approx(1 / 3)
    assert results.protocol == "LLCM single-shot, 2 draws (seed 0)"


@given(st.integers(0, 2**20), st.sampled_from(["pessimistic", "optimistic", "mean"]))
def test_each_draw_equals_brute_force(seed, ties):
    rng = np.random.default_rng(seed)
    queries, gallery = (rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (4, 12))
    columns = {
        "query_ids": rng.integers(0, 3, 4),
        "gallery_ids": rng.integers(0, 4, 12),
        "query_cameras": rng.integers(0, 3, 4),
        "gallery_cameras": rng.integers(0, 3, 12),
    }
    protocol = LLCMProtocol(num_splits=2, ties=ties)
    draws = list(protocol.draws(columns["gallery_ids"], columns["gallery_cameras"]))
    similarity = reid.exact(queries, gallery, "cosine")
    want = [oracle.llcm(similarity, *columns.values(), rows, ties) for rows in draws]

    if not any(row for rows in want for row in rows):
        with pytest.raises(ValueError, match="LLCMProtocol: no query has a match"):
            protocol.evaluate(queries, gallery, **columns)
        return

    found = protocol.evaluate(queries, gallery, **columns)
    for result, rows in zip(found.results, want, strict=True):
        check_rows(result, rows)
