import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.samplers import PKSampler

label_lists = st.lists(st.integers(0, 9), min_size=4, max_size=80).filter(
    lambda x: len(set(x)) >= 4
)
coverages = st.sampled_from(["identities", "images"])


def check_batches(batches, labels, p, k):
    for batch in batches:
        assert len(batch) == p * k
        blocks = [{labels[row] for row in batch[i : i + k]} for i in range(0, p * k, k)]
        assert all(len(block) == 1 for block in blocks)
        assert len(set.union(*blocks)) == p


@given(
    label_lists, st.integers(1, 4), st.integers(1, 5), coverages, st.integers(0, 5), st.booleans()
)
def test_every_batch_is_p_by_k_and_len_is_exact(labels, p, k, coverage, epoch, with_cameras):
    cameras = [i % 3 for i in range(len(labels))] if with_cameras else None
    sampler = PKSampler(labels, p, k, coverage=coverage, seed=4, cameras=cameras)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    check_batches(batches, labels, p, k)
    seen = Counter(row for batch in batches for row in batch)
    if coverage == "images":
        assert set(seen) == set(range(len(labels)))
    assert {labels[row] for row in seen} == set(labels)


@given(label_lists, st.integers(1, 5), coverages)
def test_no_image_twice_in_a_batch_while_there_are_others(labels, k, coverage):
    count = Counter(labels)
    for batch in PKSampler(labels, 2, k, coverage=coverage):
        for row, times in Counter(batch).items():
            assert times <= -(-k // count[labels[row]])


@pytest.mark.unhooked  # beartype itself draws from `random`
@given(label_lists, coverages, st.integers(0, 3))
def test_same_seed_and_epoch_same_batches_whatever_the_global_state(labels, coverage, epoch):
    def batches(seed, epoch):
        sampler = PKSampler(labels, 3, 2, coverage=coverage, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 (the point is that it changes nothing)
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate()
    first = batches(5, epoch)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    torch.manual_seed(2)
    assert batches(5, epoch) == first


def test_epochs_and_seeds_differ():
    labels = [i // 5 for i in range(100)]
    runs = []
    for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 3), (3, 2), (6, 1)]:
        sampler = PKSampler(labels, 4, 2, seed=seed)
        sampler.set_epoch(epoch)
        runs.append(list(sampler))
    assert all(runs[i] != runs[j] for i in range(len(runs)) for j in range(i))


@given(label_lists, st.integers(1, 2), st.integers(1, 3), coverages)
def test_ranks_agree_on_length_and_share_no_identity_in_a_step(labels, p, k, coverage):
    samplers = [PKSampler(labels, p, k, coverage=coverage, rank=r, world_size=2) for r in range(2)]
    first, second = (list(s) for s in samplers)
    assert len(first) == len(second) == len(samplers[0]) == len(samplers[1])
    for a, b in zip(first, second, strict=True):
        check_batches([a, b], labels, p, k)
        assert not {labels[row] for row in a} & {labels[row] for row in b}
    if coverage == "images":
        assert {row for batch in first + second for row in batch} == set(range(len(labels)))


@given(label_lists, coverages, st.data())
def test_resumes_inside_an_epoch(labels, coverage, data):
    whole = PKSampler(labels, 2, 3, coverage=coverage, seed=2)
    whole.set_epoch(7)
    want = list(whole)
    stop = data.draw(st.integers(0, len(whole)))
    interrupted = PKSampler(labels, 2, 3, coverage=coverage, seed=2)
    interrupted.set_epoch(7)
    iterator = iter(interrupted)
    taken = [next(iterator) for _ in range(stop)]
    state = interrupted.state_dict() if stop else {"epoch": 7, "batches": 0}
    resumed = PKSampler(labels, 2, 3, coverage=coverage, seed=2)
    resumed.load_state_dict(state)
    assert taken + list(resumed) == want
    assert list(resumed) == want  # the next iteration is whole again


def test_spreads_over_cameras():
    labels = [0] * 12 + [1] * 12
    cameras = ([0] * 9 + [1, 2, 3]) * 2  # nine images of one camera, one of each other
    for epoch in range(5):
        sampler = PKSampler(labels, 2, 4, cameras=cameras)
        sampler.set_epoch(epoch)
        for batch in sampler:
            assert {cameras[row] for row in batch[:4]} == {0, 1, 2, 3}
            assert {cameras[row] for row in batch[4:]} == {0, 1, 2, 3}


def test_spreads_over_cameras_while_covering_every_image():
    labels = [0] * 12 + [1] * 12
    cameras = ([0] * 9 + [1, 2, 3]) * 2
    for batch in PKSampler(labels, 2, 4, cameras=cameras, coverage="images"):
        for block in (
            batch[:4],
            batch[4:],
        ):  # the three rare cameras are dealt over the three parts
            assert sorted(cameras[row] for row in block)[:3] == [0, 0, 0]
            assert sorted(cameras[row] for row in block)[3] > 0


def test_images_rotate_from_epoch_to_epoch():
    labels = [0] * 8 + [1] * 8
    sampler = PKSampler(labels, 2, 2)
    seen = set()
    for epoch in range(20):
        sampler.set_epoch(epoch)
        seen |= {row for batch in sampler for row in batch}
    assert seen == set(range(16))


def test_short_identities():
    labels = [0, 0, 0, 0, 1, 2, 2, 2, 2]
    repeated = next(iter(PKSampler(labels, 3, 4)))
    assert Counter(labels[row] for row in repeated) == {0: 4, 1: 4, 2: 4}
    dropped = PKSampler(labels, 2, 4, short="drop")
    assert {labels[row] for batch in dropped for row in batch} == {0, 2}
    with pytest.raises(
        ValueError, match=r"1 identities with fewer \(identity 1 has 1\). Use short="
    ):
        PKSampler(labels, 2, 4, short="error")
    with pytest.raises(
        ValueError, match=r'= 3 identities, got 2. Lower num_identities, or use short="repeat"'
    ):
        PKSampler(labels, 3, 4, short="drop")


def test_skewed_set_covers_every_image():
    labels = [0] * 400 + [i for i in range(1, 41) for _ in range(6)]
    sampler = PKSampler(labels, 16, 4, coverage="images")
    batches = list(sampler)
    assert len(batches) == len(sampler) == 100  # the large identity takes part 400 / 4 times
    assert {row for batch in batches for row in batch} == set(range(640))


def test_reserve_comes_round_to_all_identities():
    labels = [0] * 400 + [i for i in range(1, 41) for _ in range(6)]
    seen = Counter(
        labels[row] for batch in PKSampler(labels, 16, 4, coverage="images") for row in batch[::4]
    )
    del seen[0]  # it is in every batch by itself
    assert sum(seen.values()) == 1500
    assert min(seen.values()) >= 0.8 * 1500 / 40
    assert max(seen.values()) <= 1.2 * 1500 / 40


def test_ranks_take_turns_in_what_is_dealt():
    labels = [0] * 400 + [i for i in range(1, 41) for _ in range(6)]
    shares = []
    for rank in range(2):
        batches = list(PKSampler(labels, 8, 4, coverage="images", rank=rank, world_size=2))
        shares.append(sum(0 in {labels[row] for row in batch} for batch in batches))
    assert sum(shares) == 100
    assert min(shares) > 40


def test_each_part_of_an_identity_meets_other_identities():
    labels = [i // 20 for i in range(2000)]
    met = {label: [] for label in range(100)}
    for batch in PKSampler(labels, 10, 4, coverage="images"):
        present = {labels[row] for row in batch}
        for label in present:
            met[label].append(present - {label})
    for companions in met.values():  # 5 batches x 9 others
        assert len(companions) == 5
        assert len(set.union(*companions)) >= 25


@pytest.mark.parametrize("cameras", [None, [0, 0, 0, 1, 1] * 4])
def test_images_are_drawn_evenly(cameras):
    labels = [i // 5 for i in range(20)]
    pairs = Counter()
    sampler = PKSampler(labels, 4, 2, cameras=cameras, seed=3)
    for epoch in range(600):
        sampler.set_epoch(epoch)
        for batch in sampler:
            pairs.update(tuple(sorted(batch[i : i + 2])) for i in range(0, 8, 2))
    # 10 pairs of 5 images; with cameras 0, 0, 0, 1, 1 the 3 x 2 pairs of different cameras
    expected = 600 / (10 if cameras is None else 6)
    assert len(pairs) == 4 * (10 if cameras is None else 6)
    assert all(abs(count - expected) < 4.5 * expected**0.5 for count in pairs.values())


@given(st.integers(1, 12), st.integers(1, 3), st.integers(1, 3), coverages, st.data())
def test_ranks_resume_together(num_identities, p, world_size, coverage, data):
    labels = [i for i in range(p * world_size + num_identities) for _ in range(1 + i % 4)]
    for rank in range(world_size):
        options = {"coverage": coverage, "rank": rank, "world_size": world_size}
        sampler = PKSampler(labels, p, 2, **options)
        sampler.set_epoch(3)
        want = list(sampler)
        stop = data.draw(st.integers(0, len(sampler)))
        sampler.set_epoch(3, start_batch=stop)
        assert list(sampler) == want[stop:]


def test_chunks_do_not_show(monkeypatch):
    labels = [i // 7 for i in range(700)]
    want = {
        coverage: list(PKSampler(labels, 4, 3, coverage=coverage))
        for coverage in ("identities", "images")
    }
    monkeypatch.setattr("clipreid_kit.samplers.pk.CHUNK", 5)
    assert {coverage: list(PKSampler(labels, 4, 3, coverage=coverage)) for coverage in want} == want


def test_two_iterations_at_once_do_not_disturb_each_other():
    sampler = PKSampler([i // 4 for i in range(80)], 4, 2)
    assert [list(pair) for pair in zip(sampler, sampler, strict=True)] == [
        [batch, batch] for batch in sampler
    ]


def test_works_in_a_loader_with_workers():
    labels = [i // 4 for i in range(32)]
    dataset = torch.utils.data.TensorDataset(torch.arange(32))
    want = list(PKSampler(labels, 4, 2))
    for workers in (0, 2):
        loader = torch.utils.data.DataLoader(
            dataset, batch_sampler=PKSampler(labels, 4, 2), num_workers=workers
        )
        assert len(loader) == len(want)
        assert [batch[0].tolist() for batch in loader] == want


def test_accepts_lists_tensors_and_arrays():
    labels = [3, 3, 8, 8]
    want = list(PKSampler(labels, 2, 2))
    assert list(PKSampler(torch.tensor(labels), 2, 2)) == want
    assert list(PKSampler(np.array(labels, dtype=np.uint8), 2, 2)) == want


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([], {}, "at least one label, got none. Is the split empty"),
        (["a", "b"], {}, r"labels as a flat list of integers.*np.unique"),
        ([0.5, 1.5], {}, "labels as a flat list of integers"),
        ([[0, 1]], {}, r"flat list of integers, got shape \(1, 2\)"),
        (
            [0, 1],
            {"num_identities": 3},
            "at least num_identities x world_size = 3 identities, got 2. Lower",
        ),
        (
            [0, 1],
            {"num_identities": 1, "rank": 2, "world_size": 2},
            r"rank in \[0, world_size = 2\), got 2",
        ),
        ([0, 1], {"num_identities": 0}, "num_identities as a whole number >= 1, got 0"),
        ([0, 1], {"num_instances": 0}, "num_instances as a whole number >= 1, got 0"),
        ([0, 1], {"cameras": [0]}, "2 cameras, one for each label, got 1"),
        ([0, 1], {"coverage": "all"}, "coverage to be one of identities, images"),
        ([0, 1], {"short": "pad"}, "short to be one of repeat, drop, error"),
        ([0, 1], {"seed": -1}, "seed as a whole number >= 0"),
    ],
)
def test_errors(labels, options, message):
    with pytest.raises(ValueError, match=message):
        PKSampler(labels, **options)


def test_bad_epoch():
    sampler = PKSampler([0, 1], 2, 2)
    with pytest.raises(ValueError, match="epoch as a whole number >= 0, got -1"):
        sampler.set_epoch(-1)
    with pytest.raises(ValueError, match=r"start_batch in \[0, 1\], got 2"):
        sampler.set_epoch(0, start_batch=2)
