import numpy as np
import pytest

from clipreid_kit import evaluate_reid
from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit.metrics._engine import contending_items, count_nonmatches


def by_argsort(queries, gallery, query_ids, gallery_ids):
    """Rank of the first match and average precision of the queries that have a match."""
    left, right = (rows.astype(np.float64) for rows in (queries, gallery))
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    right /= np.linalg.norm(right, axis=1, keepdims=True)

    order = np.argsort(-(left @ right.T), axis=1)
    first_rank, average_precision = [], []
    for i in range(len(queries)):
        ranks = 1 + np.flatnonzero(gallery_ids[order[i]] == query_ids[i])
        if len(ranks):
            first_rank.append(ranks[0])
            average_precision.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    return first_rank, average_precision


def float16_file(tmp_path, num_identities=40):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, num_identities, 700)
    centres = rng.standard_normal((num_identities, 16))
    rows = (centres[ids] + rng.standard_normal((700, 16))).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    return rows, np.load(tmp_path / "rows.npy", mmap_mode="r"), ids


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("items_together", [0, 64])
@pytest.mark.parametrize("num_strangers", [0, 60])  # queries whose identity nobody has
def test_many_tiles_of_a_file_rank_like_argsort(
    monkeypatch, tmp_path, num_threads, items_together, num_strangers
):
    rows, gallery, ids = float16_file(tmp_path)
    query_ids = ids[:100].copy()
    query_ids[5 : 5 + num_strangers] = 1000 + np.arange(num_strangers)

    monkeypatch.setattr(count_nonmatches, "_TILE", 16 * 48)  # tiles of 48 rows
    monkeypatch.setattr(count_nonmatches, "_WORTH_THREADS", 0)
    monkeypatch.setattr(count_nonmatches, "_MIN_QUERIES_EACH", 10)
    monkeypatch.setattr(count_nonmatches, "default_threads", lambda: num_threads)
    monkeypatch.setattr(contending_items, "_FEW", items_together)
    result = evaluate_reid(rows[:100], gallery, query_ids=query_ids, gallery_ids=ids)

    first_rank, average_precision = by_argsort(rows[:100], rows, query_ids, ids)
    assert result.num_valid_queries == 100 - num_strangers
    valid = np.isin(query_ids, ids)
    assert np.asarray(result.first_rank)[valid].tolist() == first_rank
    np.testing.assert_allclose(
        np.asarray(result.average_precision)[valid], average_precision, rtol=1e-12
    )


def test_queries_without_a_match_are_not_multiplied(monkeypatch, tmp_path):
    rows, gallery, ids = float16_file(tmp_path)
    query_ids = np.where(np.arange(100) % 3 == 0, ids[:100], 1000)
    sizes = []

    class Watched(count_nonmatches.QueryBlock):
        def count(self, buffer, *, try_bfloat16):
            sizes.append(len(self.norms))
            super().count(buffer, try_bfloat16=try_bfloat16)

    monkeypatch.setattr(count_nonmatches, "QueryBlock", Watched)
    evaluate_reid(rows[:100], gallery, query_ids=query_ids, gallery_ids=ids)
    assert max(sizes) <= 34


def test_a_broken_query_without_a_match_is_found(tmp_path):
    rows, gallery, ids = float16_file(tmp_path)
    queries = rows[:100].copy()
    queries[50] = np.nan
    query_ids = np.where(np.arange(100) < 40, ids[:100], 1000)
    with pytest.raises(ValueError, match=r"1 of 100 rows \(first: \[50\]\)"):
        evaluate_reid(queries, gallery, query_ids=query_ids, gallery_ids=ids)


def test_tiles_can_begin_at_any_row(tmp_path):
    rows, gallery, _ = float16_file(tmp_path)
    read = EmbeddingRows("test", "rows", gallery)
    tiles = list(count_nonmatches._read_tiles(read, 300, 123))
    assert [left for left, _, _ in tiles] == [123, 423]
    np.testing.assert_array_equal(np.concatenate([part for _, part, _ in tiles]), rows[123:])
