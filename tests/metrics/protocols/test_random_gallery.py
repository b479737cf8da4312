import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import protocols as oracle
from oracles import reid
from protocol_rows import on_circle

from clipreid_kit import HandsProtocol, KReciprocalReranker, VehicleIDProtocol


@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=30),
    st.integers(0, 1000),
    st.sampled_from(["id", "number"]),
)
def test_splits_are_one_image_of_each_identity_and_all_others(numbers, seed, kind):
    ids = [f"p{i}" for i in numbers] if kind == "id" else numbers
    protocol = VehicleIDProtocol(num_splits=4, seed=seed)

    if len(set(ids)) == len(ids):
        with pytest.raises(ValueError, match="no identity has two images"):
            list(protocol.splits(ids))
        return

    splits = list(protocol.splits(ids))
    assert len(splits) == 4

    for split in splits:
        assert sorted([*split.query_rows, *split.gallery_rows]) == list(range(len(ids)))
        assert sorted(ids[j] for j in split.gallery_rows) == sorted(set(ids))

    again = list(VehicleIDProtocol(num_splits=2, seed=seed).splits(ids))
    for one, other in zip(
        splits[:2], again, strict=True
    ):  # with more splits, the first stay the same
        np.testing.assert_array_equal(one.gallery_rows, other.gallery_rows)

    for one, other in zip(splits, HandsProtocol(num_splits=4, seed=seed).splits(ids), strict=True):
        np.testing.assert_array_equal(one.query_rows, other.query_rows)


def test_draws_are_the_same_on_every_machine():
    splits = VehicleIDProtocol(num_splits=2, seed=3).splits([0, 0, 0, 1, 1, 1, 2, 2])
    assert [split.gallery_rows.tolist() for split in splits] == [[2, 4, 6], [2, 5, 6]]


def test_seeds_differ_and_global_generators_are_unchanged():
    ids = np.arange(60) % 6
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, other = (next(VehicleIDProtocol(seed=seed).splits(ids)) for seed in (0, 1))

    assert (first.gallery_rows != other.gallery_rows).any()

    VehicleIDProtocol(num_splits=2).evaluate(np.random.default_rng(0).standard_normal((60, 4)), ids)
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002


def test_by_hand():
    # a at 0 and 20 degrees, b at 35: with a's 0 in the gallery, b is nearer to the query at 20
    protocol = VehicleIDProtocol(num_splits=20)
    results = protocol.evaluate(on_circle(0, 20, 35), ["a", "a", "b"])
    want = [0.5 if 0 in split.gallery_rows else 1.0 for split in protocol.splits(["a", "a", "b"])]

    assert results.values("mean_ap").tolist() == want
    assert set(want) == {0.5, 1.0}
    assert results.mean_ap == np.mean(want)
    assert results.std("mean_ap") == np.std(want, ddof=1)
    assert [result.query_ids.tolist() for result in results.results] == [["a"]] * 20
    assert [rows.tolist() for rows in results.query_rows] == [
        [1] if ap == 0.5 else [0] for ap in want
    ]


@given(st.integers(0, 10_000), st.booleans())
def test_equals_brute_force(seed, as_tensor):
    rng = np.random.default_rng(seed)
    rows, ids = rng.integers(-2, 3, (14, 3)).astype(np.float32), rng.integers(0, 5, 14)
    protocol = VehicleIDProtocol(num_splits=3, seed=seed)
    results = protocol.evaluate(torch.from_numpy(rows) if as_tensor else rows, ids)
    similarity = reid.exact(rows, rows, "cosine")

    for split, result in zip(protocol.splits(ids), results.results, strict=True):
        want = oracle.of_split(similarity, ids, *split)
        np.testing.assert_allclose(result.average_precision, [row[0] for row in want], atol=1e-12)
        np.testing.assert_array_equal(result.first_rank, [row[2] for row in want])
        assert result.num_gallery == len(set(ids.tolist()))


def test_distractors_are_in_every_gallery_and_match_nothing():
    rows, ids = on_circle(0, 20, 60, 90), [1, 1, 2, 2]
    distractors = on_circle(10, 75)
    protocol = HandsProtocol(num_splits=5)
    without = protocol.evaluate(rows, ids)
    beside = protocol.evaluate(rows, ids, distractor_embeddings=distractors)

    assert without.rank(1) == 1
    assert beside.rank(1) == 0  # each is between the two images of an identity
    assert beside.rank(2) == 1
    assert [result.num_gallery for result in beside.results] == [4] * 5

    # the same images are drawn with and without distractors
    for one, other in zip(without.query_rows, beside.query_rows, strict=True):
        np.testing.assert_array_equal(one, other)

    # whatever it is called: folders that are numbered separately share names
    named_alike = protocol.evaluate(
        rows, ids, distractor_embeddings=distractors, distractor_ids=[1, 2]
    )
    assert named_alike.values("mean_ap").tolist() == beside.values("mean_ap").tolist()
    assert without.protocol == "Hands without distractors, 5 random galleries (seed 0)"
    assert beside.protocol == "Hands with distractors, 5 random galleries (seed 0)"


def test_one_image_of_each_named_distractor():
    rng = np.random.default_rng(0)
    rows, ids = rng.standard_normal((20, 8)).astype(np.float32), np.arange(20) % 4
    others = torch.from_numpy(rng.standard_normal((9, 8)))
    named = [f"palm {i % 3}" for i in range(9)]
    results = HandsProtocol(num_splits=3).evaluate(
        rows, ids, distractor_embeddings=others, distractor_ids=named
    )

    assert [result.num_gallery for result in results.results] == [4 + 3] * 3

    whole = HandsProtocol(num_splits=3).evaluate(rows, ids, distractor_embeddings=others)
    assert [result.num_gallery for result in whole.results] == [4 + 9] * 3
    assert (whole.values("mean_ap") <= results.values("mean_ap")).all()


def test_re_ranks_each_split_and_reads_a_mapped_file(tmp_path):
    rng = np.random.default_rng(1)
    ids = np.arange(40) % 5
    rows = (rng.standard_normal((5, 8))[ids] + rng.standard_normal((40, 8))).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    plain = VehicleIDProtocol(num_splits=2).evaluate(rows, ids)
    from_file = VehicleIDProtocol(num_splits=2).evaluate(mapped, ids)

    assert plain.values("mean_ap").tolist() == from_file.values("mean_ap").tolist()

    again = VehicleIDProtocol(num_splits=2, rerank=KReciprocalReranker).evaluate(mapped, ids)
    assert again.values("mean_ap").tolist() != plain.values("mean_ap").tolist()
    assert again.protocol == "VehicleID, 2 random galleries (seed 0), re-ranked"


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda rows: VehicleIDProtocol(num_splits=0), "num_splits as a whole number >= 1, got 0"),
        (lambda rows: HandsProtocol(seed=-1), "seed as a whole number >= 0, got -1"),
        (lambda rows: VehicleIDProtocol(seed=2**63), r"seed below 2\^63, got"),
        (
            lambda rows: VehicleIDProtocol().splits(3),
            "VehicleIDProtocol: expected ids as a list of ids, got int",
        ),
        (
            lambda rows: VehicleIDProtocol().evaluate(rows, [1, 2, 3]),
            "got 3 images of 3 identities",
        ),
        (
            lambda rows: VehicleIDProtocol().evaluate(rows, [1, 2]),
            "VehicleIDProtocol: expected ids as 3 ids",
        ),
        (
            lambda rows: VehicleIDProtocol().evaluate(np.where(rows == 3, np.nan, rows), [1, 1, 2]),
            r"finite embeddings, got NaN or infinity in 1 of 3 rows \(first: \[2\]\)",
        ),
        (
            lambda rows: HandsProtocol().evaluate(rows, [1, 1, 2], distractor_ids=[1]),
            "distractor_ids is given without distractor_embeddings",
        ),
        (
            lambda rows: HandsProtocol().evaluate(
                rows, [1, 1, 2], distractor_embeddings=rows[:, :1]
            ),
            "embeddings and distractor_embeddings of one width",
        ),
        (
            lambda rows: HandsProtocol().evaluate(
                rows, [1, 1, 2], distractor_embeddings=np.full((2, 2), np.inf)
            ),
            "finite distractor_embeddings",
        ),
    ],
)
def test_bad_input(run, message):
    with pytest.raises(ValueError, match=message):
        run(np.array([[1.0, 2.0], [2.0, 1.0], [3.0, 3.0]]))
