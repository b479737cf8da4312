import itertools
import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit._similarity import nearest_in_triangle
from clipreid_kit.samplers import HardIdentitySampler, hard_identity


def on_a_circle(num_identities):
    """Identity i at angle i: its nearest are i - 1 and i + 1, then i - 2 and i + 2, and so on."""
    angle = torch.arange(num_identities) * 2 * torch.pi / num_identities
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def labels_of(num_all_identities, images=3):
    return [label for label in range(num_all_identities) for _ in range(images)]


def updated(num_all_identities, num_identities, num_instances=2, images=3, **options):
    """A sampler that knows its neighbours, for identities on a circle."""
    labels = labels_of(num_all_identities, images)
    sampler = HardIdentitySampler(labels, num_identities, num_instances, **options)
    sampler.update(on_a_circle(num_all_identities), list(range(num_all_identities)))
    return sampler


def neighbours_of(sampler):
    return sampler.state_dict()["neighbours"]


def distance_on_circle(first, second, num_identities):
    return min((first - second) % num_identities, (second - first) % num_identities)


def slow_neighbours(embeddings, labels, number):
    """Cosine of the mean directions, by loops; the nearest first."""
    unit = embeddings.double() / embeddings.double().norm(dim=1, keepdim=True)
    centres = {}
    for label in sorted(set(labels)):
        mean = sum(unit[row] for row, other in enumerate(labels) if other == label)
        centres[label] = mean / mean.norm()

    nearest = {}
    for label, centre in centres.items():
        others = [other for other in centres if other != label]
        nearest[label] = sorted(others, key=lambda other: -float(centre @ centres[other]))[:number]
    return nearest


@given(st.integers(4, 15), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))
def test_every_batch_is_p_by_k_and_len_is_exact(
    num_all_identities, num_identities, num_instances, epoch
):
    labels = labels_of(num_all_identities)
    sampler = updated(num_all_identities, num_identities, num_instances)
    sampler.set_epoch(epoch)

    batches = list(sampler)

    assert len(batches) == len(sampler) == num_all_identities
    for batch in batches:
        identities = [labels[row] for row in batch[::num_instances]]
        assert len(set(identities)) == num_identities
        expected = [identity for identity in identities for _ in range(num_instances)]
        assert [labels[row] for row in batch] == expected


@given(st.integers(4, 15), st.integers(1, 4), st.integers(0, 3))
def test_every_identity_is_an_anchor_once_with_its_nearest(
    num_all_identities, num_identities, epoch
):
    labels = labels_of(num_all_identities)
    sampler = updated(num_all_identities, num_identities)
    sampler.set_epoch(epoch)

    anchors = []
    for batch in sampler:
        identities = [labels[row] for row in batch[::2]]
        anchor = identities[0]
        anchors.append(anchor)
        distances = [distance_on_circle(anchor, other, num_all_identities) for other in identities]
        assert distances == sorted(distances)
        assert max(distances) == num_identities // 2

    assert sorted(anchors) == list(range(num_all_identities))


@given(st.integers(0, 2**31), st.integers(5, 12), st.integers(1, 4))
def test_neighbours_equal_those_of_the_loop(seed, num_all_identities, num_identities):
    rng = np.random.default_rng(seed)
    numbers = [*range(num_all_identities), *rng.integers(0, num_all_identities, 20)]
    labels = [10 * int(number) - 7 for number in numbers]
    rows = rng.standard_normal((len(labels), 6)) * rng.uniform(0.1, 9, (len(labels), 1))
    embeddings = torch.from_numpy(rows).float()

    sampler = HardIdentitySampler(labels, num_identities, 1)
    sampler.update(embeddings, labels)

    expected = slow_neighbours(embeddings, labels, num_identities - 1)
    for batch in sampler:
        anchor, *others = (labels[row] for row in batch)
        assert others == expected[anchor]


def test_block_size_does_not_change_the_neighbours(monkeypatch):
    labels = labels_of(30)
    embeddings = torch.randn(90, 8)
    whole = HardIdentitySampler(labels, 5, 2)
    whole.update(embeddings, labels)

    # 8 embeddings at a time, and tiles of 7 x 11 similarities
    monkeypatch.setattr(hard_identity, "BLOCK", 70)
    monkeypatch.setattr(nearest_in_triangle, "ROWS", 7)
    monkeypatch.setattr(nearest_in_triangle, "COLUMNS", 11)
    in_blocks = HardIdentitySampler(labels, 5, 2)
    in_blocks.update(embeddings, labels)

    assert torch.equal(neighbours_of(whole), neighbours_of(in_blocks))


def test_of_equally_near_identities_the_first_are_neighbours(monkeypatch):
    # Corners of a square: all similarities are exactly 1, 0 or -1.
    corners = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    embeddings = corners.repeat(10, 1)
    monkeypatch.setattr(nearest_in_triangle, "ROWS", 6)
    monkeypatch.setattr(nearest_in_triangle, "COLUMNS", 16)

    sampler = HardIdentitySampler(labels_of(40), 16, 1)
    sampler.update(embeddings, range(40))

    similarity = (embeddings @ embeddings.T).fill_diagonal_(-9)
    expected = similarity.argsort(dim=1, descending=True, stable=True)[:, :15]
    assert neighbours_of(sampler).tolist() == expected.tolist()


# Identity 0 has an image beside identity 1 and one beside identity 2; its mean is nearer to
# identity 1.
BETWEEN = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
BETWEEN_LABELS = [0, 0, 1, 2, 2]


def neighbour_of_identity_0(epoch, **options):
    sampler = HardIdentitySampler(BETWEEN_LABELS, 2, 1, **options)
    sampler.set_epoch(epoch)
    sampler.update(BETWEEN, BETWEEN_LABELS)
    return neighbours_of(sampler)[0].item()


def test_the_mean_represents_an_identity():
    found = {neighbour_of_identity_0(epoch) for epoch in range(40)}
    assert found == {1}


@pytest.mark.parametrize("varied", ["seed", "epoch"])
def test_a_random_image_represents_an_identity(varied):
    found = Counter()
    for number in range(40):
        options = {"seed": 1, "epoch": 1, "representative": "random", varied: number}
        neighbour = neighbour_of_identity_0(**options)
        found[neighbour] += 1
        assert neighbour_of_identity_0(**options) == neighbour

    assert found.keys() == {1, 2}
    assert min(found.values()) >= 8


@given(st.integers(0, 10), st.integers(1, 3), st.integers(1, 3))
def test_ranks_share_the_anchors_and_no_identity(num_more, num_identities, world_size):
    num_all_identities = num_identities * world_size + num_more
    labels = labels_of(num_all_identities)
    num_steps = -(-num_all_identities // world_size)
    batches_of_ranks = []
    for rank in range(world_size):
        sampler = updated(num_all_identities, num_identities, rank=rank, world_size=world_size)
        batches_of_ranks.append(list(sampler))
        assert len(batches_of_ranks[-1]) == len(sampler) == num_steps

    anchors = Counter()
    for step in zip(*batches_of_ranks, strict=True):
        identities = {labels[row] for batch in step for row in batch}
        assert len(identities) == num_identities * world_size
        anchors.update(labels[batch[0]] for batch in step)

    # The last step starts again with the first anchors.
    assert set(anchors) == set(range(num_all_identities))
    num_repeated = sum(count - 1 for count in anchors.values())
    assert num_repeated == num_steps * world_size - num_all_identities


def test_the_first_rank_has_the_nearest():
    labels = labels_of(60)
    sampler = updated(60, 3, rank=0, world_size=2)
    num_with_both_nearest = 0
    for batch in sampler:
        anchor, *others = (labels[row] for row in batch[::2])
        distances = [distance_on_circle(anchor, other, 60) for other in others]
        num_with_both_nearest += distances == [1, 1]

    # Where the anchor of the other rank is a neighbour, the next one replaces it.
    assert num_with_both_nearest >= len(sampler) - 4


@pytest.mark.unhooked  # beartype itself draws from `random`
def test_global_random_states_are_neither_read_nor_set():
    torch.manual_seed(1)
    random.seed(1)
    torch_state = torch.get_rng_state()
    python_state = random.getstate()

    first = list(updated(20, 4, seed=5))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state

    torch.manual_seed(2)
    assert list(updated(20, 4, seed=5)) == first


SEEDS_AND_EPOCHS = [(0, 0), (0, 1), (1, 0), (2, 3), (3, 2)]


def batches_of(seed, epoch, **options):
    sampler = updated(20, 4, images=10, seed=seed, **options)
    sampler.set_epoch(epoch)
    return list(sampler)


def image_numbers(batches):
    """Which of the ten images of its identity each row is."""
    return [row % 10 for batch in batches for row in batch]


def test_other_seeds_and_epochs_have_another_order_of_anchors():
    orders = []
    for seed, epoch in SEEDS_AND_EPOCHS:
        orders.append([batch[0] // 10 for batch in batches_of(seed, epoch)])
    for first, second in itertools.combinations(orders, 2):
        assert first != second


def test_other_seeds_and_epochs_draw_other_images():
    drawn = [image_numbers(batches_of(seed, epoch)) for seed, epoch in SEEDS_AND_EPOCHS]
    for first, second in itertools.combinations(drawn, 2):
        assert first != second


def test_ranks_draw_independently():
    first, second = (image_numbers(batches_of(0, 0, rank=rank, world_size=2)) for rank in range(2))
    assert len(first) == len(second)
    assert first != second


@given(st.integers(0, 150), st.sampled_from([0, 1]))
def test_resumes_anywhere_from_its_state(num_taken, rank):
    whole = updated(200, 3, rank=rank, world_size=2)
    whole.set_epoch(7)
    expected = list(whole)
    num_taken = min(num_taken, len(expected))

    interrupted = updated(200, 3, rank=rank, world_size=2)
    interrupted.set_epoch(7)
    taken = list(itertools.islice(interrupted, num_taken))

    # The neighbours come from the state.
    resumed = HardIdentitySampler(labels_of(200), 3, 2, rank=rank, world_size=2)
    resumed.load_state_dict(interrupted.state_dict())

    assert taken + list(resumed) == expected
    assert list(resumed) == expected


def test_images_of_all_batches_are_drawn_anew():
    sampler = updated(256, 1, num_instances=1, images=7)
    drawn = [batch[0] % 7 for batch in sampler]

    pieces = {tuple(drawn[begin : begin + 64]) for begin in range(0, 256, 64)}
    assert len(pieces) == 4
    assert len(Counter(drawn)) == 7
    assert min(Counter(drawn).values()) > 256 / 7 / 2


def test_an_update_takes_effect_with_the_next_iteration():
    expected = list(updated(12, 3))
    sampler = updated(12, 3)
    iterator = iter(sampler)
    first = next(iterator)

    sampler.update(torch.randn(12, 4), list(range(12)))

    assert [first, *iterator] == expected
    assert list(sampler) != expected


def test_images_rotate_and_cameras_are_spread():
    labels = [row // 8 for row in range(32)]
    cameras = [0, 0, 0, 0, 0, 1, 2, 3] * 4
    sampler = HardIdentitySampler(labels, 2, 4, cameras=cameras)
    sampler.update(on_a_circle(4), [0, 1, 2, 3])

    shown = set()
    for epoch in range(60):
        sampler.set_epoch(epoch)
        for batch in sampler:
            shown |= set(batch)
            assert {cameras[row] for row in batch[:4]} == {0, 1, 2, 3}
            assert {cameras[row] for row in batch[4:]} == {0, 1, 2, 3}
    assert shown == set(range(32))


def test_too_few_images_are_repeated():
    sampler = HardIdentitySampler([0, 0, 1, 2, 2, 3, 3], 2, 2)
    sampler.update(on_a_circle(4), [0, 1, 2, 3])

    times = {batch.count(2) for batch in sampler}  # row 2 is the only one of identity 1
    assert times == {0, 2}


def test_identities_with_too_few_images_are_dropped():
    sampler = HardIdentitySampler([0, 0, 1, 2, 2, 3, 3], 2, 2, if_too_few="drop")
    sampler.update(on_a_circle(4), [0, 1, 2, 3])  # the embedding of the dropped identity is ignored

    assert len(sampler) == 3
    for batch in sampler:
        assert 2 not in batch


def test_in_a_loader_with_workers():
    sampler = updated(8, 2, images=4)
    expected = list(sampler)
    dataset = torch.utils.data.TensorDataset(torch.arange(32))
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=sampler, num_workers=2)

    assert len(loader) == len(expected)
    assert [batch[0].tolist() for batch in loader] == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_embeddings_of_other_precisions(dtype):
    labels = labels_of(8)
    sampler = HardIdentitySampler(labels, 3, 2)
    sampler.update(on_a_circle(8).to(dtype), range(8))

    for batch in sampler:
        anchor, *others = (labels[row] for row in batch[::2])
        assert {distance_on_circle(anchor, other, 8) for other in others} == {1}


def test_repr_is_one_line():
    sampler = updated(6, 2, seed=7)
    sampler.set_epoch(3)
    assert repr(sampler) == (
        "HardIdentitySampler(6 identities, 6 batches, num_identities=2, num_instances=2, seed=7, "
        "representative='mean', if_too_few='repeat', cameras=None, rank=0, world_size=1, epoch=3)"
    )


def test_batches_before_the_first_update():
    sampler = HardIdentitySampler(labels_of(6), 2, 2)
    with pytest.raises(ValueError, match=r"call update\(embeddings, labels\) before the first ba"):
        next(iter(sampler))


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (
            torch.randn(4, 3),
            [0, 1, 2, 3],
            r"2 of 6 identities have no embedding \(identity 4 is the first\)",
        ),
        (torch.randn(4, 3), [0, 1, 2], "4 labels, one for each embedding, got 3"),
        (torch.full((6, 3), torch.nan), range(6), "NaN or infinite values; did the model diverge"),
    ],
)
def test_wrong_updates(embeddings, labels, message):
    sampler = HardIdentitySampler(labels_of(6), 2, 2)
    with pytest.raises(ValueError, match=r"HardIdentitySampler\.update: .*" + message):
        sampler.update(embeddings, labels)


@pytest.mark.unhooked
def test_embeddings_that_are_no_matrix():
    sampler = HardIdentitySampler(labels_of(6), 2, 2)
    with pytest.raises(ValueError, match="embeddings as a floating-point matrix"):
        sampler.update(torch.arange(6), range(6))


def test_state_of_another_sampler():
    # As version 0.1 wrote it, without the options.
    whole = updated(6, 3).state_dict()
    state = {name: whole[name] for name in ("epoch", "batches", "neighbours")}
    message = r"neighbours of shape \(6, 1\), got \(6, 2\)\. Build the sampler with the labels"
    with pytest.raises(ValueError, match=message):
        HardIdentitySampler(labels_of(6), 2, 2).load_state_dict(state)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"representative": "median"}, "representative to be one of mean, random, got 'median'"),
        ({"rank": -1}, "HardIdentitySampler: expected rank as a whole number >= 0, got -1"),
        ({"num_identities": 4, "world_size": 2}, "num_identities x world_size = 8 identities, an"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        HardIdentitySampler([0, 1], **{"num_identities": 1, "num_instances": 1, **options})


def test_wrong_epoch():
    sampler = updated(6, 2)
    with pytest.raises(ValueError, match=r"start_batch in \[0, 6\], got 7"):
        sampler.set_epoch(0, start_batch=7)


def test_copies_of_an_image_are_never_its_only_positives():
    labels = [0] * 6 + [1, 1, 2, 2]
    images = [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]
    sampler = HardIdentitySampler(labels, 2, 2, images=images)
    sampler.update(torch.eye(10), labels)

    seen = set()
    for epoch in range(10):
        sampler.set_epoch(epoch)
        for batch in sampler:
            seen.update(batch)
            for block in (batch[:2], batch[2:]):
                assert images[block[0]] != images[block[1]]
    assert seen == set(range(10))  # the copies take turns


def test_a_single_image_is_warned_of():
    with pytest.warns(UserWarning, match="HardIdentitySampler: 1 of 2 identities have a single"):
        HardIdentitySampler([0, 0, 1, 1], 2, 2, images=[5, 5, 6, 7])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("num_instances", {"num_instances": 3}),
        ("seed", {"seed": 3}),
        ("representative", {"representative": "random"}),
        ("data", {"cameras": [0, 1] * 6}),
    ],
)
def test_the_state_of_another_sampler_is_refused(name, options):
    labels = [row // 2 for row in range(12)]
    usual = {"num_identities": 3, "num_instances": 2}
    sampler = HardIdentitySampler(labels, **usual)
    sampler.update(torch.randn(12, 3), labels)

    expected = rf"HardIdentitySampler.load_state_dict: the state is of a sampler with {name}="
    with pytest.raises(ValueError, match=expected):
        HardIdentitySampler(labels, **usual | options).load_state_dict(sampler.state_dict())
