import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from row_sources import space_of

from clipreid_kit._threads import own_threads
from clipreid_kit.metrics.reranking import _reciprocal_sets
from clipreid_kit.metrics.reranking._reciprocal_sets import (
    SparseRows,
    average_over_lists,
    concatenate_ranges,
    neighbour_sets,
    reciprocal_weights,
    transpose_rows,
)


def to_dense(sparse, width):
    out = torch.zeros(len(sparse.begin) - 1, width)
    for i in range(len(out)):
        entries = slice(int(sparse.begin[i]), int(sparse.begin[i + 1]))
        assert len(set(sparse.column[entries].tolist())) == entries.stop - entries.start
        out[i, sparse.column[entries]] = sparse.weight[entries]

    return out


def random_sparse(rng, rows, columns):
    matrix = torch.from_numpy(
        rng.random((rows, columns)) * (rng.random((rows, columns)) < 0.3)
    ).float()
    row, column = torch.nonzero(matrix, as_tuple=True)
    counts = torch.bincount(row, minlength=rows)

    return matrix, SparseRows(
        torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]),
        column,
        matrix[row, column],
    )


def test_concatenated_ranges():
    begin, counts = torch.tensor([5, 100, 7, 0]), torch.tensor([2, 0, 3, 1])
    assert concatenate_ranges(begin, counts).tolist() == [5, 6, 7, 8, 9, 0]
    assert concatenate_ranges(begin[:0], counts[:0]).tolist() == []


@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 5))
def test_averages_are_means_of_rows(seed, total, size):
    rng = np.random.default_rng(seed)
    matrix, sparse = random_sparse(rng, total, total)
    others = [rng.permutation(np.delete(np.arange(total), i)) for i in range(total)]
    lists = np.stack([np.append(i, others[i])[: min(size, total)] for i in range(total)])
    want = torch.stack([matrix[members].mean(dim=0) for members in lists])

    with own_threads(1) as threads:
        got = average_over_lists(sparse, lists, threads)
    torch.testing.assert_close(to_dense(got, total), want)


@given(st.integers(0, 2**31), st.integers(1, 9))
def test_transposed_rows(seed, total):
    rng = np.random.default_rng(seed)
    matrix, sparse = random_sparse(rng, total, total)
    first = int(rng.integers(0, total))
    got = to_dense(transpose_rows(sparse, first, total), total - first)

    torch.testing.assert_close(got, matrix[first:].T.contiguous())


def test_sets_by_hand(monkeypatch):
    # points on a line; lists of the row itself and its two nearest, the lower index first
    points = torch.tensor([[0.0], [1.0], [2.1], [9.0], [9.5]])
    lists = np.array([[0, 1, 2], [1, 0, 2], [2, 1, 0], [3, 4, 2], [4, 3, 2]])
    largest = torch.tensor([9.5, 8.5, 7.4, 9.0, 9.5]).square()

    for step in (1, 2, 100):
        monkeypatch.setattr(_reciprocal_sets, "_STEP", step)
        space = space_of([points], "euclidean")
        scale = -space.nearness(slice(0, 1), slice(4, 5)).item() / 9.5**2
        with own_threads(1) as threads:
            weights = reciprocal_weights(space, lists, largest * scale, 2, threads)
        got = to_dense(weights, 5)

        assert (got[0] > 0).tolist() == [True, True, True, False, False]
        # row 2 is in the list of row 3, but not the other way round
        assert (got[3] > 0).tolist() == [False, False, False, True, True]

        exponents = torch.tensor([0.0, 1.0, 2.1**2]) / 9.5**2
        torch.testing.assert_close(got[0, :3], torch.softmax(-exponents, dim=0))
        torch.testing.assert_close(got.sum(dim=1), torch.ones(5))


@pytest.mark.parametrize("num_threads", [2, 7])
def test_threads_change_no_bit(monkeypatch, num_threads):
    rows = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    space = space_of([rows], "cosine")
    want, largest = neighbour_sets(space, 5, 3)

    monkeypatch.setattr(_reciprocal_sets, "_LEAST_DIVIDED", 1)
    monkeypatch.setattr(_reciprocal_sets, "default_threads", lambda: num_threads)
    got, largest_again = neighbour_sets(space, 5, 3)

    assert torch.equal(largest, largest_again)
    for part, again in zip(want, got, strict=True):
        assert torch.equal(part, again)
