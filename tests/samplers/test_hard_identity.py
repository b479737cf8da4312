import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.samplers import HardIdentitySampler, hard_identity


def on_a_circle(num_identities):
    """Identity i at angle i: the nearest of i are i - 1 and i + 1, then i - 2 and i + 2, ..."""
    angle = torch.arange(num_identities) * 2 * torch.pi / num_identities
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def made(num_identities, p, k=2, images=3, update=True, **options):
    labels = [i for i in range(num_identities) for _ in range(images)]
    sampler = HardIdentitySampler(labels, p, k, **options)
    if update:
        sampler.update(on_a_circle(num_identities), list(range(num_identities)))
    return labels, sampler


def circular(a, b, n):
    return min((a - b) % n, (b - a) % n)


def slow_neighbours(embeddings, labels, number):
    """Cosine of the mean directions, by loops; the nearest first."""
    unit = embeddings.double() / embeddings.double().norm(dim=1, keepdim=True)
    centres = {}
    for label in sorted(set(labels)):
        mean = sum(unit[i] for i, other in enumerate(labels) if other == label)
        centres[label] = mean / mean.norm()
    nearest = {}
    for label, centre in centres.items():
        others = [other for other in centres if other != label]
        nearest[label] = sorted(others, key=lambda other: -float(centre @ centres[other]))[:number]
    return nearest


@given(st.integers(4, 15), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))
def test_every_identity_is_an_anchor_once_with_its_nearest(n, p, k, epoch):
    labels, sampler = made(n, p, k)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler) == n
    anchors = []
    for batch in batches:
        assert len(batch) == p * k
        identities = [labels[row] for row in batch[::k]]
        assert [labels[row] for row in batch] == [i for i in identities for _ in range(k)]
        assert len(set(identities)) == p
        anchors.append(identities[0])
        distances = [circular(identities[0], other, n) for other in identities]
        assert distances == sorted(distances)
        assert max(distances) == p // 2
    assert sorted(anchors) == list(range(n))


@given(st.integers(0, 2**31), st.integers(5, 12), st.integers(1, 4))
def test_neighbours_equal_those_of_the_loop(seed, n, p):
    rng = np.random.default_rng(seed)
    labels = [10 * i - 7 for i in range(n)] + (10 * rng.integers(0, n, 20) - 7).tolist()
    embeddings = torch.from_numpy(
        rng.standard_normal((len(labels), 6)) * rng.uniform(0.1, 9, (len(labels), 1))
    ).float()
    sampler = HardIdentitySampler(labels, p, 1)
    sampler.update(embeddings, labels)
    want = slow_neighbours(embeddings, labels, p - 1)
    for batch in sampler:
        identities = [labels[row] for row in batch]
        assert identities[1:] == want[identities[0]]


def test_blocks_do_not_show(monkeypatch):
    labels = [i for i in range(30) for _ in range(3)]
    embeddings = torch.randn(90, 8)
    whole = HardIdentitySampler(labels, 5, 2)
    whole.update(embeddings, labels)
    monkeypatch.setattr(
        hard_identity, "BLOCK", 70
    )  # 2 rows of similarities, 8 embeddings at a time
    blocks = HardIdentitySampler(labels, 5, 2)
    blocks.update(embeddings, labels)
    assert torch.equal(whole.state_dict()["neighbours"], blocks.state_dict()["neighbours"])


def test_represented_by_a_random_image():
    # identity 0 has an image beside 1 and one beside 2; by the mean it lies nearer to 1
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.0, 1.0], [0.3, 0.9]])
    labels = [0, 0, 1, 2, 2]
    found = Counter()
    for epoch in range(40):
        sampler = HardIdentitySampler(labels, 2, 1, represent="random", seed=1)
        sampler.set_epoch(epoch)
        sampler.update(embeddings, labels)
        found[sampler.state_dict()["neighbours"][0].item()] += 1
        again = HardIdentitySampler(labels, 2, 1, represent="random", seed=1)
        again.set_epoch(epoch)
        again.update(embeddings, labels)
        assert torch.equal(sampler.state_dict()["neighbours"], again.state_dict()["neighbours"])
    assert found.keys() == {1, 2}
    assert min(found.values()) >= 8


@given(st.integers(0, 10), st.integers(1, 3), st.integers(1, 3))
def test_ranks_share_no_identity_and_all_anchors(more, p, world_size):
    n = p * world_size + more
    runs = []
    for rank in range(world_size):
        labels, sampler = made(n, p, rank=rank, world_size=world_size)
        runs.append(list(sampler))
        assert len(runs[-1]) == len(sampler) == -(-n // world_size)
    anchors = Counter()
    for step in zip(*runs, strict=True):
        identities = [labels[row] for batch in step for row in batch[::2]]
        assert len(set(identities)) == p * world_size
        anchors.update(labels[batch[0]] for batch in step)
    assert set(anchors) == set(range(n))
    assert sum(count - 1 for count in anchors.values()) == len(runs[0]) * world_size - n


def test_the_first_rank_has_the_nearest():
    labels, sampler = made(60, 3, rank=0, world_size=2)
    near = 0
    for batch in sampler:
        anchor, *others = (labels[row] for row in batch[::2])
        near += sorted(circular(anchor, other, 60) for other in others) == [1, 1]
    assert (
        near >= len(sampler) - 4
    )  # where the anchor of the other rank is a neighbour, the next one comes


@pytest.mark.unhooked  # beartype itself draws from `random`
def test_same_seed_and_epoch_same_batches_whatever_the_global_state():
    def batches(seed, epoch):
        _, sampler = made(20, 4, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    torch.manual_seed(1)
    random.seed(1)
    before = torch.get_rng_state(), random.getstate()
    first = batches(5, 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    torch.manual_seed(2)
    assert batches(5, 2) == first
    runs = [batches(*pair) for pair in [(0, 0), (0, 1), (1, 0), (2, 3), (3, 2)]]
    assert all(runs[i] != runs[j] for i in range(len(runs)) for j in range(i))


@given(st.integers(0, 150), st.sampled_from([0, 1]))
def test_resumes_anywhere_from_its_state(stop, rank):
    _, whole = made(200, 3, rank=rank, world_size=2)
    whole.set_epoch(7)
    want = list(whole)
    stop = min(stop, len(want))
    _, interrupted = made(200, 3, rank=rank, world_size=2)
    interrupted.set_epoch(7)
    iterator = iter(interrupted)
    taken = [next(iterator) for _ in range(stop)]
    state = interrupted.state_dict()
    _, resumed = made(
        200, 3, rank=rank, world_size=2, update=False
    )  # the neighbours come from the state
    resumed.load_state_dict(state)
    assert taken + list(resumed) == want
    assert list(resumed) == want


def test_images_of_all_batches_are_drawn_anew():
    _, sampler = made(256, 1, k=1, images=7)
    drawn = [batch[0] % 7 for batch in sampler]
    pieces = {tuple(drawn[i : i + 64]) for i in range(0, 256, 64)}
    assert len(pieces) == 4
    assert min(Counter(drawn).values()) > 256 / 7 / 2


def test_update_takes_effect_with_the_next_iteration():
    _, sampler = made(12, 3)
    iterator = iter(sampler)
    first = next(iterator)
    _, undisturbed = made(12, 3)
    sampler.update(torch.randn(12, 4), list(range(12)))
    assert [first, *iterator] == list(undisturbed)
    assert list(sampler) != list(undisturbed)


def test_images_rotate_and_cameras_are_spread():
    labels = [i // 8 for i in range(32)]
    cameras = [0, 0, 0, 0, 0, 1, 2, 3] * 4
    sampler = HardIdentitySampler(labels, 2, 4, cameras=cameras)
    sampler.update(on_a_circle(4), [0, 1, 2, 3])
    seen = set()
    for epoch in range(60):
        sampler.set_epoch(epoch)
        for batch in sampler:
            seen |= set(batch)
            assert (
                {cameras[row] for row in batch[:4]}
                == {cameras[row] for row in batch[4:]}
                == {0, 1, 2, 3}
            )
    assert seen == set(range(32))


def test_short_identities():
    labels = [0, 0, 1, 2, 2, 3, 3]
    embeddings = on_a_circle(4)
    sampler = HardIdentitySampler(labels, 2, 2)
    sampler.update(embeddings, [0, 1, 2, 3])
    assert all(batch.count(2) in (0, 2) for batch in sampler)  # row 2 is the only one of identity 1
    dropped = HardIdentitySampler(labels, 2, 2, short="drop")
    dropped.update(embeddings, [0, 1, 2, 3])  # the row of the dropped identity is left out
    assert len(dropped) == 3
    assert all(2 not in batch for batch in dropped)


def test_works_in_a_loader_with_workers():
    _, sampler = made(8, 2, images=4)
    dataset = torch.utils.data.TensorDataset(torch.arange(32))
    want = list(sampler)
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=sampler, num_workers=2)
    assert len(loader) == len(want)
    assert [batch[0].tolist() for batch in loader] == want


def test_half_precision_and_double_embeddings():
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        labels, sampler = made(8, 3)
        sampler.update(on_a_circle(8).to(dtype), range(8))
        for batch in sampler:
            anchor, *others = (labels[row] for row in batch[::2])
            assert {circular(anchor, other, 8) for other in others} == {1}


def test_errors():
    labels, sampler = made(6, 2, update=False)
    with pytest.raises(
        ValueError, match=r"update\(embeddings, labels\) before the first batch, got none\. Where"
    ):
        next(iter(sampler))
    with pytest.raises(
        ValueError, match=r"an embedding of every identity, got none for 2 of 6 \(identity 4\)"
    ):
        sampler.update(torch.randn(4, 3), [0, 1, 2, 3])
    with pytest.raises(ValueError, match="4 labels, one for each embedding, got 3"):
        sampler.update(torch.randn(4, 3), [0, 1, 2])
    with pytest.raises(
        ValueError, match=r"finite embeddings, got NaN or infinity\. Did the model diverge"
    ):
        sampler.update(torch.full((6, 3), torch.nan), range(6))
    with pytest.raises(
        ValueError, match="HardIdentitySampler: expected at least num_identities x world_size = 8"
    ):
        HardIdentitySampler(labels, 4, 2, world_size=2)
    with pytest.raises(ValueError, match=r"start_batch in \[0, 6\], got 7"):
        sampler.set_epoch(0, start_batch=7)
    with pytest.raises(
        ValueError, match=r"neighbours of shape \(6, 1\), got \(6, 2\)\. Make the sampler"
    ):
        sampler.load_state_dict(made(6, 3)[1].state_dict())


@pytest.mark.unhooked
def test_errors_of_type():
    with pytest.raises(ValueError, match="represent to be one of mean, random, got 'median'"):
        HardIdentitySampler([0, 1], 1, 1, represent="median")
    _, sampler = made(6, 2, update=False)
    with pytest.raises(ValueError, match="embeddings as a floating-point matrix"):
        sampler.update(torch.arange(6), range(6))
    with pytest.raises(ValueError, match="rank as a whole number >= 0, got -1"):
        HardIdentitySampler([0, 1], 1, 1, rank=-1)
