"""Batches that neighbouring samplers promise and do not deliver."""

import random

import numpy as np
import pytest
import torch
from known_bugs.peers import is_measured

from clipreid_kit import PKSampler


def skewed_labels(seed=0, num_identities=30):
    """Identities of 1 to 20 images, in a random order."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 21, num_identities)
    return rng.permutation(np.repeat(np.arange(num_identities), sizes))


@pytest.mark.parametrize("coverage", ["identities", "images"])
def test_the_length_is_the_number_of_batches(coverage):
    """deep-person-reid#356: the sampler's length is larger than the batches that it delivers.

    Here: equal, in every epoch and for any histogram.
    """
    for seed in range(5):
        sampler = PKSampler(skewed_labels(seed), 7, 4, coverage=coverage)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            assert len(list(sampler)) == len(sampler)


def test_no_identity_is_drawn_twice_for_a_batch():
    """deep-person-reid#45: one identity occurs twice in a batch.

    Here: every batch has P different identities with K rows each.
    """
    labels = skewed_labels(1)
    for coverage in ("identities", "images"):
        for batch in PKSampler(labels, 8, 4, coverage=coverage):
            _, counts = np.unique(labels[batch], return_counts=True)
            assert list(counts) == [4] * 8


def test_every_image_is_seen():
    """deep-person-reid#19: an epoch sees K images of each identity, 23 % of Market-1501.

    Here: `coverage="images"` sees every image in every epoch.
    """
    labels = skewed_labels(2)
    sampler = PKSampler(labels, 6, 4, coverage="images")
    for epoch in range(2):
        sampler.set_epoch(epoch)
        assert {row for batch in sampler for row in batch} == set(range(len(labels)))


def test_every_identity_is_seen():
    """CLIP-ReID, `RandomIdentitySampler`: identities that do not fill the last batch are dropped.

    Here: every identity occurs in every epoch.
    """
    labels = np.repeat(np.arange(20), 8)
    sampler = PKSampler(labels, 16, 4)
    assert {labels[row] for batch in sampler for row in batch} == set(range(20))


def test_identities_of_few_images():
    """VisualComputingInstitute/triplet-reid#79: what happens to an identity of fewer than K images?

    Here: its images repeat, each as often as any other give or take one; or it is dropped, or an
    error, as asked.
    """
    labels = [0, 0, 0, 1, 2, 2, 2, 2]
    batch = next(iter(PKSampler(labels, 3, 4)))
    counts = np.bincount(batch, minlength=8)

    assert counts[3] == 4
    assert sorted(counts[:3]) == [1, 1, 2]

    dropped = next(iter(PKSampler(labels + [3] * 4, 2, 4, if_too_few="drop")))
    assert set(dropped) == {4, 5, 6, 7, 8, 9, 10, 11}
    with pytest.raises(ValueError, match=r"if_too_few|fewer|images"):
        PKSampler(labels, 3, 4, if_too_few="error")


def test_one_image_of_few_is_not_repeated_alone():
    """fast-reid, `BalancedIdentitySampler`: of too few images the first one is repeated.

    Here: all images of the identity appear.
    """
    for seed in range(5):
        batch = next(iter(PKSampler([0, 0, 0, 1, 1, 1], 2, 4, seed=seed)))
        assert set(batch) == set(range(6))


def test_fewer_identities_than_asked_for():
    """fast-reid, `NaiveIdentitySampler`: fewer identities than P wait for ever.

    Here: an error when the sampler is made.
    """
    with pytest.raises(ValueError, match="identities"):
        PKSampler([0, 0, 1, 1], 3, 2)


def test_epochs_differ():
    """huggingface/accelerate#2157: a prepared loader gives the same batches in every epoch.

    Here: `set_epoch` changes the batches, and the same epoch gives the same ones again.
    """
    sampler = PKSampler(skewed_labels(3), 6, 4)
    epochs = []
    for epoch in (0, 1, 2, 1):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))

    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[3] == epochs[1]


def test_any_epoch_can_be_repeated():
    """huggingface/accelerate#2333: only `set_epoch(0)` gives the same order again.

    Here: a new sampler at epoch 7 has the batches of one that went through the first six.
    """
    labels = skewed_labels(4)
    old, new = PKSampler(labels, 6, 4), PKSampler(labels, 6, 4)
    for epoch in range(8):
        old.set_epoch(epoch)
        batches = list(old)

    new.set_epoch(7)
    assert list(new) == batches


def test_the_seed_decides_the_order():
    """huggingface/transformers#11389: the distributed sampler ignores the seed.

    Here: another seed gives other batches, with ranks too.
    """
    labels = skewed_labels(5)
    for world_size in (1, 2):
        first, second = (
            list(PKSampler(labels, 6, 4, seed=seed, world_size=world_size)) for seed in (0, 1)
        )
        assert first != second


@pytest.mark.unhooked  # the hook draws which items it checks
def test_global_random_states_are_left_alone():
    """Cysu/open-reid#21: the seed did not cover Python's generator, which the sampler read.

    Here: no global state changes a batch, and no batch changes a global state.
    """
    labels = skewed_labels(6)
    runs = []
    for seed in (0, 1):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (the state that must not matter)
        torch.manual_seed(seed)
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002

        runs.append(list(PKSampler(labels, 6, 4, coverage="images")))
        assert random.getstate() == states[0]
        assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), states[2])

    assert runs[0] == runs[1]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_a_step(world_size):
    """huggingface/accelerate#2268: ranks shuffle differently, so one row occurs on several of them.

    Here: in one step all identities of all ranks differ, and all ranks have equally many batches.
    """
    labels = skewed_labels(7)
    ranks = [
        list(PKSampler(labels, 4, 4, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]

    assert len({len(batches) for batches in ranks}) == 1
    for step in zip(*ranks, strict=True):
        identities = [set(labels[batch]) for batch in step]
        assert len(set.union(*identities)) == 4 * world_size


def test_ranks_do_not_get_the_same_batch():
    """openspeech-team/openspeech#149: every rank gets the same batch.

    Here: no row occurs on two ranks in one step.
    """
    labels = skewed_labels(8)
    first, second = (list(PKSampler(labels, 4, 4, rank=rank, world_size=2)) for rank in (0, 1))
    for mine, others in zip(first, second, strict=True):
        assert not set(mine) & set(others)


def test_the_batch_size_is_the_one_asked_for():
    """ultralytics PR#24906: the loader overrides the batch size by P x K without a word.

    Here: the sampler is told P and K; every batch has P x K rows, and a `DataLoader` refuses a
    batch size beside it.
    """
    sampler = PKSampler(skewed_labels(9), 5, 3)
    assert {len(batch) for batch in sampler} == {15}

    with pytest.raises(ValueError, match="mutually exclusive"):
        torch.utils.data.DataLoader(range(1000), batch_sampler=sampler, batch_size=64)


def test_an_epoch_follows_the_data():
    """pytorch-metric-learning, `MPerClassSampler`: an epoch of 100,000 rows.

    Here: ⌈identities / P⌉ batches; the peer's length is the same for any data.
    """
    assert len(PKSampler(np.repeat(np.arange(10), 4), 4, 4)) == 3

    if is_measured("pytorch-metric-learning"):
        from pytorch_metric_learning.samplers import MPerClassSampler

        assert len(MPerClassSampler(np.repeat(np.arange(10), 4), m=4)) == 100_000


def test_a_batch_sampler():
    """pytorch-metric-learning#612: samplers of rows need the batch size again.

    Here: it is a batch sampler, whose batches a `DataLoader` delivers as they are.
    """
    sampler = PKSampler(skewed_labels(10), 5, 3)
    loader = torch.utils.data.DataLoader(range(1000), batch_sampler=sampler)
    assert [batch.tolist() for batch in loader] == list(sampler)
