import itertools

import numpy as np
import pytest

from clipreid_kit.samplers._random import (
    KEY_BITS,
    permutation,
    random_key_of,
    random_keys,
    seeded_generator,
)


def test_equal_numbers_give_equal_streams():
    first = random_keys(4, seeded_generator(0, 1)).tolist()
    assert random_keys(4, seeded_generator(0, 1)).tolist() == first


def test_different_numbers_give_different_streams():
    seeds = [(0, 0), (0, 1), (1, 0), (0, 0, 1)]
    streams = [random_keys(4, seeded_generator(*numbers)).tolist() for numbers in seeds]
    for first, second in itertools.combinations(streams, 2):
        assert first != second


def test_keys_use_all_their_bits_and_no_more():
    keys = random_keys(1000, seeded_generator(0))
    assert keys.min() >= 0
    assert int(keys.max()).bit_length() == KEY_BITS


def test_permutation():
    order = permutation(50, seeded_generator(0)).tolist()
    assert sorted(order) == list(range(50))
    assert order != list(range(50))


def test_random_key_of_a_number_depends_on_it_and_its_stream_alone():
    keys = random_key_of(7, np.arange(10_000))

    assert keys.min() >= 0
    assert keys.max() < 2**KEY_BITS
    assert keys[::2].tolist() == random_key_of(7, np.arange(0, 10_000, 2)).tolist()
    assert not (keys == random_key_of(8, np.arange(10_000))).any()

    # The second value of SplitMix64 from seed 0, as its authors publish it, without its low bits.
    assert random_key_of(0, np.array([2])).tolist() == [0x6E789E6AA1B965F4 >> (64 - KEY_BITS)]


@pytest.mark.parametrize("shift", [0, KEY_BITS - 10])
def test_random_keys_of_numbers_are_spread_evenly(shift):
    keys = random_key_of(1, np.arange(102_400))
    count = np.bincount((keys >> shift) % 1024, minlength=1024)
    assert count.min() > 50
    assert count.max() < 150
