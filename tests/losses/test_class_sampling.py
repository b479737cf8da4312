import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.losses import (
    ArcFaceLoss,
    ClassSampler,
    CosFaceLoss,
    arcface_loss,
    class_rows,
    cosface_logits,
    sample_classes,
)

DIM, IDENTITIES = 6, 40


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(rows=8, seed=1, dtype=torch.float32):
    labels = torch.randint(IDENTITIES, (rows,), generator=rng(seed))
    return torch.randn(rows, DIM, generator=rng(seed), dtype=dtype), labels


def test_a_sample_of_all_identities_changes_nothing():
    labels = torch.tensor([3, 0, 3])
    classes, renamed = sample_classes(labels, 4, 4, generator=rng())
    assert classes.tolist() == [0, 1, 2, 3]
    assert renamed.tolist() == [3, 0, 3]


@given(
    st.lists(st.integers(0, IDENTITIES - 1), max_size=12),
    st.integers(12, IDENTITIES),
    st.integers(0, 99),
)
def test_the_sample_contains_the_batch_and_the_labels_point_to_it(labels, num_sampled, seed):
    labels = torch.tensor(labels, dtype=torch.long)
    classes, renamed = sample_classes(labels, IDENTITIES, num_sampled, generator=rng(seed))

    assert classes.shape == (num_sampled,)
    assert (classes.diff() > 0).all()
    assert classes.min() >= 0
    assert classes.max() < IDENTITIES
    assert torch.equal(classes[renamed], labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_integer_labels_of_any_width(dtype):
    labels = torch.tensor([7, 7, 2])
    want = sample_classes(labels, 10, 5, generator=rng())
    got = sample_classes(labels.to(dtype), 10, 5, generator=rng())

    assert torch.equal(got.classes, want.classes)
    assert torch.equal(got.labels, want.labels)


def test_the_random_identities_are_drawn_uniformly():
    counts = torch.zeros(10)

    for seed in range(2000):
        counts[sample_classes(torch.tensor([4, 4]), 10, 4, generator=rng(seed)).classes] += 1

    assert counts[4] == 2000

    others = counts[torch.arange(10) != 4]

    # 3 of 9 at each of 2000 steps: mean 667, standard deviation 21
    assert others.sum() == 6000
    assert (others - 2000 / 3).abs().max() < 85


def test_depends_on_seed_step_and_labels_only():
    labels = torch.tensor([1, 5])
    torch.manual_seed(0)
    first = ClassSampler(IDENTITIES, 10, seed=3)
    a = [first(labels).classes for _ in range(3)]
    state = torch.random.get_rng_state()
    torch.manual_seed(99)
    second = ClassSampler(IDENTITIES, 10, seed=3)
    b = [second(labels).classes for _ in range(3)]

    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a[0], a[1])
    assert not torch.equal(a[0], ClassSampler(IDENTITIES, 10, seed=4)(labels).classes)

    torch.manual_seed(0)

    assert torch.equal(state, torch.random.get_rng_state())


def test_a_resumed_sampler_continues():
    labels = torch.tensor([1, 5])
    whole = ClassSampler(IDENTITIES, 10)

    for _ in range(4):
        whole(labels)

    resumed = ClassSampler(IDENTITIES, 10)
    resumed.load_state_dict(whole.state_dict())

    assert resumed.step == 4

    want = copy.deepcopy(whole)(labels).classes

    assert torch.equal(resumed(labels).classes, want)
    assert torch.equal(pickle.loads(pickle.dumps(whole))(labels).classes, want)
    assert all(isinstance(value, torch.Tensor) for value in whole.state_dict().values())


def test_class_rows_with_several_centers():
    weight = torch.arange(12.0)[:, None].repeat(1, 2)
    got = class_rows(weight, torch.tensor([0, 3]), num_centers=3)
    assert got[:, 0].tolist() == [0, 1, 2, 9, 10, 11]


@pytest.mark.parametrize("num_centers", [1, 3])
def test_loss_over_a_sample_is_the_loss_over_its_columns(num_centers):
    loss = ArcFaceLoss(DIM, IDENTITIES, num_centers=num_centers, num_sampled=12, seed=5).double()
    rows, labels = batch(dtype=torch.float64)
    rows.requires_grad_()
    classes, renamed = ClassSampler(IDENTITIES, 12, seed=5)(labels)

    # the logits of all identities, with those that were not drawn masked away
    masked = torch.full((IDENTITIES,), -math.inf, dtype=torch.float64).index_fill(0, classes, 0.0)
    want = F.cross_entropy(loss.head(rows, labels) + masked, labels)
    got = loss(rows, labels)
    leaves = [rows, loss.head.weight]

    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, leaves), torch.autograd.grad(want, leaves))
    assert torch.equal(classes[renamed], labels)


@given(st.integers(0, 1000), st.integers(8, IDENTITIES))
def test_fewer_identities_never_cost_more(seed, num_sampled):
    rows, labels = batch(seed=seed)
    weight = torch.randn(IDENTITIES, DIM, generator=rng(seed + 1))
    sample = sample_classes(labels, IDENTITIES, num_sampled, generator=rng(seed))
    some = arcface_loss(rows, sample.labels, class_rows(weight, sample.classes))

    assert some <= arcface_loss(rows, labels, weight) + 1e-5


def test_any_head_accepts_a_sample():
    rows, labels = batch()
    weight = torch.randn(IDENTITIES, DIM, generator=rng())
    sample = sample_classes(labels, IDENTITIES, 12, generator=rng())
    got = cosface_logits(rows, sample.labels, class_rows(weight, sample.classes))

    torch.testing.assert_close(got, cosface_logits(rows, labels, weight)[:, sample.classes])


@pytest.mark.parametrize("kind", [ArcFaceLoss, CosFaceLoss])
def test_eval_mode_uses_all_identities_and_counts_no_step(kind):
    loss = kind(DIM, IDENTITIES, num_sampled=12)
    rows, labels = batch()
    loss(rows, labels)

    assert loss.sampler.step == 1

    loss.eval()
    want = F.cross_entropy(loss.head(rows, labels), labels)

    assert loss(rows, labels).item() == pytest.approx(want.item(), rel=1e-5)
    assert loss.sampler.step == 1
    assert "num_sampled=12" in repr(loss)


@pytest.mark.parametrize("kind", [ArcFaceLoss, CosFaceLoss])
def test_sparse_gradient_is_the_dense_one(kind):
    dense, sparse = (kind(DIM, IDENTITIES, num_sampled=12, sparse_grad=s) for s in (False, True))
    sparse.load_state_dict(dense.state_dict())
    rows, labels = batch()

    for loss in (dense, sparse):
        loss(rows, labels).backward()

    gradient = sparse.head.weight.grad

    assert gradient.is_sparse
    assert gradient.coalesce().values().shape == (12, DIM)
    assert torch.equal(gradient.to_dense(), dense.head.weight.grad)


def test_a_sparse_gradient_trains():
    loss = ArcFaceLoss(DIM, IDENTITIES, num_sampled=12, sparse_grad=True)
    rows, labels = batch()
    optimizer = torch.optim.SparseAdam(loss.parameters(), lr=0.1)
    before = loss.eval()(rows, labels).item()

    for _ in range(20):
        optimizer.zero_grad()
        loss.train()(rows, labels).backward()
        optimizer.step()

    assert loss.eval()(rows, labels).item() < 0.5 * before


@pytest.mark.parametrize("kind", [ArcFaceLoss, CosFaceLoss])
def test_degenerate_batches(kind):
    loss = kind(DIM, IDENTITIES, num_sampled=5)

    for rows, labels in (
        (torch.zeros(0, DIM), []),
        (torch.zeros(2, DIM), [1, 1]),
        (1e4 * torch.ones(3, DIM), [0] * 3),
    ):
        leaf = rows.requires_grad_()
        value = loss(leaf, torch.tensor(labels, dtype=torch.long))
        value.backward()

        assert value.isfinite()
        assert leaf.grad.isfinite().all()

    assert loss(torch.zeros(0, DIM), torch.zeros(0, dtype=torch.long)).item() == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ClassSampler(10, 11),
            "ClassSampler: expected num_sampled <= 10, the number of identities, got 11",
        ),
        (lambda: ClassSampler(0, 1), "num_identities as a whole number >= 1"),
        (lambda: ClassSampler(10, 0), "num_sampled as a whole number >= 1"),
        (lambda: ClassSampler(10, 5, seed=-1), "seed as a whole number >= 0"),
        (
            lambda: ClassSampler(10, 2)(torch.tensor([0, 0, 1])),
            "num_sampled=2 is below the 3 rows of the batch, whose identities all take part",
        ),
        (
            lambda: class_rows(torch.zeros(5, 2), torch.tensor([0]), num_centers=2),
            "2 .* each identity, got 5 rows",
        ),
        (
            lambda: class_rows(torch.zeros(5, 2), torch.tensor([0]), num_centers=0),
            "num_centers as a whole number",
        ),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.unhooked
def test_wrong_labels():
    with pytest.raises(ValueError, match="sample_classes: expected labels as 2 integers"):
        sample_classes(torch.zeros(2), 10, 5, generator=rng())
    with pytest.raises(ValueError, match="class_rows: expected weight as a floating-point matrix"):
        class_rows(torch.zeros(5), torch.tensor([0]))
