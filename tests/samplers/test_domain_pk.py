import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.samplers import DomainPKSampler

# three domains of 12, 5 and 4 identities, interleaved, with 2 to 5 images each
SIZES = {10: 12, 20: 5, 30: 4}
IDENTITIES = [(domain, domain * 100 + number) for domain, n in SIZES.items() for number in range(n)]
ROWS = [row for copy in range(5) for row in IDENTITIES if copy < 2 + row[1] % 4]
DOMAINS = [domain for domain, _ in ROWS]
LABELS = [label for _, label in ROWS]


def sampler_of(num_identities=6, num_instances=2, **options):
    return DomainPKSampler(LABELS, DOMAINS, num_identities, num_instances, **options)


def batches(sampler, epoch=0, start=0):
    sampler.set_epoch(epoch, start_batch=start)
    return list(sampler)


def identities(batch, num_instances=2):
    blocks = [batch[i : i + num_instances] for i in range(0, len(batch), num_instances)]
    labels = [{LABELS[row] for row in block} for block in blocks]
    assert all(len(block) == 1 for block in labels)
    return [block.pop() for block in labels]


@given(st.integers(3, 9), st.sampled_from(["identities", "images"]), st.integers(0, 3))
def test_every_batch_has_the_share_of_each_domain(num_identities, coverage, epoch):
    sampler = sampler_of(num_identities, coverage=coverage)
    found = batches(sampler, epoch)
    assert len(found) == len(sampler)
    for batch in found:
        chosen = identities(batch)
        assert len(set(chosen)) == num_identities
        counts = [sum(label // 100 == domain for label in chosen) for domain in SIZES]
        assert counts == sampler.identities_of_domain
        assert max(counts) - min(counts) <= 1

    seen = {row for batch in found for row in batch}
    assert {LABELS[row] for row in seen} == set(LABELS)
    if coverage == "images":
        assert seen == set(range(len(ROWS)))


@pytest.mark.parametrize(
    ("num_identities", "shares", "expected"),
    [
        (6, None, [2, 2, 2]),
        (7, None, [3, 2, 2]),
        (8, (2, 1, 1), [4, 2, 2]),
        (6, (100, 1, 1), [4, 1, 1]),
        (3, (5, 3, 1), [1, 1, 1]),
    ],
)
def test_identities_are_dealt_by_the_shares(num_identities, shares, expected):
    assert sampler_of(num_identities, shares=shares).identities_of_domain == expected


def test_seed_and_epoch_decide_and_any_batch_resumes():
    first = batches(sampler_of(seed=3, coverage="images"), epoch=2)
    assert first == batches(sampler_of(seed=3, coverage="images"), epoch=2)
    assert first != batches(sampler_of(seed=4, coverage="images"), epoch=2)
    assert first != batches(sampler_of(seed=3, coverage="images"), epoch=3)

    for start in range(len(first) + 1):
        assert batches(sampler_of(seed=3, coverage="images"), 2, start) == first[start:]

    sampler = sampler_of(seed=3, coverage="images")
    sampler.set_epoch(2)
    iterator = iter(sampler)
    used = [next(iterator) for _ in range(3)]
    other = sampler_of(seed=3, coverage="images")
    other.load_state_dict(sampler.state_dict())
    assert used + list(other) == first
    with pytest.raises(ValueError, match="seed=3"):
        sampler_of(seed=5, coverage="images").load_state_dict(sampler.state_dict())


def test_a_small_domain_goes_on_with_new_batches():
    """Its epochs are those of its own sampler, each once."""
    found = [batch for epoch in range(2) for batch in batches(sampler_of(), epoch)]
    small = [frozenset(x for x in identities(batch) if x // 100 == 30) for batch in found]
    assert len(found) > 4
    for begin in range(0, len(small) - 1, 2):  # two batches of two cover its four identities
        assert len(small[begin] | small[begin + 1]) == 4


def test_ranks_share_out_the_identities_of_a_step():
    ranks = [batches(sampler_of(rank=rank, world_size=2), epoch=1) for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1])
    for step in zip(*ranks, strict=True):
        chosen = [label for batch in step for label in identities(batch)]
        assert len(chosen) == len(set(chosen)) == 12


def test_cameras_and_images_belong_to_their_rows():
    images = np.arange(len(ROWS))
    cameras = images % 3
    sampler = sampler_of(cameras=cameras, images=images)
    for batch in batches(sampler):
        identities(batch)
    with pytest.raises(ValueError, match=f"{len(ROWS)} cameras, one for each label, got 2"):
        sampler_of(cameras=[0, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_identities": 2},
            "num_identities is 2, and each of the 3 domains needs one identity",
        ),
        ({"shares": (1, 1)}, "3 shares, one for each domain, got 2"),
        ({"shares": (1, 0, 1)}, "each share > 0, got 0"),
        ({"num_identities": 16}, "a step needs num_identities x world_size = 5 .* there are 4"),
    ],
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        sampler_of(**options)


def test_an_identity_of_two_domains_is_refused():
    with pytest.raises(ValueError, match="1 identities are in several domains, the first 7"):
        DomainPKSampler([7, 7, 8, 8], [0, 1, 0, 0], 2, 2)
    with pytest.raises(ValueError, match="2 domains, one for each label, got 1"):
        DomainPKSampler([7, 7], [0], 2, 2)
