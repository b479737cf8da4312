import numpy as np
import pytest
from every_sampler import pk_options

from clipreid_kit import PKSampler
from clipreid_kit.samplers import _pk_batches
from clipreid_kit.samplers._pk_batches import PKBatches, count_batches, parts_of_identities

LABELS = np.repeat(np.arange(100), 7)


def options_of(coverage):
    return pk_options(num_identities=4, num_instances=3, seed=1, coverage=coverage)


def pk_batches(coverage="images"):
    return PKBatches(LABELS, None, None, options_of(coverage))


def test_they_are_those_of_the_sampler_from_any_batch_on():
    sampler = PKSampler(LABELS, 4, 3, seed=1, coverage="images")
    sampler.set_epoch(2)
    expected = list(sampler)
    batches = pk_batches()

    assert len(batches) == len(expected)
    for start in (0, 1, 70, len(expected)):
        assert list(batches.of_epoch(2, start)) == expected[start:]


@pytest.mark.parametrize("coverage", ["identities", "images"])
def test_chunk_size_does_not_change_the_batches(monkeypatch, coverage):
    expected = list(pk_batches(coverage).of_epoch(0, 0))
    monkeypatch.setattr(_pk_batches, "CHUNK", 5)
    assert list(pk_batches(coverage).of_epoch(0, 0)) == expected


def test_parts_of_identities():
    num_rows = np.array([1, 4, 6, 7])
    assert parts_of_identities(num_rows, options_of("images")).tolist() == [1, 2, 2, 3]
    assert parts_of_identities(num_rows, options_of("identities")).tolist() == [1, 1, 1, 1]


def test_count_batches():
    assert count_batches(np.array([1, 1, 1]), 2) == 2
    assert count_batches(np.array([5, 1]), 2) == 5  # no identity twice in a batch
