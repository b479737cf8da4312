import numpy as np
import pytest
from every_sampler import pk_options
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.samplers import _rows_by_identity
from clipreid_kit.samplers._random import random_keys, seeded_generator
from clipreid_kit.samplers._rows_by_identity import RowsByIdentity, group_rows


def grouped(labels, cameras=None, **changes):
    return RowsByIdentity(labels, cameras, None, pk_options(**changes))


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40))
def test_groups_rows_by_identity(labels):
    rows = grouped(labels)

    assert rows.labels.tolist() == sorted(set(labels))
    for label, first, count in zip(rows.labels, rows.first, rows.count, strict=True):
        expected = [row for row, other in enumerate(labels) if other == label]
        assert rows.rows[first : first + count].tolist() == expected


def test_groups_rows_in_slices(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 9, 50)
    expected = grouped(labels)
    monkeypatch.setattr(_rows_by_identity, "SLICE", 7)
    rows = grouped(labels)

    assert rows.first.tolist() == expected.first.tolist()
    assert rows.count.tolist() == expected.count.tolist()


def test_drops_identities_with_too_few_rows():
    rows = grouped([0, 0, 1, 2, 2], num_instances=2, if_too_few="drop")
    assert rows.labels.tolist() == [0, 2]
    assert rows.count.tolist() == [2, 2]


def test_positions():
    rows = grouped([5, 3, 5, 3, 4])
    positions = rows.positions(np.array([2, 0]))
    assert rows.rows[positions].tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize("cameras", [None, [row % 3 for row in range(30)]])
@pytest.mark.parametrize("spread", ["draw", "parts"])
def test_shuffles_each_identity_by_itself(cameras, spread):
    labels = np.arange(30) % 4
    rows = grouped(labels, cameras, num_instances=3)
    identities = [2, 0, 2]
    own = [np.flatnonzero(labels == identity).tolist() for identity in identities]
    sizes = [len(block) for block in own]
    key = random_keys(sum(sizes), seeded_generator(1)).astype(np.int64)

    shuffled = rows.shuffled(np.array(identities), key, spread)

    blocks = np.split(shuffled, np.cumsum(sizes)[:-1])
    assert [sorted(block.tolist()) for block in blocks] == own
    assert blocks[0].tolist() != blocks[2].tolist()  # shuffled twice


def test_number_of_cameras():
    assert grouped([0, 0, 1]).num_cameras is None
    assert grouped([0, 0, 1], cameras=[7, 9, 7]).num_cameras == 2


@pytest.mark.parametrize("cameras", [[7, 9, 7], [-1, 1, -1], [-(2**60), 2**60, -(2**60)]])
def test_cameras_are_numbered(cameras):
    assert grouped([0, 0, 1], cameras=cameras).camera_of_row.tolist() == [0, 1, 0]


def group(**changes):
    return group_rows([0, 0, 1], None, None, pk_options(**changes))


def test_group_rows():
    assert len(group(num_identities=2)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_identities": 3},
            "a step needs num_identities x world_size = 3 identities, and there are 2; lower",
        ),
        (
            {"num_identities": 2, "num_instances": 2, "if_too_few": "drop"},
            "= 2 identities, and there are 1 after dropping those with too few images; lower",
        ),
        (
            {"num_instances": 2, "if_too_few": "error"},
            r"1 identities have fewer than 2 images \(identity 1 has 1\); use if_",
        ),
    ],
)
def test_too_few(changes, message):
    with pytest.raises(ValueError, match=message):
        group(**changes)


@pytest.mark.unhooked
def test_wrong_cameras():
    with pytest.raises(ValueError, match="owner: expected 2 cameras, one for each label, got 1"):
        grouped([0, 1], cameras=[0])


def test_no_labels():
    with pytest.raises(ValueError, match="owner: labels is empty; is the split empty"):
        grouped([])
