import itertools
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.samplers import HardIdentitySampler, PKSampler

label_lists = st.lists(st.integers(0, 9), min_size=4, max_size=80).filter(
    lambda labels: len(set(labels)) >= 4
)
coverages = st.sampled_from(["identities", "images"])

# One identity is much larger than the others: it is in all of the 100 batches of an epoch that
# covers images.
SKEWED_LABELS = [0] * 400 + [label for label in range(1, 41) for _ in range(6)]


def batches_of(labels, num_identities, num_instances, *, epoch=0, **options):
    sampler = PKSampler(labels, num_identities, num_instances, **options)
    sampler.set_epoch(epoch)
    return list(sampler)


def blocks_of(batch, num_instances):
    """The rows of each identity."""
    return [batch[i : i + num_instances] for i in range(0, len(batch), num_instances)]


def identities_of(batches, labels):
    """The set of identities of each batch, as a set that ignores the order of the batches."""
    return {frozenset(labels[row] for row in batch) for batch in batches}


def check_batches(batches, labels, num_identities, num_instances):
    for batch in batches:
        assert len(batch) == num_identities * num_instances
        identities = set()
        for block in blocks_of(batch, num_instances):
            labels_of_block = {labels[row] for row in block}
            assert len(labels_of_block) == 1
            identities |= labels_of_block
        assert len(identities) == num_identities


@given(
    label_lists, st.integers(1, 4), st.integers(1, 5), coverages, st.integers(0, 5), st.booleans()
)
def test_every_batch_is_p_by_k_and_len_is_exact(
    labels, num_identities, num_instances, coverage, epoch, with_cameras
):
    cameras = [row % 3 for row in range(len(labels))] if with_cameras else None
    sampler = PKSampler(
        labels, num_identities, num_instances, coverage=coverage, seed=4, cameras=cameras
    )
    sampler.set_epoch(epoch)

    batches = list(sampler)

    assert len(batches) == len(sampler)
    check_batches(batches, labels, num_identities, num_instances)


@given(label_lists, st.integers(1, 4), st.integers(1, 5), st.integers(0, 5))
def test_an_epoch_covers_all_identities(labels, num_identities, num_instances, epoch):
    batches = batches_of(labels, num_identities, num_instances, epoch=epoch)
    assert set.union(*map(set, identities_of(batches, labels))) == set(labels)


@given(label_lists, st.integers(1, 4), st.integers(1, 5), st.integers(0, 5), st.booleans())
def test_an_epoch_covers_all_images(labels, num_identities, num_instances, epoch, with_cameras):
    cameras = [row % 3 for row in range(len(labels))] if with_cameras else None
    batches = batches_of(
        labels, num_identities, num_instances, epoch=epoch, coverage="images", cameras=cameras
    )
    assert {row for batch in batches for row in batch} == set(range(len(labels)))


@given(label_lists, st.integers(1, 5), coverages)
def test_no_image_is_twice_in_a_batch_while_there_are_others(labels, num_instances, coverage):
    num_images = Counter(labels)
    for batch in PKSampler(labels, 2, num_instances, coverage=coverage):
        for row, times in Counter(batch).items():
            assert times <= -(-num_instances // num_images[labels[row]])


@pytest.mark.unhooked  # beartype itself draws from `random`
@given(label_lists, coverages, st.integers(0, 3))
def test_global_random_states_are_neither_read_nor_set(labels, coverage, epoch):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 (the point is that it changes nothing)
    torch.manual_seed(1)
    torch_state = torch.get_rng_state()
    python_state = random.getstate()

    first = batches_of(labels, 3, 2, coverage=coverage, seed=5, epoch=epoch)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state

    torch.manual_seed(2)
    assert batches_of(labels, 3, 2, coverage=coverage, seed=5, epoch=epoch) == first


@pytest.mark.parametrize("coverage", ["identities", "images"])
def test_other_seeds_and_epochs_group_other_identities(coverage):
    labels = [row // 5 for row in range(100)]
    seeds_and_epochs = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 3), (3, 2), (6, 1)]

    groupings = []
    for seed, epoch in seeds_and_epochs:
        batches = batches_of(labels, 4, 2, seed=seed, epoch=epoch, coverage=coverage)
        groupings.append(identities_of(batches, labels))

    for first, second in itertools.combinations(groupings, 2):
        assert first != second


@pytest.mark.parametrize("varied", ["seed", "epoch"])
@pytest.mark.parametrize("coverage", ["identities", "images"])
def test_any_two_identities_meet_for_some_seed_and_in_some_epoch(varied, coverage):
    labels = [row // 2 for row in range(16)]
    pairs = set()
    for number in range(60):
        batches = batches_of(labels, 4, 2, coverage=coverage, **{varied: number})
        for identities in identities_of(batches, labels):
            pairs |= set(itertools.combinations(sorted(identities), 2))

    assert pairs == set(itertools.combinations(range(8), 2))


@pytest.mark.parametrize("coverage", ["identities", "images"])
def test_other_seeds_and_epochs_draw_other_images(coverage):
    # One batch per part of the identities: the grouping is always the same, and only the images can
    # differ.
    labels = [row // 20 for row in range(80)]
    seeds_and_epochs = [(0, 0), (0, 1), (1, 0), (2, 3), (3, 2)]

    drawn = []
    for seed, epoch in seeds_and_epochs:
        batches = batches_of(labels, 4, 2, seed=seed, epoch=epoch, coverage=coverage)
        pairs = {frozenset(block) for batch in batches for block in blocks_of(batch, 2)}
        drawn.append(pairs)

    for first, second in itertools.combinations(drawn, 2):
        assert first != second


@pytest.mark.parametrize("changes", [{"seed": 1}, {"epoch": 1}])
def test_other_seeds_and_epochs_fill_with_other_identities(changes):
    # Ten identities in batches of four: the last batch is filled with two identities that are in
    # the epoch already.
    labels = [row // 2 for row in range(20)]

    def repeated(**options):
        count = Counter()
        for batch in batches_of(labels, 4, 2, **options):
            count.update({labels[row] for row in batch})
        return {label for label, times in count.items() if times == 2}

    assert len(repeated()) == 2
    assert repeated() != repeated(**changes)


@given(label_lists, st.integers(1, 2), st.integers(1, 3), coverages)
def test_ranks_agree_on_the_length_and_share_no_identity_in_a_step(
    labels, num_identities, num_instances, coverage
):
    options = {"coverage": coverage, "world_size": 2}
    samplers = [
        PKSampler(labels, num_identities, num_instances, rank=rank, **options) for rank in range(2)
    ]
    first, second = (list(sampler) for sampler in samplers)

    assert len(first) == len(second) == len(samplers[0]) == len(samplers[1])
    for one, other in zip(first, second, strict=True):
        check_batches([one, other], labels, num_identities, num_instances)
        assert not {labels[row] for row in one} & {labels[row] for row in other}


@given(label_lists, st.integers(1, 2), st.integers(1, 3))
def test_ranks_together_cover_all_images(labels, num_identities, num_instances):
    shown = set()
    for rank in range(2):
        options = {"coverage": "images", "rank": rank, "world_size": 2}
        for batch in PKSampler(labels, num_identities, num_instances, **options):
            shown |= set(batch)
    assert shown == set(range(len(labels)))


@given(label_lists, coverages, st.data())
def test_resumes_inside_an_epoch(labels, coverage, data):
    def sampler_of_epoch_7():
        sampler = PKSampler(labels, 2, 3, coverage=coverage, seed=2)
        sampler.set_epoch(7)
        return sampler

    whole = list(sampler_of_epoch_7())
    num_taken = data.draw(st.integers(0, len(whole)))
    interrupted = sampler_of_epoch_7()
    taken = list(itertools.islice(interrupted, num_taken))
    state = interrupted.state_dict()

    resumed = PKSampler(labels, 2, 3, coverage=coverage, seed=2)
    resumed.load_state_dict(state)

    assert (state["epoch"], state["batches"]) == (7, num_taken)
    assert taken + list(resumed) == whole
    assert list(resumed) == whole  # the next iteration is whole again


@given(st.integers(1, 12), st.integers(1, 3), st.integers(1, 3), coverages, st.data())
def test_every_rank_resumes(num_more, num_identities, world_size, coverage, data):
    num_labels = num_identities * world_size + num_more
    labels = [label for label in range(num_labels) for _ in range(1 + label % 4)]

    for rank in range(world_size):
        options = {"coverage": coverage, "rank": rank, "world_size": world_size}
        sampler = PKSampler(labels, num_identities, 2, **options)
        sampler.set_epoch(3)
        whole = list(sampler)
        start_batch = data.draw(st.integers(0, len(sampler)))

        sampler.set_epoch(3, start_batch=start_batch)

        assert list(sampler) == whole[start_batch:]


def test_spreads_over_cameras():
    labels = [0] * 12 + [1] * 12
    cameras = ([0] * 9 + [1, 2, 3]) * 2  # nine images of one camera, one of each of the others

    for epoch in range(5):
        for batch in batches_of(labels, 2, 4, cameras=cameras, epoch=epoch):
            for block in blocks_of(batch, 4):
                assert {cameras[row] for row in block} == {0, 1, 2, 3}


def test_spreads_over_cameras_while_covering_all_images():
    labels = [0] * 12 + [1] * 12
    cameras = ([0] * 9 + [1, 2, 3]) * 2

    for batch in PKSampler(labels, 2, 4, cameras=cameras, coverage="images"):
        for block in blocks_of(batch, 4):
            # The three rare cameras are dealt over the three parts.
            *common, rare = sorted(cameras[row] for row in block)
            assert common == [0, 0, 0]
            assert rare > 0


def test_images_rotate_from_epoch_to_epoch():
    labels = [0] * 8 + [1] * 8
    shown = set()
    for epoch in range(20):
        shown |= {row for batch in batches_of(labels, 2, 2, epoch=epoch) for row in batch}
    assert shown == set(range(16))


@pytest.mark.parametrize("cameras", [None, [0, 0, 0, 1, 1] * 4])
def test_images_are_drawn_evenly(cameras):
    labels = [row // 5 for row in range(20)]
    pairs = Counter()
    for epoch in range(600):
        for batch in batches_of(labels, 4, 2, cameras=cameras, seed=3, epoch=epoch):
            pairs.update(tuple(sorted(block)) for block in blocks_of(batch, 2))

    # 10 pairs of 5 images; with cameras 0, 0, 0, 1, 1 the 3 x 2 pairs of different cameras.
    pairs_per_identity = 10 if cameras is None else 6
    expected = 600 / pairs_per_identity
    assert len(pairs) == 4 * pairs_per_identity
    for count in pairs.values():
        assert abs(count - expected) < 4.5 * expected**0.5


def test_too_few_images_are_repeated():
    labels = [0, 0, 0, 0, 1, 2, 2, 2, 2]
    batch = next(iter(PKSampler(labels, 3, 4)))
    assert Counter(labels[row] for row in batch) == {0: 4, 1: 4, 2: 4}


def test_identities_with_too_few_images_are_dropped():
    labels = [0, 0, 0, 0, 1, 2, 2, 2, 2]
    batches = batches_of(labels, 2, 4, if_too_few="drop")
    assert identities_of(batches, labels) == {frozenset({0, 2})}


def test_skewed_set_covers_all_images():
    sampler = PKSampler(SKEWED_LABELS, 16, 4, coverage="images")
    batches = list(sampler)
    assert len(batches) == len(sampler) == 100  # the large identity is in 400 / 4 batches
    assert {row for batch in batches for row in batch} == set(range(640))


def test_reserve_comes_round_to_all_identities():
    times = Counter()
    for batch in PKSampler(SKEWED_LABELS, 16, 4, coverage="images"):
        times.update(SKEWED_LABELS[row] for row in batch[::4])
    del times[0]  # it is in every batch anyway

    assert len(times) == 40
    assert sum(times.values()) == 1500
    assert min(times.values()) >= 0.8 * 1500 / 40
    assert max(times.values()) <= 1.2 * 1500 / 40


def test_ranks_take_turns_in_what_is_dealt():
    shares = []
    for rank in range(2):
        sampler = PKSampler(SKEWED_LABELS, 8, 4, coverage="images", rank=rank, world_size=2)
        shares.append(sum(0 in {SKEWED_LABELS[row] for row in batch} for batch in sampler))
    assert sum(shares) == 100
    assert min(shares) > 40


def test_each_part_of_an_identity_meets_other_identities():
    labels = [row // 20 for row in range(2000)]
    companions = defaultdict(list)
    for batch in PKSampler(labels, 10, 4, coverage="images"):
        identities = {labels[row] for row in batch}
        for label in identities:
            companions[label].append(identities - {label})

    assert len(companions) == 100
    for met in companions.values():  # 5 batches x 9 others
        assert len(met) == 5
        assert len(set.union(*met)) >= 25


def test_two_iterations_at_once_do_not_disturb_each_other():
    sampler = PKSampler([row // 4 for row in range(80)], 4, 2)
    expected = list(sampler)
    for first, second, batch in zip(sampler, sampler, expected, strict=True):
        assert first == second == batch


@pytest.mark.parametrize("num_workers", [0, 2])
def test_in_a_loader(num_workers):
    sampler = PKSampler([row // 4 for row in range(32)], 4, 2)
    expected = list(sampler)
    dataset = torch.utils.data.TensorDataset(torch.arange(32))
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=sampler, num_workers=num_workers)

    assert len(loader) == len(expected)
    assert [batch[0].tolist() for batch in loader] == expected


def test_accepts_lists_tensors_and_arrays():
    labels = [3, 3, 8, 8]
    expected = batches_of(labels, 2, 2)
    assert batches_of(torch.tensor(labels), 2, 2) == expected
    assert batches_of(np.array(labels, dtype=np.uint8), 2, 2) == expected


def test_repr_is_one_line():
    sampler = PKSampler([0, 0, 1, 1, 2, 2], 2, 2, coverage="images", cameras=[0, 1] * 3, seed=7)
    sampler.set_epoch(3)
    assert repr(sampler) == (
        "PKSampler(3 identities, 2 batches, num_identities=2, num_instances=2, seed=7, "
        "coverage='images', if_too_few='repeat', cameras=2, rank=0, world_size=1, epoch=3)"
    )


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([], {}, "PKSampler: labels is empty"),
        (["a", "b"], {}, r"PKSampler: expected labels as a flat list of integers.*np\.unique"),
        ([0, 1], {"num_identities": 3}, "num_identities x world_size = 3 identities, and there"),
        ([0, 1], {"coverage": "all"}, "PKSampler: expected coverage to be one of identities, im"),
        ([0, 1], {"num_instances": None}, "num_instances as a whole number >= 1, got None"),
    ],
)
def test_wrong_arguments(labels, options, message):
    with pytest.raises(ValueError, match=message):
        PKSampler(labels, **options)


def test_wrong_epoch():
    sampler = PKSampler([0, 1], 2, 2)
    with pytest.raises(ValueError, match=r"PKSampler.set_epoch: expected epoch as a whole"):
        sampler.set_epoch(-1)
    with pytest.raises(ValueError, match=r"start_batch in \[0, 1\], got 2"):
        sampler.set_epoch(0, start_batch=2)


# three images of identity 0, each four times, and two of each other identity, each once
COPIED = [(0, row % 3) for row in range(12)] + [(i, 10 * i + n) for i in (1, 2, 3) for n in (0, 1)]


@given(coverages, st.integers(2, 4), st.integers(0, 5), st.booleans())
def test_copies_of_an_image_are_never_its_only_positives(coverage, num_instances, epoch, cameras):
    labels, images = map(list, zip(*COPIED, strict=True))
    batches = batches_of(
        labels,
        3,
        num_instances,
        coverage=coverage,
        images=images,
        cameras=[row % 2 for row in range(len(labels))] if cameras else None,
        epoch=epoch,
    )
    check_batches(batches, labels, 3, num_instances)
    for batch in batches:
        for block in blocks_of(batch, num_instances):
            num_images = len({images[row] for row in block})
            assert num_images == min(num_instances, 3 if labels[block[0]] == 0 else 2)


def test_without_the_images_copies_may_be_alone():
    """What the argument is for."""
    labels, images = map(list, zip(*COPIED, strict=True))
    blocks = [
        block
        for epoch in range(20)
        for batch in batches_of(labels, 3, 2, coverage="images", epoch=epoch)
        for block in blocks_of(batch, 2)
    ]
    assert any(images[first] == images[second] for first, second in blocks)


def test_copies_count_in_the_length_of_an_epoch_and_take_turns():
    labels, images = map(list, zip(*COPIED, strict=True))
    sampler = PKSampler(labels, 2, 3, coverage="images", images=images)
    assert len(sampler) == 4  # the twelve rows of identity 0, in parts of three

    shown = Counter()
    for epoch in range(4):
        sampler.set_epoch(epoch)
        shown.update(row for batch in sampler for row in batch if labels[row] == 0)
    assert set(shown) == set(range(12))


def test_images_that_all_differ_change_nothing():
    plain = batches_of(SKEWED_LABELS, 4, 3, coverage="images")
    images = list(range(len(SKEWED_LABELS)))
    assert batches_of(SKEWED_LABELS, 4, 3, coverage="images", images=images) == plain


def test_a_single_image_is_warned_of():
    with pytest.warns(UserWarning, match="PKSampler: 1 of 2 identities have a single image"):
        PKSampler([0, 0, 1, 1], 2, 2, images=[5, 5, 6, 7])

    assert len(PKSampler([0, 0, 1, 1], 2, 1, images=[5, 5, 6, 7])) == 1  # needs no positives


# Name: the sampler that loads the state of PKSampler(LABELS, 2, 2, seed=1).
LABELS = [row // 4 for row in range(24)]
OTHERS = {
    "num_identities": lambda: PKSampler(LABELS, 3, 2, seed=1),
    "num_instances": lambda: PKSampler(LABELS, 2, 4, seed=1),
    "seed": lambda: PKSampler(LABELS, 2, 2, seed=2),
    "coverage": lambda: PKSampler(LABELS, 2, 2, seed=1, coverage="images"),
    "if_too_few": lambda: PKSampler(LABELS, 2, 2, seed=1, if_too_few="drop"),
    "world_size": lambda: PKSampler(LABELS, 2, 2, seed=1, world_size=2),
    "data": lambda: PKSampler(LABELS[::-1], 2, 2, seed=1),
    "data, fewer": lambda: PKSampler(LABELS[:-1], 2, 2, seed=1),
    "data, renamed": lambda: PKSampler([label + 1 for label in LABELS], 2, 2, seed=1),
    "data, cameras": lambda: PKSampler(LABELS, 2, 2, seed=1, cameras=[0] * 24),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_state_of_another_sampler_is_refused(name):
    state = PKSampler(LABELS, 2, 2, seed=1).state_dict()
    expected = rf"PKSampler.load_state_dict: the state is of a sampler with {name.split(',')[0]}="
    with pytest.raises(ValueError, match=expected):
        OTHERS[name]().load_state_dict(state)


def test_a_state_goes_to_any_rank_and_one_of_version_0_1_is_loaded():
    state = PKSampler(LABELS, 2, 2, seed=1, world_size=2).state_dict()
    PKSampler(LABELS, 2, 2, seed=1, world_size=2, rank=1).load_state_dict(state)

    sampler = PKSampler(LABELS, 2, 2, seed=1)
    sampler.load_state_dict({"epoch": 4, "batches": 1})
    assert sampler.epoch == 4
    assert len(list(sampler)) == len(sampler) - 1

    with pytest.raises(ValueError, match="expected a state with epoch, batches, got epoch"):
        sampler.load_state_dict({"epoch": 4})


LAYOUTS = {
    "sparse": lambda rows: rows.to_sparse(),
    "nested": lambda rows: torch.nested.nested_tensor([rows[:1], rows[1:]], layout=torch.jagged),
    "meta": lambda rows: rows.to("meta"),
}


@pytest.mark.unhooked
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sampler", [PKSampler, HardIdentitySampler])
def test_labels_that_are_not_dense_are_errors(sampler, layout):
    labels = torch.tensor(LABELS)
    wrong = LAYOUTS[layout](labels)
    owner = sampler.__name__

    with pytest.raises(ValueError, match=f"{owner}: expected labels as a dense tensor, got"):
        sampler(wrong, 2, 2)
    with pytest.raises(ValueError, match=f"{owner}: expected cameras as a dense tensor, got"):
        sampler(labels, 2, 2, cameras=wrong)

    if sampler is HardIdentitySampler:
        rows = torch.randn(24, 3)
        update = sampler(labels, 2, 2).update
        with pytest.raises(ValueError, match="expected embeddings as a dense tensor, got"):
            update(LAYOUTS[layout](rows), labels)
        with pytest.raises(ValueError, match="expected labels as a dense tensor, got"):
            update(rows, wrong)


def test_a_loader_that_accelerate_prepared():
    """It sets the sampler's epoch itself, so the epoch is set through the loader."""
    accelerate = pytest.importorskip("accelerate")
    sampler = PKSampler(LABELS, 2, 2, seed=1)
    loader = torch.utils.data.DataLoader(range(24), batch_sampler=sampler)
    loader = accelerate.Accelerator(cpu=True).prepare(loader)
    expected = PKSampler(LABELS, 2, 2, seed=1)

    for epoch in (0, 1, 5):
        loader.set_epoch(epoch)
        expected.set_epoch(epoch)
        assert [batch.tolist() for batch in loader] == list(expected)

    loader.set_epoch(7)
    rest = accelerate.skip_first_batches(loader, 2)
    rest.set_epoch(7)
    expected.set_epoch(7, start_batch=2)
    assert [batch.tolist() for batch in rest] == list(expected)
