from collections import Counter

import numpy as np
import pytest

from clipreid_kit.samplers._random import seeded_generator
from clipreid_kit.samplers._random_orders import RandomOrders


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 10, 16, 17, 1000])
def test_orders_are_permutations_and_positions_undo_them(size):
    orders = RandomOrders(size, 3, seeded_generator(size))
    number = np.arange(3)[:, None]

    entries = orders.entry(number, np.arange(size))

    assert np.sort(entries).tolist() == [list(range(size))] * 3
    assert orders.position(number, entries).tolist() == [list(range(size))] * 3


def test_some_entries_equal_those_of_all():
    orders = RandomOrders(100, 2, seeded_generator(0))
    entries = orders.entry(np.array([[0], [1]]), np.arange(100))
    assert orders.entry(np.array([1, 0]), np.array([7, 99])).tolist() == [
        entries[1, 7],
        entries[0, 99],
    ]


def test_all_orders_of_four_are_equally_frequent():
    orders = RandomOrders(4, 24_000, seeded_generator(0))
    count = Counter(map(tuple, orders.entry(np.arange(24_000)[:, None], np.arange(4)).tolist()))

    assert len(count) == 24
    assert min(count.values()) > 850
    assert max(count.values()) < 1150


def test_pairs_of_entries_are_equally_frequent():
    orders = RandomOrders(20, 38_000, seeded_generator(0))
    entries = orders.entry(np.arange(38_000)[:, None], np.array([0, 1, 5, 19]))

    for other in range(1, 4):  # of a row, of a column, and of neither
        count = Counter(zip(entries[:, 0].tolist(), entries[:, other].tolist(), strict=True))
        assert len(count) == 20 * 19
        assert min(count.values()) > 55
        assert max(count.values()) < 155
