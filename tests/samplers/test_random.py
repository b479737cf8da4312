import itertools

from clipreid_kit.samplers._random import KEY_BITS, permutation, random_keys, seeded_generator


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
