import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import memory as oracle
from strategies import labelled_rows

from clipreid_kit.losses import CrossBatchMemory, EmbeddingQueue, SupConLoss


@given(st.lists(st.integers(0, 5), max_size=6), st.integers(1, 7))
def test_queue_keeps_the_last_rows_in_order(sizes, size):
    queue, everything = EmbeddingQueue(1, size), []

    for count in sizes:
        labels = torch.arange(len(everything), len(everything) + count)
        everything += labels.tolist()
        queue.enqueue(labels[:, None].float(), labels)

        assert queue.labels().tolist() == everything[-size:]
        assert queue.rows().flatten().tolist() == everything[-size:]
        assert queue.num_rows == min(size, len(everything))

    state = queue.state_dict()
    restored = EmbeddingQueue(1, size)
    restored.load_state_dict(state)

    assert restored.labels().tolist() == everything[-size:]

    queue.reset()

    assert queue.rows().shape == (0, 1)
    assert restored.num_rows == min(size, len(everything))


def test_returned_rows_do_not_change_later():
    queue = EmbeddingQueue(2, 2)
    queue.enqueue(torch.eye(2, requires_grad=True), torch.tensor([0, 1]))
    rows, before = queue.rows(), queue.rows().clone()

    assert not rows.requires_grad

    source = torch.ones(2, 2)
    queue.enqueue(source, torch.tensor([2, 3]))
    source.zero_()

    assert torch.equal(rows, before)
    assert (queue.rows() == 1).all()


@given(
    st.lists(labelled_rows(max_rows=6), min_size=1, max_size=5),
    st.integers(1, 9),
    st.sampled_from([0.0, 1.0, 0.5]),
    st.integers(0, 2),
)
def test_equals_the_paper_over_several_batches(batches, size, weight, warmup_steps):
    loss = CrossBatchMemory(SupConLoss(0.2), 5, size, weight=weight, warmup_steps=warmup_steps)
    lists = [(rows.tolist(), labels.tolist()) for rows, labels in batches]
    want = oracle.cross_batch_supcon(lists, size, weight, 0.2, warmup_steps)
    got = [loss(rows, labels).item() for rows, labels in batches]

    assert got == pytest.approx(want, rel=1e-4, abs=1e-5)


def test_a_row_does_not_meet_itself_and_the_graph_survives_storing():
    rows, labels = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 1, 2, 3])
    loss = CrossBatchMemory(SupConLoss(), 3, 8)

    assert loss(rows, labels).item() == 0  # no positive: not even the row's own copy

    def raw(
        embeddings, labels, contrast=None, contrast_labels=None
    ):  # keeps the memory itself for the backward pass
        return (
            (embeddings @ (embeddings if contrast is None else contrast).T).logsumexp(dim=1).mean()
        )

    loss = CrossBatchMemory(Raw(raw), 3, 4)
    loss(rows, labels)
    memory = loss.queue.rows().clone()
    value = loss(2 * rows, labels)  # stores 2 * rows over the rows that the graph holds
    (got,) = torch.autograd.grad(value, rows)
    want = raw(2 * rows, labels) + raw(2 * rows, labels, memory)

    torch.testing.assert_close(got, torch.autograd.grad(want, rows)[0])


class Raw(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


def test_evaluation_stores_nothing():
    loss = CrossBatchMemory(SupConLoss(), 3, 8).eval()
    loss(torch.randn(4, 3), torch.arange(4))
    assert loss.queue.num_rows == 0
    assert loss.num_steps == 0


def test_a_resumed_memory_continues():
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(4, 3, generator=generator), torch.tensor([0, 0, 1, 1])) for _ in range(5)
    ]
    loss = CrossBatchMemory(SupConLoss(), 3, 6, warmup_steps=2)

    for batch in batches[:3]:
        loss(*batch)

    restored = CrossBatchMemory(SupConLoss(), 3, 6, warmup_steps=2)
    restored.load_state_dict(copy.deepcopy(loss.state_dict()))

    assert restored.num_steps == 3
    assert [restored(*b).item() for b in batches[3:]] == [loss(*b).item() for b in batches[3:]]


def test_wrong_arguments():
    with pytest.raises(
        ValueError,
        match=r"gathers rows by itself.*Set distributed=True on CrossBatchMemory instead",
    ):
        CrossBatchMemory(SupConLoss(distributed=True), 3, 8)

    with pytest.raises(ValueError, match="weight >= 0"):
        CrossBatchMemory(SupConLoss(), 3, 8, weight=-1.0)

    with pytest.raises(ValueError, match="size as a whole number >= 1, got 0"):
        CrossBatchMemory(SupConLoss(), 3, 0)

    with pytest.raises(ValueError, match="warmup_steps as a whole number >= 0"):
        CrossBatchMemory(SupConLoss(), 3, 8, warmup_steps=-1)


@pytest.mark.unhooked
def test_wrong_shapes():
    queue = EmbeddingQueue(3, 4)

    with pytest.raises(ValueError, match=r"embeddings of width 3 on cpu, got shape \(2, 2\)"):
        queue.enqueue(torch.eye(2), torch.tensor([0, 1]))

    with pytest.raises(ValueError, match="labels as 2 integers"):
        queue.enqueue(torch.zeros(2, 3), torch.tensor([0]))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_does_no_lasting_harm(broken):
    loss = CrossBatchMemory(SupConLoss(), dim=4, size=8)
    rows, labels = torch.randn(4, 4), torch.tensor([0, 0, 1, 1])
    with_broken_row = rows.clone()
    with_broken_row[2, 1] = broken

    assert loss(with_broken_row, labels).isnan()
    assert loss.queue.labels().tolist() == [0, 0, 1]
    assert torch.equal(loss.queue.rows(), rows[[0, 1, 3]])
    assert loss(rows, labels).isfinite()

    loss.queue.reset()
    loss.queue.enqueue(torch.full((2, 4), broken), torch.tensor([5, 5]))
    assert loss.queue.num_rows == 0
