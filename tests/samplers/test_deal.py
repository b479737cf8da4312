import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.samplers._deal import Deal
from clipreid_kit.samplers._random import seeded_generator

part_counts = st.lists(st.integers(1, 9), min_size=1, max_size=20)


def deal(parts, num_batches, seed):
    """Identities and parts of each batch, looked up in two pieces."""
    dealer = Deal(np.array(parts), num_batches, seeded_generator(seed))
    middle = num_batches // 2
    places = np.concatenate([dealer.places(0, middle), dealer.places(middle, num_batches)])
    assert places.shape == (num_batches, dealer.num_rounds)

    batches = []
    for place in places:
        identity, part = dealer.identity_and_part(place[place < dealer.num_parts])
        batches.append(list(zip(identity.tolist(), part.tolist(), strict=True)))
    return batches


@given(part_counts, st.integers(0, 5), st.integers(0, 9))
def test_every_part_is_dealt_once(parts, num_more_batches, seed):
    batches = deal(parts, max(parts) + num_more_batches, seed)
    expected = [(identity, part) for identity, number in enumerate(parts) for part in range(number)]
    assert sorted(part for batch in batches for part in batch) == expected


@given(part_counts, st.integers(0, 5), st.integers(0, 9))
def test_batches_differ_by_at_most_one_part(parts, num_more_batches, seed):
    sizes = [len(batch) for batch in deal(parts, max(parts) + num_more_batches, seed)]
    assert max(sizes) - min(sizes) <= 1


@given(part_counts, st.integers(0, 5), st.integers(0, 9))
def test_no_identity_is_twice_in_a_batch(parts, num_more_batches, seed):
    for batch in deal(parts, max(parts) + num_more_batches, seed):
        identities = [identity for identity, _ in batch]
        assert len(set(identities)) == len(identities)


def test_places_beyond_the_last_part_follow_it():
    dealer = Deal(np.array([2, 2, 1]), 3, seeded_generator(0))
    assert sorted(dealer.places(0, 3).flatten().tolist()) == [0, 1, 2, 3, 4, 5]
    assert dealer.num_parts == 5


def test_an_identity_that_spans_two_rounds_may_be_in_any_batches():
    # Three parts of identity 0 and two of identity 1 in four batches: identity 1 begins in the
    # first round and ends in the second.
    pairs = set()
    for seed in range(100):
        batches = deal([3, 2], 4, seed)
        of_part = {part: number for number, batch in enumerate(batches) for part in batch}
        pairs.add((of_part[1, 0], of_part[1, 1]))

    batches = range(4)
    assert pairs == {(a, b) for a in batches for b in batches if a != b}
