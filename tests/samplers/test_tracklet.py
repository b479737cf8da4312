import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from clipreid_kit.samplers import TrackletSampler

# Tracklets of 1 to 6 frames; every identity has 1 to 3 of them.
tracklet_sizes = st.lists(
    st.lists(st.integers(1, 6), min_size=1, max_size=3), min_size=4, max_size=10
)
options_of = st.fixed_dictionaries(
    {
        "coverage": st.sampled_from(["identities", "tracklets"]),
        "seed": st.integers(0, 3),
        "selection": st.sampled_from(["segments", "consecutive"]),
    }
)


def columns(sizes):
    """Labels and tracklets of the rows, and the frame of each; rows are shuffled."""
    rows = []
    tracklet = 0
    for label, of_identity in enumerate(sizes):
        for size in of_identity:
            rows += [(label, tracklet, frame) for frame in range(size)]
            tracklet += 1
    random.Random(0).shuffle(rows)
    labels, tracklets, frames = (list(column) for column in zip(*rows, strict=True))
    return labels, tracklets, frames


def blocks_of(values, size):
    """Blocks of a size, all of them whole."""
    assert len(values) % size == 0
    return [values[i : i + size] for i in range(0, len(values), size)]


def epoch_of(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


@given(tracklet_sizes, st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), options_of)
def test_every_batch_is_p_by_k_by_t(sizes, num_identities, num_tracklets, num_frames, options):
    labels, tracklets, frames = columns(sizes)
    sampler = TrackletSampler(
        labels, tracklets, num_identities, num_tracklets, num_frames, frames=frames, **options
    )
    batches = epoch_of(sampler, 2)
    shown = set()

    assert len(batches) == len(sampler)
    for batch in batches:
        blocks = blocks_of(batch, num_frames)
        assert len(blocks) == num_identities * num_tracklets
        for block in blocks:
            [tracklet] = {tracklets[row] for row in block}
            shown.add(tracklet)
            order = [frames[row] for row in block]
            assert order == sorted(order)

        label_of = [labels[block[0]] for block in blocks]
        groups = blocks_of(label_of, num_tracklets)
        assert all(len(set(group)) == 1 for group in groups)
        assert len({group[0] for group in groups}) == num_identities

    if options["coverage"] == "tracklets":
        assert shown == set(tracklets)


@given(tracklet_sizes, options_of, st.data())
def test_resumes_inside_an_epoch(sizes, options, data):
    labels, tracklets, frames = columns(sizes)

    def build():
        return TrackletSampler(labels, tracklets, 2, 2, 3, frames=frames, **options)

    whole = epoch_of(build(), 1)
    stop = data.draw(st.integers(0, len(whole)))
    first = build()
    first.set_epoch(1)
    assert list(itertools.islice(first, stop)) == whole[:stop]

    second = build()
    second.load_state_dict(first.state_dict())
    assert list(second) == whole[stop:]
    assert second.epoch == 1


@given(tracklet_sizes, options_of)
def test_ranks_share_no_identity_and_draw_other_frames(sizes, options):
    labels, tracklets, _ = columns(sizes)
    ranks = [
        epoch_of(TrackletSampler(labels, tracklets, 2, 1, 2, rank=rank, world_size=2, **options))
        for rank in range(2)
    ]

    for first, second in zip(*ranks, strict=True):
        assert not {labels[row] for row in first} & {labels[row] for row in second}


def test_other_epochs_seeds_and_batches_show_other_frames():
    labels, tracklets, frames = columns([[50], [50]])
    batches = [
        tuple(frames[row] for row in batch)
        for seed in range(2)
        for epoch in range(3)
        for batch in epoch_of(
            TrackletSampler(labels, tracklets, 2, 2, 3, frames=frames, seed=seed), epoch
        )
    ]
    assert len(set(batches)) == len(batches)
    assert all(batch[:3] != batch[3:6] for batch in batches)  # of one tracklet, shown twice


@pytest.mark.unhooked  # beartype itself draws from `random`
def test_global_random_states_are_neither_read_nor_set():
    labels, tracklets, _ = columns([[4, 4], [5], [6], [3]])
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = epoch_of(TrackletSampler(labels, tracklets, 2, 2, 2))
    assert torch.equal(torch.get_rng_state(), state)

    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002 (the point is that it changes nothing)
    assert epoch_of(TrackletSampler(labels, tracklets, 2, 2, 2)) == first


def test_two_iterations_at_once_do_not_disturb_each_other():
    labels, tracklets, _ = columns([[9, 9], [8], [7, 5], [9]])
    sampler = TrackletSampler(labels, tracklets, 2, 2, 2)
    expected = list(sampler)
    pairs = list(zip(sampler, sampler, strict=True))
    assert pairs == [(batch, batch) for batch in expected]


def test_tracklets_are_spread_over_cameras():
    labels = [0, 0, 0, 1, 1, 1]
    cameras = [0, 0, 1, 0, 0, 1]
    for epoch in range(5):
        sampler = TrackletSampler(labels, range(6), 2, 2, 1, cameras=cameras, coverage="identities")
        for batch in epoch_of(sampler, epoch):
            assert [sorted(cameras[row] for row in batch[i : i + 2]) for i in (0, 2)] == [
                [0, 1]
            ] * 2


def test_in_a_loader_with_workers():
    labels, tracklets, _ = columns([[3, 3], [4], [5], [2]])
    sampler = TrackletSampler(labels, tracklets, 2, 2, 2)
    loader = DataLoader(range(len(labels)), batch_sampler=sampler, num_workers=1)
    assert [batch.tolist() for batch in loader] == list(sampler)


def test_a_state_of_another_sampler_is_an_error():
    labels, tracklets, _ = columns([[3, 3], [4], [5], [2]])
    state = TrackletSampler(labels, tracklets, 2, 2, 2).state_dict()
    with pytest.raises(ValueError, match="the state is of a sampler with num_frames=2, and this"):
        TrackletSampler(labels, tracklets, 2, 2, 3).load_state_dict(state)
    with pytest.raises(ValueError, match="the state is of a sampler with data="):
        TrackletSampler(labels[::-1], tracklets[::-1], 2, 2, 2).load_state_dict(state)


def test_repr_is_one_line():
    text = repr(TrackletSampler([0, 0, 1], [0, 0, 1], 2, 1, 2))
    assert text.startswith("TrackletSampler(2 tracklets, 1 batches, num_identities=2, ")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("labels", "tracklets", "options", "message"),
    [
        ([0, 0, 1], [0, 1], {}, "expected 3 tracklets, one for each label, got 2"),
        ([0, 0, 1], [0, 0, 1], {"frames": [1]}, "expected 3 frames, one for each label, got 1"),
        ([], [], {}, "labels is empty"),
        ([0, 1, 1], [0, 0, 1], {}, "tracklet 0 has rows of two identities"),
        ([0, 0, 1], [0, 0, 1], {"cameras": [1, 2, 1]}, "tracklet 0 has rows of two cameras"),
        ([0, 0, 1], [0, 0, 1], {"num_frames": 0}, "num_frames as a whole number >= 1"),
        ([0, 0, 1], [0, 0, 1], {"stride": 2}, "stride has no effect with selection="),
        ([0, 0, 1], [0, 0, 1], {"selection": "all"}, "selection to be one of segments"),
        ([0, 0, 1], [0, 0, 1], {"coverage": "images"}, "coverage to be one of identities"),
    ],
)
@pytest.mark.unhooked
def test_wrong_arguments(labels, tracklets, options, message):
    with pytest.raises(ValueError, match=f"^TrackletSampler: .*{message}"):
        TrackletSampler(labels, tracklets, **{"num_identities": 2, "num_tracklets": 1} | options)
