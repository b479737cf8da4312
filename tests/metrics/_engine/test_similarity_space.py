import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from row_sources import space_of

from clipreid_kit._similarity.exact_similarity import split_rows
from clipreid_kit.metrics._engine import similarity_space
from clipreid_kit.metrics._engine.similarity_space import check_sets


@st.composite
def two_sets(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    dim = draw(st.integers(1, 70))
    sets = [
        rng.standard_normal((draw(st.integers(1, 12)), dim)) * draw(st.sampled_from([1e-3, 1, 50]))
        for _ in "qg"
    ]
    dtypes = [draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16])) for _ in sets]

    return [torch.from_numpy(x).to(dtype) for x, dtype in zip(sets, dtypes, strict=True)]


@given(two_sets(), st.sampled_from(["cosine", "euclidean"]), st.sampled_from([0.0, 100.0, 1e4]))
def test_fast_nearness_is_within_its_bound(sets, distance, offset):
    sets = [x + offset for x in sets]
    space = space_of(sets, distance)
    rows = torch.cat([x.double() for x in sets])
    dim = rows.shape[1]

    if distance == "cosine":
        want = torch.nn.functional.cosine_similarity(rows[:, None], rows[None], dim=2, eps=1e-300)
        if space.top == 0:  # close to each other
            want = (want - 1) * space.scale**2
    else:
        spread = (rows - rows.mean(dim=0)).norm(dim=1).max().clamp(min=1e-300)
        scale = 2.0 ** -float(spread.log2().ceil())
        want = -0.5 * ((rows[:, None] - rows[None]) * scale).square().sum(dim=2)

    got = space.nearness(slice(0, len(space)), slice(0, len(space))).double()
    assert ((got - want).abs() <= space.error[:, None] + 1e-15 * space.scale**2).all()
    # beside float32's part, float64's own rounding, which scaling up makes larger
    assert float(space.error.max()) < 1e-3 + 1e-15 * (dim + 8) * space.scale**2

    pairs = np.arange(len(space))
    away = space.distances(pairs, pairs[::-1].copy())

    torch.testing.assert_close(
        away.double(),
        space.top - want[pairs, pairs[::-1].copy()],
        atol=1e-5 + 1e-15 * space.scale**2,
        rtol=0,
    )


@given(two_sets(), st.sampled_from(["cosine", "euclidean"]))
def test_exact_similarities(sets, distance):
    rows = torch.cat([x.double() for x in sets]).numpy()
    first, second = np.divmod(np.arange(len(rows) ** 2), len(rows))
    got = space_of(sets, distance).exact(first, second)

    if distance == "cosine":
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        want = (unit[first] * unit[second]).sum(axis=1)
    else:
        want = -((rows[first] - rows[second]) ** 2).sum(axis=1)

    np.testing.assert_allclose(got, want, atol=1e-12, rtol=1e-12)
    # the same bits both ways
    np.testing.assert_array_equal(got, got.reshape(len(rows), -1).T.ravel())


def test_zero_rows_have_cosine_zero():
    space = space_of([torch.tensor([[0.0, 0.0], [1.0, 2.0]])], "cosine")
    assert space.nearness(slice(0, 1), slice(0, 2)).tolist() == [[0.0, 0.0]]
    assert space.exact(np.array([0, 0]), np.array([0, 1])).tolist() == [0.0, 0.0]


def test_rows_that_all_equal_the_mean():
    space = space_of([torch.full((3, 2), 7.0)], "euclidean")
    assert space.nearness(slice(0, 3), slice(0, 3)).eq(0).all()


@pytest.mark.parametrize(
    ("rows", "is_centred"),
    [
        ([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], False),  # the second is far from the first
        ([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]], False),  # these two are far from each other alone
        ([[1.0, 0.0], [0.9, 0.1], [0.9, -0.1]], True),
        ([[1.0, 0.0], [0.0, 0.0], [0.9, -0.1]], False),
    ],
)
def test_unit_rows_are_centred_if_all_are_close(rows, is_centred):
    space = space_of([torch.tensor(rows)], "cosine")

    assert space.holds_unit_rows != is_centred
    assert space.top == (0.0 if is_centred else 1.0)


def test_groups_of_equal_rows():
    first, second = torch.tensor([[1.0], [2.0], [1.0]]), torch.tensor([[1.0], [2.0], [3.0]])
    groups = space_of([first, second], "euclidean").groups(slice(0, 6))

    assert groups[0] == groups[2] == groups[3]
    assert groups[1] == groups[4]
    assert len(set(groups.tolist())) == 3
    assert len(set(space_of([first, second], "cosine").groups(slice(3, 6)).tolist())) == 3

    mixed = space_of([first.half(), second.double()], "cosine").groups(slice(0, 6))
    assert mixed.tolist() == groups.tolist()


def test_check_sets_are_detached():
    rows = torch.eye(2, requires_grad=True)
    assert not space_of([rows], "cosine").sets[0].requires_grad

    with pytest.raises(
        ValueError, match=r"owner: expected finite rows, got NaN or infinity in 1 of 2 rows"
    ):
        check_sets("owner", ["rows"], [torch.tensor([[0.0], [torch.inf]])])

    with pytest.raises(ValueError, match="owner: expected rows as a dense tensor"):
        check_sets("owner", ["rows"], [torch.eye(2).to_sparse()])


@pytest.mark.unhooked
def test_check_sets_are_tensors():
    with pytest.raises(ValueError, match="owner: expected rows as a tensor, got list"):
        check_sets("owner", ["rows"], [[[0.0], [1.0]]])


@pytest.mark.parametrize(
    ("precision", "least"), [("highest", 0), ("high", 2.0**-8), ("medium", 2.0**-6)]
)
def test_the_bound_includes_rounded_inputs_of_the_product(precision, least):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        error = float(space_of([torch.eye(3)], "cosine").error[0])
    finally:
        torch.set_float32_matmul_precision(before)

    assert least < error < 1.1 * least + 1e-5


def test_the_center_keeps_the_digits_of_all_rows():
    rows = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    rows[0] = 50.0  # far away: all other rows have to keep their digits
    space = space_of([rows + 100.0], "euclidean")

    assert float(space.rows[1:].norm(dim=1).max()) < 0.1


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("side", [3, 512])
def test_all_pairs_have_the_bits_of_single_pairs(monkeypatch, distance, side):
    generator = torch.Generator().manual_seed(3)
    sets = [torch.randn(count, 9, generator=generator) for count in (7, 11)]
    space = space_of(sets, distance)
    first, second = (index.ravel() for index in np.indices((18, 18)))
    single = [space.exact(first[[i]], second[[i]])[0] for i in range(len(first))]

    monkeypatch.setattr(similarity_space, "_MOST_UNUSED", 0)
    by_pair = space.exact(first, second)
    monkeypatch.setattr(similarity_space, "_MOST_UNUSED", 4)
    monkeypatch.setattr(similarity_space, "_SIDE", side)
    assert space.exact(first, second).tolist() == by_pair.tolist() == single


def test_rows_of_a_crowd_are_split_once(monkeypatch):
    split = []

    def counted(rows, distance):
        split.append(len(rows))
        return split_rows(rows, distance)

    monkeypatch.setattr(similarity_space, "split_rows", counted)
    space = space_of([torch.randn(200, 8)], "cosine")
    first, second = (index.ravel() for index in np.indices((200, 200)))
    space.exact(first, second)
    assert sum(split) == 400  # and not 80,000
