import random
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.samplers import CrossModalityPKSampler, cross_modality

coverages = st.sampled_from(["identities", "images"])


@st.composite
def columns(draw):
    """Labels and modalities of at least four identities that have every modality."""
    num_modalities = draw(st.integers(2, 3))
    num_identities = draw(st.integers(4, 7))
    rows = [(i, m) for i in range(num_identities) for m in range(num_modalities)]
    more = st.tuples(st.integers(0, num_identities - 1), st.integers(0, num_modalities - 1))
    rows += draw(st.lists(more, max_size=30))
    rows = draw(st.permutations(rows))
    return [label for label, _ in rows], [5 * modality for _, modality in rows]


def batches_of(labels, modalities, *arguments, epoch=0, **options):
    sampler = CrossModalityPKSampler(labels, modalities, *arguments, **options)
    sampler.set_epoch(epoch)
    return list(sampler)


# 12 identities with 6 visible and 4 infrared images each, and 3 cameras
LABELS = [row // 10 for row in range(120)]
MODALITIES = [int(row % 10 >= 6) for row in range(120)]
CAMERAS = [row % 3 for row in range(120)]


@given(columns(), st.integers(1, 4), st.integers(1, 4), coverages, st.integers(0, 4))
def test_every_block_has_k_images_of_each_modality(
    rows, num_identities, num_instances, coverage, epoch
):
    labels, modalities = rows
    sampler = CrossModalityPKSampler(
        labels, modalities, num_identities, num_instances, coverage=coverage, seed=3
    )
    sampler.set_epoch(epoch)
    batches = list(sampler)

    assert len(batches) == len(sampler)
    expected = [m for m in sorted(set(modalities)) for _ in range(num_instances)]
    block_size = len(expected)
    for batch in batches:
        assert len(batch) == num_identities * block_size
        blocks = [batch[i : i + block_size] for i in range(0, len(batch), block_size)]
        identities = [{labels[row] for row in block} for block in blocks]
        assert all(len(found) == 1 for found in identities)
        assert len(set.union(*identities)) == num_identities
        for block in blocks:
            assert [modalities[row] for row in block] == expected


@given(columns(), st.integers(1, 4), st.integers(1, 4), st.integers(0, 4))
def test_an_epoch_covers_all_images_or_all_identities(rows, num_identities, num_instances, epoch):
    labels, modalities = rows
    of_images, of_identities = (
        batches_of(
            labels, modalities, num_identities, num_instances, epoch=epoch, coverage=coverage
        )
        for coverage in ("images", "identities")
    )
    assert {row for batch in of_images for row in batch} == set(range(len(labels)))
    assert {labels[row] for batch in of_identities for row in batch} == set(labels)


@given(columns(), st.integers(1, 4), coverages)
def test_no_image_is_twice_in_a_batch_while_there_are_others(rows, num_instances, coverage):
    labels, modalities = rows
    num_images = Counter(zip(labels, modalities, strict=True))
    for batch in batches_of(labels, modalities, 2, num_instances, coverage=coverage):
        for row, times in Counter(batch).items():
            assert times <= -(-num_instances // num_images[labels[row], modalities[row]])


@given(columns(), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), coverages)
def test_ranks_share_no_identity_in_a_step(
    rows, num_identities, num_instances, world_size, coverage
):
    labels, modalities = rows
    samplers = [
        CrossModalityPKSampler(
            labels,
            modalities,
            num_identities,
            num_instances,
            coverage=coverage,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    for step in zip(*samplers, strict=True):
        of_step = [{labels[row] for row in batch} for batch in step]
        assert len(set.union(*of_step)) == sum(map(len, of_step))


@given(columns(), coverages, st.integers(0, 20))
def test_resumes_inside_an_epoch(rows, coverage, start):
    whole = batches_of(*rows, 2, 2, coverage=coverage, epoch=2)
    start = min(start, len(whole))

    sampler = CrossModalityPKSampler(*rows, 2, 2, coverage=coverage)
    sampler.set_epoch(2, start_batch=start)
    state = sampler.state_dict()
    assert list(sampler) == whole[start:]

    other = CrossModalityPKSampler(*rows, 2, 2, coverage=coverage)
    other.load_state_dict(state)
    assert list(other) == whole[start:]


@pytest.mark.unhooked  # beartype itself draws from `random`
@given(columns(), coverages)
def test_global_random_states_are_neither_read_nor_set(rows, coverage):
    torch.manual_seed(1)
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    first = batches_of(*rows, 3, 2, coverage=coverage, seed=5)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state

    torch.manual_seed(2)
    assert batches_of(*rows, 3, 2, coverage=coverage, seed=5) == first


def test_other_seeds_and_epochs_draw_others():
    found = [batches_of(LABELS, MODALITIES, 4, 2, seed=s, epoch=e) for s in (0, 1) for e in (0, 1)]
    assert len({str(batches) for batches in found}) == 4


def test_images_of_two_modalities_are_paired_anew():
    """Equal counts do not tie the n-th visible image to the n-th infrared one."""
    labels = [row // 8 for row in range(64)]
    modalities = [row % 2 for row in range(64)]
    partners = defaultdict(set)
    for epoch in range(30):
        for batch in batches_of(labels, modalities, 4, 1, epoch=epoch):
            for visible, infrared in zip(batch[::2], batch[1::2], strict=True):
                partners[visible].add(infrared)
    assert np.mean([len(infrared) for infrared in partners.values()]) > 3  # 1 if they were tied


def test_spreads_over_the_cameras_of_each_modality():
    for batch in batches_of(LABELS, MODALITIES, 4, 3, cameras=CAMERAS):
        blocks = np.array(CAMERAS)[batch].reshape(-1, 3)
        assert all(set(block) == {0, 1, 2} for block in blocks.tolist())


def test_copies_of_an_image_are_never_its_only_positives():
    images = [row - row % 2 for row in range(120)]  # each image twice
    for batch in batches_of(LABELS, MODALITIES, 4, 2, images=images):
        pairs = np.array(images)[batch].reshape(-1, 2)
        assert (pairs[:, 0] != pairs[:, 1]).all()


def test_identities_that_lack_a_modality():
    labels, modalities = [*LABELS, 50, 50], [*MODALITIES, 0, 0]
    with pytest.warns(UserWarning, match="1 of 13 identities lack a modality .identity 50 has no"):
        sampler = CrossModalityPKSampler(labels, modalities, 4, 2)
    assert {row for batch in sampler for row in batch} <= set(range(120))

    assert batches_of(labels, modalities, 4, 2, if_too_few="drop") == list(sampler)
    with pytest.raises(ValueError, match=r"1 of 13 identities lack a modality .*leave them out"):
        CrossModalityPKSampler(labels, modalities, 4, 2, if_too_few="error")


def test_identities_with_too_few_images_of_a_modality():
    labels, modalities = [*LABELS, 50, 50, 50], [*MODALITIES, 0, 0, 1]
    repeated = batches_of(labels, modalities, 13, 2)
    assert {row for batch in repeated for row in batch} >= {122}

    dropped = batches_of(labels, modalities, 12, 2, if_too_few="drop")
    assert not {row for batch in dropped for row in batch} & {120, 121, 122}
    with pytest.raises(ValueError, match="1 identities have fewer than 2 images"):
        CrossModalityPKSampler(labels, modalities, 4, 2, if_too_few="error")


def test_chunk_size_does_not_change_the_batches(monkeypatch):
    whole = batches_of(LABELS, MODALITIES, 2, 1, coverage="images")
    monkeypatch.setattr(cross_modality, "CHUNK", 3)
    assert batches_of(LABELS, MODALITIES, 2, 1, coverage="images") == whole


OTHERS = {
    "num_identities": {"num_identities": 3},
    "num_instances": {"num_instances": 1},
    "seed": {"seed": 2},
    "coverage": {"coverage": "images"},
    "if_too_few": {"if_too_few": "drop"},
    "world_size": {"world_size": 2},
    "data": {"modalities": MODALITIES[::-1]},
    "data, labels": {"labels": LABELS[::-1]},
    "data, cameras": {"cameras": CAMERAS},
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_state_of_another_sampler_is_refused(name):
    options = {
        "labels": LABELS,
        "modalities": MODALITIES,
        "num_identities": 2,
        "num_instances": 2,
        "seed": 1,
    }
    state = CrossModalityPKSampler(**options).state_dict()
    other = CrossModalityPKSampler(**options | OTHERS[name])
    with pytest.raises(ValueError, match=rf"is of a sampler with {name.split(',')[0]}="):
        other.load_state_dict(state)


def test_repr_is_one_line():
    sampler = CrossModalityPKSampler(LABELS, MODALITIES, 4, 2)
    assert repr(sampler) == (
        "CrossModalityPKSampler(12 identities, 2 modalities, 3 batches, num_identities=4, "
        "num_instances=2, seed=0, coverage='identities', if_too_few='repeat', rank=0, "
        "world_size=1, epoch=0)"
    )


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("labels", "modalities", "options", "message"),
    [
        ([], [], {}, "labels is empty"),
        ([0, 1], [0], {}, "expected 2 modalities, one for each label, got 1"),
        ([0, 1], [1, 1], {}, "all rows have the modality 1; use PKSampler"),
        ([0, 1], ["a", "b"], {}, "expected modalities as a flat list of integers"),
        ([0, 0], [0, 1], {"num_identities": 2}, "a step needs num_identities x world_size = 2"),
        ([0, 0], [0, 1], {"coverage": "all"}, "expected coverage to be one of"),
        ([0, 0], [0, 1], {"cameras": [1]}, "expected 2 cameras, one for each label, got 1"),
        ([0, 1], [0, 1], {"if_too_few": "drop"}, "no identity has 4 images of each of the 2"),
    ],
)
def test_wrong_arguments(labels, modalities, options, message):
    with pytest.raises(ValueError, match=f"CrossModalityPKSampler: {message}"):
        CrossModalityPKSampler(labels, modalities, **options)


def test_wrong_epoch():
    sampler = CrossModalityPKSampler(LABELS, MODALITIES, 4, 2)
    with pytest.raises(ValueError, match=r"CrossModalityPKSampler.set_epoch: expected epoch as"):
        sampler.set_epoch(-1)
