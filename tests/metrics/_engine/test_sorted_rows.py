import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import reid as oracle

from clipreid_kit.metrics import evaluate_reid
from clipreid_kit.metrics._engine import count_nonmatches, query_block, sorted_rows
from clipreid_kit.metrics._engine.sorted_rows import (
    count_run,
    mark_identity,
    nearness,
    rank_row,
    write_keys,
)


@given(st.integers(0, 10**6), st.sampled_from([0, 3, 9, 40, 200, 10**6]))
def test_keys_with_their_largest_errors_rank_like_exact_numbers(seed, spread):
    rng = np.random.default_rng(seed)
    near = nearness(2048)
    exact = rng.integers(-spread, spread + 1, 60) * rng.choice([0.25, 1.0])
    kind = rng.integers(0, 3, 60)  # match, non-match, a row of the identity that is neither
    kind[:2] = 0, 1

    # float64 is off by up to half of what is beyond 5, and the rest is rounded as in write_keys
    error = rng.choice([-1, 0, 1], 60) * (near - 5) / 2
    keys = np.trunc(exact + error).astype(np.int32) & ~1

    marks = mark_identity(np.flatnonzero(kind != 1), len(kind))
    found = rank_row(keys.copy(), marks, np.flatnonzero(kind == 2), near)
    above, tied = found.above.copy(), np.zeros_like(found.above)
    for run in found.runs:
        assert not (kind[run.columns] == 2).any()
        above[run.matches], tied[run.matches] = count_run(run, -exact[run.columns])

    own, others = np.sort(exact[kind == 0]), exact[kind == 1]
    assert above.tolist() == [(others < one).sum() for one in own]
    assert tied.tolist() == [(others == one).sum() for one in own]


@pytest.mark.parametrize("panel", [1024, 3])
def test_keys_by_hand(monkeypatch, panel):
    monkeypatch.setattr(sorted_rows, "_PANEL", panel)
    queries = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    gallery = torch.tensor([[3.0, 4.0], [-6.0, -8.0], [4.0, -3.0], [0.0, 5.0]])
    keys = torch.empty(2, 4, dtype=torch.int32)
    norms = [torch.linalg.vector_norm(rows.double(), dim=1) for rows in (queries, gallery)]
    write_keys(queries, norms[0], gallery, norms[1], keys)

    assert keys[0].tolist() == [-(2**30), 2**30, 0, pytest.approx(-0.8 * 2**30, abs=2)]
    assert keys[1].tolist() == [0, 0, 0, 0]
    assert (keys % 2 == 0).all()


def half_of_the_gallery(kind, num_matches, num_gallery=700):
    """Make queries and a gallery of which one identity has ``num_matches``, by two cameras."""
    rng = np.random.default_rng(0)
    ids = np.arange(num_gallery) % 5 + 1
    ids[rng.permutation(num_gallery)[: num_matches + 20]] = 0
    query_ids = np.array([0, 0, 0, 1])

    gallery = np.sign(rng.standard_normal((num_gallery, 64)))
    queries = np.sign(rng.standard_normal((4, 64)))
    if kind == "spread":
        gallery, queries = rng.standard_normal(gallery.shape), rng.standard_normal(queries.shape)
    elif kind == "near":  # similarities of nearly all pairs differ by less than a step of the keys
        gallery = gallery[:1] + 1e-9 * rng.standard_normal(gallery.shape)
    elif kind == "clusters":  # of 10 rows, near or equal
        scale = 1e-9 * rng.integers(0, 2, gallery.shape)
        gallery = gallery[np.arange(num_gallery) % 70] + scale * rng.standard_normal(gallery.shape)

    cameras = np.ones(num_gallery, dtype=np.int64)
    cameras[np.flatnonzero(ids == 0)[:20]] = 0
    return queries, gallery, query_ids, ids, np.array([0, 0, 2, 0]), cameras


@pytest.mark.parametrize("kind", ["codes", "spread", "near", "clusters"])
@pytest.mark.parametrize("num_matches", [256, 257, 400])
def test_same_bits_on_both_sides_of_the_switch(monkeypatch, kind, num_matches):
    queries, gallery, query_ids, ids, query_cameras, cameras = half_of_the_gallery(
        kind, num_matches
    )
    ranked_rows = []
    rank = query_block.rank_row

    def counted(*args):
        ranked_rows.append(rank(*args))
        return ranked_rows[-1]

    def run(**options):
        return evaluate_reid(
            queries,
            gallery,
            query_ids=query_ids,
            gallery_ids=ids,
            query_cameras=query_cameras,
            gallery_cameras=cameras,
            junk_ids=[3],
            **options,
        )

    monkeypatch.setattr(query_block, "rank_row", counted)
    found = {ties: run(ties=ties) for ties in ("pessimistic", "optimistic", "mean")}

    # the third query shares no camera with the gallery, so it has 20 matches more
    assert len(ranked_rows) == 3 * (3 if num_matches > 256 else 1)
    if num_matches > 256:
        assert any(row.runs for row in ranked_rows) == (kind != "spread")

    monkeypatch.setattr(query_block, "_FEW_MATCHES", 10**9)
    for ties, result in found.items():
        want = run(ties=ties)
        for measure in ("average_precision", "inverse_negative_penalty", "first_rank"):
            np.testing.assert_array_equal(getattr(result, measure), getattr(want, measure))
    assert len(ranked_rows) == 3 * (3 if num_matches > 256 else 1)


@pytest.mark.parametrize("ties", ["pessimistic", "optimistic"])
def test_like_the_oracle_with_ties(ties):
    queries, gallery, query_ids, ids, query_cameras, cameras = half_of_the_gallery("codes", 300)
    result = evaluate_reid(
        queries,
        gallery,
        query_ids=query_ids,
        gallery_ids=ids,
        query_cameras=query_cameras,
        gallery_cameras=cameras,
        ties=ties,
    )

    similarity = oracle.exact(queries, gallery, "cosine")
    columns = [(query_cameras, cameras)]
    rows = oracle.evaluate(similarity, query_ids, ids, columns, ties=ties)
    for i, (precision, penalty, first) in enumerate(rows):
        assert result.average_precision[i] == pytest.approx(precision, abs=1e-12)
        assert result.inverse_negative_penalty[i] == pytest.approx(penalty, abs=1e-12)
        assert result.first_rank[i] == first


def test_a_wide_gallery_sorts_rows_from_a_share_of_matches(monkeypatch):
    ranked = []
    rank = query_block.rank_row
    monkeypatch.setattr(query_block, "rank_row", lambda *args: ranked.append(1) or rank(*args))
    rows = np.random.default_rng(0).standard_normal((6400, 8)).astype(np.float32)

    for num_matches, num_sorted in ((400, 0), (401, 1)):
        ids = (np.arange(6400) >= num_matches).astype(np.int64)
        evaluate_reid(rows[:1] + 1, rows, query_ids=[0], gallery_ids=ids)
        assert len(ranked) == num_sorted


def test_one_row_at_a_time_with_the_space_of_bfloat16(monkeypatch):
    monkeypatch.setattr(count_nonmatches, "bfloat16_allowance", lambda *_: 1.0)
    monkeypatch.setattr(count_nonmatches, "_MIN_QUERIES", 1)
    monkeypatch.setattr(count_nonmatches, "_BLOCK", 1)
    queries, gallery, query_ids, ids, *_ = half_of_the_gallery("codes", 400)
    queries, gallery = queries.astype(np.float32), gallery.astype(np.float32)
    result = evaluate_reid(queries, gallery, query_ids=query_ids, gallery_ids=ids)

    monkeypatch.setattr(query_block, "_FEW_MATCHES", 10**9)
    want = evaluate_reid(queries, gallery, query_ids=query_ids, gallery_ids=ids)
    np.testing.assert_array_equal(result.average_precision, want.average_precision)
