import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics import ReidEvaluator, evaluate_reid


def sides(seed=0, named=False, dtype=torch.float32):
    """Embeddings, ids, cameras and sessions of 23 queries and 170 gallery rows, with ties."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((12, 16))
    result = []
    for count in (23, 170):
        ids = rng.integers(0, 14, count)
        rows = np.round(centres[ids % 12] + rng.standard_normal((count, 16)))
        label = np.array([f"p{i}" for i in ids]) if named else ids
        result.append(
            (
                torch.from_numpy(rows).to(dtype),
                label,
                rng.integers(0, 4, count),
                rng.integers(0, 3, count),
            )
        )

    return result


def whole(query, gallery, **options):
    return evaluate_reid(
        query[0],
        gallery[0],
        query_ids=query[1],
        gallery_ids=gallery[1],
        query_cameras=query[2],
        gallery_cameras=gallery[2],
        exclude=[(query[3], gallery[3])],
        **options,
    )


def feed(evaluator, side, split, rows, with_rules=True):
    part = [x[rows] for x in side]
    rules = {"cameras": part[2], "exclude": [part[3]]} if with_rules else {}
    evaluator.update(part[0], part[1], split=split, **rules)


def assert_same_bits(got, want):
    for name in (
        "average_precision",
        "inverse_negative_penalty",
        "first_rank",
        "num_positives",
        "query_ids",
    ):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name))

    assert got.to_dict() == want.to_dict()
    assert got.max_rank == want.max_rank


@pytest.mark.parametrize("kind", ["list", "array", "tensor"])
def test_a_batch_is_copied(kind):
    convert = {"list": list, "array": np.array, "tensor": torch.tensor}[kind]
    evaluator = ReidEvaluator(junk_ids=(junk := [-1]))
    rows = torch.eye(4)
    ids, cameras, sessions = (convert(values) for values in ([0, 1, 0, -1], [0] * 4, [5] * 4))

    evaluator.update(rows[:2], [0, 1], [1, 1], exclude=[[6, 6]], split="query")
    evaluator.update(rows, ids, cameras, exclude=[sessions], split="gallery")
    want = evaluator.compute().to_dict()

    # The caller fills its buffers with the next batch.
    rows.fill_(9)
    for values in (ids, cameras, sessions):
        values[:] = convert([1, 1, 1, 1])
    junk[0] = 0

    assert evaluator.compute().to_dict() == want
    assert want["rank_1"] == 1
    assert want["num_gallery"] == 3


@given(
    st.lists(st.integers(0, 170), max_size=5),
    st.booleans(),
    st.sampled_from(["pessimistic", "mean"]),
    st.sampled_from(["cosine", "euclidean"]),
)
def test_batches_equal_the_whole(cuts, named, ties, distance):
    query, gallery = sides(1, named)
    options = {
        "ties": ties,
        "distance": distance,
        "max_rank": 7,
        "junk_ids": ["p3"] if named else [3],
    }
    evaluator = ReidEvaluator(**options)
    edges = [0, *sorted(cuts), 170]

    for start, stop in itertools.pairwise(edges):
        feed(evaluator, gallery, "gallery", slice(start, stop))
        feed(evaluator, query, "query", slice(min(start, 23), min(stop, 23)))

    want = whole(query, gallery, **options)
    assert_same_bits(evaluator.compute(), want)
    assert_same_bits(evaluator.compute(), want)  # batches are kept


def test_leave_one_out_and_reset():
    _, gallery = sides(2)
    evaluator = ReidEvaluator(leave_one_out=True)
    feed(evaluator, gallery, "query", slice(0, 5))
    evaluator.reset()

    for start in range(0, 170, 50):
        feed(evaluator, gallery, "query", slice(start, start + 50), with_rules=False)

    assert_same_bits(evaluator.compute(), evaluate_reid(gallery[0], query_ids=gallery[1]))


def test_batches_are_copied():
    query, gallery = sides(3)
    evaluator, buffer = ReidEvaluator(), torch.empty(10, 16)
    feed(evaluator, query, "query", slice(None))

    for start in range(0, 170, 10):
        buffer.copy_(gallery[0][start : start + 10])
        rows = slice(start, start + 10)
        evaluator.update(
            buffer, gallery[1][rows], gallery[2][rows], split="gallery", exclude=[gallery[3][rows]]
        )

    assert_same_bits(evaluator.compute(), whole(query, gallery))


@pytest.mark.unhooked
def test_bad_updates():
    rows = torch.eye(3)
    evaluator = ReidEvaluator()

    with pytest.raises(ValueError, match="split to be one of query, gallery"):
        evaluator.update(rows, [0, 1, 2], split="test")
    with pytest.raises(ValueError, match="embeddings as a floating-point matrix"):
        evaluator.update(rows[0], [0], split="query")
    with pytest.raises(ValueError, match=r"ids as 3 ids, one for each row, got shape \(2,\)"):
        evaluator.update(rows, [0, 1], split="query")
    with pytest.raises(ValueError, match='there is no batch of split="query"; call update'):
        evaluator.compute()

    evaluator.update(rows, [0, 1, 2], split="query")
    with pytest.raises(ValueError, match='there is no batch of split="gallery"'):
        evaluator.compute()

    for change, message in [
        (
            {"ids": ["a", "b", "c"]},
            "width 3, named ids, no cameras, .* float32 after width 3, numbered ids",
        ),
        ({"cameras": [0, 0, 0]}, "cameras, 0 values"),
        ({"embeddings": rows.double()}, "float64 after"),
        ({"exclude": [[0, 1, 2]]}, "1 values of exclude"),
    ]:
        with pytest.raises(ValueError, match=message):
            evaluator.update(**{"embeddings": rows, "ids": [0, 1, 2], "split": "query", **change})

    evaluator.update(rows, [0, 1, 2], [0, 1, 2], split="gallery")
    with pytest.raises(ValueError, match="cameras and values of exclude differ between the splits"):
        evaluator.compute()
    with pytest.raises(ValueError, match="there is no gallery with leave_one_out=True"):
        ReidEvaluator(leave_one_out=True).update(rows, [0, 1, 2], split="gallery")
    with pytest.raises(ValueError, match="ties to be one of"):
        ReidEvaluator(ties="none")
    with pytest.raises(
        ValueError, match="ReidEvaluator: expected junk_ids as a list of ids, got -1"
    ):
        ReidEvaluator(junk_ids=-1)

    with pytest.raises(ValueError, match="embeddings as a dense tensor, got sparse_coo"):
        evaluator.update(rows.to_sparse(), [0, 1, 2], split="query")

    broken = rows.clone()
    broken[1, 2] = torch.nan
    late = ReidEvaluator()

    for part in (rows, rows, broken):
        late.update(part, [0, 1, 2], split="gallery")

    late.update(rows, [0, 1, 2], split="query")
    with pytest.raises(
        ValueError, match=r"finite gallery_embeddings, got NaN .* in 1 of 9 rows .first: \[7\]"
    ):
        late.compute()


def test_ids_of_several_integer_types():
    rows = torch.eye(4)
    evaluator = ReidEvaluator()
    evaluator.update(rows[:2], np.array([0, 2**62 + 1], dtype=np.uint64), split="query")
    evaluator.update(rows[2:3], torch.tensor([2], dtype=torch.uint8), split="query")
    evaluator.update(rows[3:], [2**62], split="query")
    evaluator.update(rows, [0, 2**62 + 1, 2, 2**62], split="gallery")

    assert evaluator.compute().num_positives.tolist() == [1, 1, 1, 1]


def test_without_a_process_group_distributed_changes_nothing():
    query, gallery = sides(4)
    evaluator = ReidEvaluator(distributed=True)
    feed(evaluator, query, "query", slice(None))
    feed(evaluator, gallery, "gallery", slice(None))

    assert_same_bits(evaluator.compute(), whole(query, gallery))


def test_repr_shows_sizes_and_options():
    evaluator = ReidEvaluator(distance="euclidean", junk_ids=[-1])
    evaluator.update(torch.eye(3), [0, 1, 2], split="query")
    evaluator.update(torch.eye(3), [0, 1, 2], split="gallery")
    evaluator.update(torch.eye(3), [0, 1, 2], split="gallery")
    assert repr(evaluator) == (
        "ReidEvaluator(num_queries=3, num_gallery=6, distance='euclidean', ties='pessimistic', "
        "max_rank=50, junk_ids=[-1])"
    )
    assert "leave_one_out=True" in repr(ReidEvaluator(leave_one_out=True))
