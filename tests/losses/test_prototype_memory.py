import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import memory as oracle
from strategies import labelled_rows

from clipreid_kit.losses import PrototypeMemoryLoss, image_to_text_ce_loss

UPDATES = ["hardest", "mean", "each"]


def test_hand_computed_loss():
    loss = PrototypeMemoryLoss(2, 3, temperature=1.0).eval()
    loss.initialize(torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 2]))

    assert loss.prototypes.tolist() == [[1, 0], [0, 0], [0, 1]]

    # row 0 is at its prototype, row 1 of identity 2 between both, the identity of row 2 is not
    # known
    rows = torch.tensor([[1.0, 0.0], [1.0, 1.0], [5.0, 0.0]])
    first, second = math.log(1 + math.e) - 1, math.log(2)

    assert loss(rows, torch.tensor([0, 2, 1])).item() == pytest.approx((first + second) / 2)


@pytest.mark.parametrize(
    ("update", "direction"),
    [
        ("hardest", (0.5, 0.5)),  # half of (1, 0), half of the row at (0, 1)
        ("mean", (0.5 + 0.25, 0.25)),
        (
            "each",
            (0.25 + 0.25, 0.5),
        ),  # (0, 1) comes last: half; (1, 0) before it: a quarter; a quarter is left
    ],
)
def test_hand_computed_update(update, direction):
    loss = PrototypeMemoryLoss(2, 2, momentum=0.5, update=update)
    loss.initialize(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    loss(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 1]))
    want = torch.nn.functional.normalize(torch.tensor([direction]), dim=1)

    torch.testing.assert_close(loss.prototypes[1:], want)
    assert loss.filled.tolist() == [False, True]


@given(
    st.lists(labelled_rows(max_rows=7), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.2, 0.9]),
    st.sampled_from(UPDATES),
    st.booleans(),
)
def test_equals_the_paper_over_several_batches(batches, momentum, update, initialized):
    loss = PrototypeMemoryLoss(5, 5, temperature=0.2, momentum=momentum, update=update)
    slow = oracle.PrototypeMemory(5, 0.2, momentum, update)
    rng = torch.Generator().manual_seed(len(batches))

    if initialized:
        rows, labels = torch.randn(5, 5, generator=rng), torch.tensor([0, 0, 1, 3, 3])
        loss.initialize(rows, labels)
        slow.initialize(rows.tolist(), labels.tolist())

    for batch, labels in batches:
        # No ties: two rows are equally near to their mean.
        rows = batch + 0.1 * torch.randn(1, 5, generator=rng)
        want = slow.loss(rows.tolist(), labels.tolist())
        slow.move(rows.tolist(), labels.tolist())

        assert loss(rows, labels).item() == pytest.approx(want, rel=1e-4, abs=1e-5)
        for prototype, filled, expected in zip(
            loss.prototypes, loss.filled, slow.prototypes, strict=True
        ):
            assert filled.item() == (expected is not None)

            if expected is not None:
                torch.testing.assert_close(prototype, torch.tensor(expected), atol=1e-4, rtol=1e-4)
            else:
                assert (prototype == 0).all()


def test_normalising_after_every_row_is_close():
    # the papers' code normalises after every row of a batch: four rows of an identity, near its
    # prototype
    rng = torch.Generator().manual_seed(0)
    centre = torch.randn(1, 64, generator=rng)
    rows = centre + 0.8 * torch.randn(4, 64, generator=rng)

    for momentum in (0.2, 0.9):
        loss = PrototypeMemoryLoss(64, 1, momentum=momentum, update="each")
        slow = oracle.PrototypeMemory(1, 1.0, momentum, "each")
        loss.initialize(centre, torch.tensor([0]))
        slow.initialize(centre.tolist(), [0])
        loss(rows, torch.zeros(4, dtype=torch.long))
        slow.move(rows.tolist(), [0] * 4, normalise_each=True)

        assert (loss.prototypes[0] @ torch.tensor(slow.prototypes[0])).item() > 0.998


@given(labelled_rows(max_rows=8), st.sampled_from(["hardest", "mean"]))
def test_order_of_rows_does_not_matter(sample, update):
    rows, labels = sample
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(len(rows)))
    memories = []
    for chosen in (torch.arange(len(rows)), order):
        loss = PrototypeMemoryLoss(5, 4, update=update)
        loss.initialize(torch.eye(5)[:4], torch.arange(4))
        memories.append((loss(3 * rows[chosen], labels[chosen]), loss.prototypes))

    torch.testing.assert_close(memories[0], memories[1], atol=1e-5, rtol=1e-4)


def test_the_memory_has_no_graph_and_does_not_disturb_the_backward_pass():
    rows = torch.randn(6, 4, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    loss = PrototypeMemoryLoss(4, 3)
    loss.initialize(torch.randn(3, 4), torch.arange(3))
    before = loss.prototypes.clone()
    value = loss(rows, labels)

    assert not loss.prototypes.requires_grad
    assert not torch.equal(loss.prototypes, before)

    (got,) = torch.autograd.grad(value, rows)  # after the update
    fixed = image_to_text_ce_loss(rows, labels, before, temperature=0.05, label_smoothing=0.0)

    torch.testing.assert_close(value, fixed)
    torch.testing.assert_close(got, torch.autograd.grad(fixed, rows)[0])


def test_evaluation_moves_nothing():
    loss = PrototypeMemoryLoss(4, 3).eval()
    loss.initialize(torch.randn(3, 4), torch.arange(3))
    before = loss.prototypes.clone()
    loss(torch.randn(3, 4), torch.arange(3))

    assert torch.equal(loss.prototypes, before)


def test_initialize_replaces_everything():
    loss = PrototypeMemoryLoss(2, 4)
    loss.initialize(torch.eye(2), torch.tensor([0, 1]))

    # identity 2: rows of very different lengths count alike; identity 3: rows that cancel leave no
    # direction
    rows = torch.tensor([[100.0, 0.0], [0.0, 0.1], [1.0, 0.0], [-1.0, 0.0]])
    loss.initialize(rows, torch.tensor([2, 2, 3, 3]))

    assert loss.filled.tolist() == [False, False, True, False]
    torch.testing.assert_close(loss.prototypes[2], torch.tensor([0.5, 0.5]).sqrt())
    assert (loss.prototypes[[0, 1, 3]] == 0).all()


def test_initialize_for_another_number_of_clusters():
    loss = PrototypeMemoryLoss(2, 4, temperature=1.0, persistent=False).eval()
    loss.initialize(torch.eye(2), torch.tensor([0, 5]), num_identities=6)
    assert loss.prototypes.shape == (6, 2)
    assert loss.filled.tolist() == [True, False, False, False, False, True]
    assert loss(torch.eye(2), torch.tensor([0, 5])).item() == pytest.approx(
        math.log(1 + math.e) - 1
    )
    assert not loss.state_dict()

    with pytest.raises(ValueError, match=r"labels in \[0, 2\), got labels from 0 to 2"):
        loss.initialize(torch.eye(2), torch.tensor([0, 2]), num_identities=2)
    with pytest.raises(ValueError, match="num_identities as a whole number >= 1, got 0"):
        loss.initialize(torch.eye(2), torch.tensor([0, 0]), num_identities=0)


def test_an_empty_memory_returns_a_connected_zero():
    rows = torch.randn(4, 3, requires_grad=True)
    value = PrototypeMemoryLoss(3, 2)(rows, torch.tensor([0, 0, 1, 1]))
    value.backward()

    assert value.item() == 0
    assert (rows.grad == 0).all()


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_rows_that_are_not_finite_leave_the_memory_unchanged(update, bad):
    loss = PrototypeMemoryLoss(3, 2, update=update)
    loss.initialize(torch.eye(3)[:2], torch.tensor([0, 1]))
    loss(torch.tensor([[bad, 0, 0], [0, 1, 1.0]]), torch.tensor([0, 1]))

    assert loss.prototypes[0].tolist() == [1, 0, 0]
    assert loss.prototypes.isfinite().all()

    empty = PrototypeMemoryLoss(3, 1, update=update)
    empty(torch.tensor([[bad, 0, 0]]), torch.tensor([0]))

    assert not empty.filled.any()


def test_labels_out_of_range():
    loss = PrototypeMemoryLoss(2, 3)

    with pytest.raises(
        ValueError, match=r"labels in \[0, 3\), got labels from 0 to 3\. num_identities counts all"
    ):
        loss(torch.eye(2), torch.tensor([0, 3]))

    with pytest.raises(ValueError, match="labels from -1 to 1"):
        loss.initialize(torch.eye(2), torch.tensor([-1, 1]))


@pytest.mark.unhooked
def test_wrong_arguments():
    loss = PrototypeMemoryLoss(2, 3)

    with pytest.raises(ValueError, match=r"embeddings of width 2 on cpu, got shape \(2, 3\)"):
        loss(torch.zeros(2, 3), torch.tensor([0, 1]))

    with pytest.raises(ValueError, match="labels as 2 integers"):
        loss(torch.eye(2), torch.tensor([0]))

    with pytest.raises(ValueError, match="update to be one of hardest, mean, each, got 'last'"):
        PrototypeMemoryLoss(2, 3, update="last")

    with pytest.raises(ValueError, match="num_identities as a whole number >= 1, got 0"):
        PrototypeMemoryLoss(2, 0)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan])
def test_wrong_momentum(momentum):
    with pytest.raises(ValueError, match=r"momentum in \[0, 1\)"):
        PrototypeMemoryLoss(2, 3, momentum=momentum)


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("update", UPDATES)
def test_compiles_with_its_update(update):
    torch._dynamo.reset()
    rows, labels = torch.randn(6, 4, requires_grad=True), torch.tensor([0, 0, 1, 1, 2, 2])
    loss = PrototypeMemoryLoss(4, 3, update=update)
    compiled = PrototypeMemoryLoss(4, 3, update=update)

    for each in (loss, compiled):
        each.initialize(torch.eye(4)[:3], torch.arange(3))

    got = torch.compile(compiled, fullgraph=True, backend="aot_eager")(rows, labels)
    want = loss(rows, labels)

    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, rows), torch.autograd.grad(want, rows))
    torch.testing.assert_close(compiled.prototypes, loss.prototypes)
