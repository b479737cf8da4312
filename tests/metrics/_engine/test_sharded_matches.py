"""Two processes, each with a part of queries and gallery, return the bits of one (gloo)."""

import numpy as np
import pytest
import torch
from two_ranks import on_two_ranks

from clipreid_kit.metrics import ReidEvaluator, evaluate_reid
from clipreid_kit.metrics._engine import sharded_matches


def sides(named=False, dtype=torch.float32):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, 16))
    result = []
    for count in (23, 170):
        ids = rng.integers(0, 14, count)
        rows = np.round(2 * centres[ids % 12] + 2 * rng.standard_normal((count, 16)))
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


# name: (options, queries on rank 0, gallery rows on rank 0, sides, whether with rules)
CASES = {
    "usual": ({}, 9, 60, {}, False),
    "rules": ({"junk_ids": [3], "ties": "mean", "max_rank": 5}, 9, 60, {}, True),
    "euclidean, names": ({"distance": "euclidean"}, 20, 169, {"named": True}, True),
    "half precision": ({}, 1, 100, {"dtype": torch.bfloat16}, False),
    "all queries here": ({}, 23, 60, {}, True),
    "all of the gallery there": ({}, 9, 0, {}, True),
    "leave one out": ({"leave_one_out": True, "ties": "mean"}, 23, 80, {}, True),
}


def feed(evaluator, side, split, rows, rules):
    part = [x[rows] for x in side]
    evaluator.update(
        part[0],
        part[1],
        split=split,
        **({"cameras": part[2], "exclude": [part[3]]} if rules else {}),
    )


def numbers(result):
    arrays = (
        result.average_precision,
        result.inverse_negative_penalty,
        result.first_rank,
        result.cmc,
    )

    return [np.nan_to_num(x, nan=-1).tolist() for x in arrays], result.to_dict() | {
        "ids": result.query_ids.tolist()
    }


def on_rank(rank, name):
    options, first, second, kind, rules = CASES[name]
    query, gallery = sides(**kind)
    mine = [slice(None, cut) if rank == 0 else slice(cut, None) for cut in (first, second)]
    evaluator = ReidEvaluator(**options, distributed=True)

    if options.get("leave_one_out"):
        feed(evaluator, gallery, "query", mine[1], rules)
    else:
        feed(evaluator, query, "query", mine[0], rules)
        feed(evaluator, gallery, "gallery", mine[1], rules)

    return numbers(evaluator.compute())


def broken_on_one_rank(rank, what):
    query, gallery = sides()
    rows = gallery[0].clone()

    if what == "nan" and rank == 1:
        rows[3] = np.nan

    options = {
        "max_rank": {"max_rank": 5 + rank},
        "ties": {"ties": "mean" if rank else "optimistic"},
        "distance": {"distance": "cosine" if rank else "euclidean"},
        "junk": {"junk_ids": [-1] if rank else []},
        "named junk": {"junk_ids": ["-1"]},
    }
    evaluator = ReidEvaluator(distributed=True, **options.get(what, {}))
    if what == "named junk" and rank:
        rows, gallery = rows[:0], [column[:0] for column in gallery]
    if what != "empty":
        evaluator.update(query[0], query[1] + (100 if what == "strangers" else 0), split="query")
        cameras = gallery[2] if what == "cameras" and rank else None
        evaluator.update(rows, gallery[1], cameras, split="gallery")

    try:
        evaluator.compute()
    except ValueError as error:
        return str(error)

    return "no error"


BROKEN = (
    *("nan", "empty", "strangers", "cameras"),
    *("max_rank", "ties", "distance", "junk", "named junk"),
)


def found_by(rank):
    sharded_matches._MAX_QUERIES = 4
    found = {name: on_rank(rank, name) for name in CASES}
    found["errors"] = {what: broken_on_one_rank(rank, what) for what in BROKEN}
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return on_two_ranks(found_by, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_return_the_bits_of_one(results, name):
    options, _, _, kind, rules = CASES[name]
    query, gallery = sides(**kind)
    options = dict(options)
    leave_one_out = options.pop("leave_one_out", False)

    if leave_one_out:
        query = gallery

    if rules:
        options |= {
            "query_cameras": query[2],
            "gallery_cameras": gallery[2],
            "exclude": [(query[3], gallery[3])],
        }

    ids = {"query_ids": query[1], "gallery_ids": None if leave_one_out else gallery[1]}
    want = numbers(evaluate_reid(query[0], None if leave_one_out else gallery[0], **ids, **options))

    assert results[0][name] == want
    assert results[1][name] == want
    assert 0.1 < want[1]["mean_ap"] < 0.9


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "nan",
            "NaN or infinity in 1 of 170 rows (first: [3]). Check the images",
        ),
        ("empty", 'no rank has a batch of split="query"; call update before compute'),
        ("strangers", "none of the 12 query identities is among the 14 of the gallery"),
        ("max_rank", "ReidEvaluator: its options differ between the ranks (('cosine', [], False"),
        ("ties", "ReidEvaluator: its options differ between the ranks"),
        ("distance", "ReidEvaluator: its options differ between the ranks"),
        ("junk", "ReidEvaluator: its options differ between the ranks"),
        ("named junk", "so they never match; convert one side. (on rank"),
        (
            "cameras",
            'all batches of split="gallery" alike on all ranks, got width 16, numbered ids',
        ),
    ],
)
def test_an_error_on_one_rank_is_raised_on_all(results, what, message):
    for rank in range(2):
        assert message in results[rank]["errors"][what]
