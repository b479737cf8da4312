import pytest

from clipreid_kit.samplers._position import Position


def test_begins_with_the_first_batch():
    position = Position()
    assert (position.epoch, position.begin_iteration()) == (0, 0)


def test_only_the_next_iteration_begins_inside_the_epoch():
    position = Position()
    position.set("owner", 3, start_batch=2, num_batches=5)

    assert (position.epoch, position.num_yielded) == (3, 2)
    assert position.begin_iteration() == 2
    assert position.begin_iteration() == 0
    assert position.num_yielded == 0


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("epoch", "start_batch", "message"),
    [
        (-1, 0, "owner: expected epoch as a whole number >= 0, got -1"),
        (0, -1, "owner: expected start_batch as a whole number >= 0, got -1"),
        (0, 6, r"owner: expected start_batch in \[0, 5\], got 6"),
        ("1", 0, "owner: expected epoch as a whole number >= 0, got '1'"),
    ],
)
def test_wrong_positions(epoch, start_batch, message):
    with pytest.raises(ValueError, match=message):
        Position().set("owner", epoch, start_batch, num_batches=5)
