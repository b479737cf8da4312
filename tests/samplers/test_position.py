import itertools

import pytest

from clipreid_kit.samplers._position import Position

SETTINGS = {"seed": 3}


def five_batches():
    return Position("Owner", 5, SETTINGS)


def batches_of(epoch, start_batch):
    return [[epoch, batch] for batch in range(start_batch, 5)]


def test_begins_with_the_first_batch():
    assert list(five_batches().iterate(batches_of)) == [[0, batch] for batch in range(5)]


def test_only_the_next_iteration_begins_inside_the_epoch():
    position = five_batches()
    position.set(3, start_batch=2)
    assert position.state_dict() == {"epoch": 3, "batches": 2, "seed": 3}

    assert list(position.iterate(batches_of)) == [[3, 2], [3, 3], [3, 4]]
    assert list(position.iterate(batches_of)) == [[3, batch] for batch in range(5)]


def test_a_state_is_taken_and_loaded_between_two_batches():
    position = five_batches()
    position.set(1)
    assert list(itertools.islice(position.iterate(batches_of), 2)) == [[1, 0], [1, 1]]
    state = position.state_dict()
    assert state == {"epoch": 1, "batches": 2, "seed": 3}

    other = five_batches()
    other.load_state_dict(state)
    assert list(other.iterate(batches_of)) == [[1, 2], [1, 3], [1, 4]]


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("epoch", "start_batch", "message"),
    [
        (-1, 0, r"Owner\.set_epoch: expected epoch as a whole number >= 0, got -1"),
        (0, -1, r"Owner\.set_epoch: expected start_batch as a whole number >= 0, got -1"),
        (0, 6, r"Owner\.set_epoch: expected start_batch in \[0, 5\], got 6"),
        ("1", 0, r"Owner\.set_epoch: expected epoch as a whole number >= 0, got '1'"),
    ],
)
def test_wrong_positions(epoch, start_batch, message):
    with pytest.raises(ValueError, match=message):
        five_batches().set(epoch, start_batch)


def test_wrong_states():
    state = five_batches().state_dict()
    with pytest.raises(ValueError, match=r"Owner\.load_state_dict: the state is of .* seed=4, and"):
        five_batches().load_state_dict(state | {"seed": 4})
    with pytest.raises(ValueError, match="expected a state with epoch, batches, neighbours, got"):
        five_batches().check_state(state, "neighbours")
