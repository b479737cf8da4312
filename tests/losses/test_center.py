import pytest
import torch
from hypothesis import given
from oracles import metric as oracle
from strategies import labelled_rows

from clipreid_kit.losses import CenterLoss, center_loss


def test_hand_computed():
    centers = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]], requires_grad=True)
    rows = torch.tensor([[3.0, 4.0], [1.0, 2.0]], requires_grad=True)
    loss = center_loss(rows, torch.tensor([0, 1]), centers)
    loss.backward()

    assert loss.item() == pytest.approx((25 + 4) / 4)
    assert rows.grad.tolist() == [[1.5, 2.0], [0.0, 1.0]]
    assert centers.grad.tolist() == [[-1.5, -2.0], [0.0, -1.0], [0.0, 0.0]]


@given(labelled_rows(max_identities=4))
def test_equals_the_paper(sample):
    rows, labels = sample
    centers = torch.randn(4, rows.shape[1])
    want = oracle.center(rows.tolist(), labels.tolist(), centers.tolist())
    assert center_loss(rows, labels, centers).item() == pytest.approx(want, rel=1e-5)


def test_sparse_gradient_is_the_dense_one():
    dense = CenterLoss(4, 50)
    sparse = CenterLoss(4, 50, sparse_grad=True)
    sparse.load_state_dict(dense.state_dict())
    rows, labels = torch.randn(6, 4), torch.tensor([3, 3, 49, 0, 7, 3])

    for loss in (dense, sparse):
        loss(rows, labels).backward()

    assert sparse.centers.grad.is_sparse
    assert sparse.centers.grad.coalesce().indices().shape == (1, 4)
    torch.testing.assert_close(sparse.centers.grad.to_dense(), dense.centers.grad)

    torch.optim.SGD(sparse.parameters(), lr=0.5).step()
    torch.optim.SGD(dense.parameters(), lr=0.5).step()

    torch.testing.assert_close(sparse.centers, dense.centers)


def test_the_rate_of_the_strong_baselines_moves_a_center_halfway():
    loss, weight = CenterLoss(3, 2), 0.0005
    row, before = torch.randn(1, 3), loss.centers.detach().clone()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5 / weight)  # as the docstring says
    (weight * loss(row, torch.tensor([1]))).backward()
    optimizer.step()

    torch.testing.assert_close(loss.centers[1], (before[1] + row[0]) / 2)
    assert torch.equal(loss.centers[0], before[0])


def test_training_finds_the_means():
    rows, labels = torch.randn(30, 4), torch.arange(30) % 3
    loss = CenterLoss(4, 3)
    optimizer = torch.optim.SGD(loss.parameters(), lr=1.0)

    for _ in range(50):
        optimizer.zero_grad()
        loss(rows, labels).backward()
        optimizer.step()

    want = torch.stack([rows[labels == i].mean(dim=0) for i in range(3)])

    torch.testing.assert_close(loss.centers.detach(), want)


@pytest.mark.unhooked
def test_sparse_gradient_compiles():
    torch._dynamo.reset()
    loss = CenterLoss(4, 9, sparse_grad=True)
    rows = torch.randn(3, 4)
    labels = torch.tensor([8, 0, 8])
    (want,) = torch.autograd.grad(loss(rows, labels), loss.centers)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (got,) = torch.autograd.grad(compiled(rows, labels), loss.centers)

    assert got.is_sparse
    torch.testing.assert_close(got.to_dense(), want.to_dense())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_long_half_precision_rows(dtype):
    loss = CenterLoss(8, 2, std=0.0)
    rows = torch.full((2, 8), 200.0, dtype=dtype, requires_grad=True)
    value = loss(rows, torch.tensor([0, 1]))  # 160 000, beyond float16
    value.backward()

    assert value.item() == 160_000
    assert rows.grad.eq(100).all()


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_label_without_a_center(labels):
    lowest, highest = min(labels), max(labels)
    want = (
        r"center_loss: expected labels in \[0, 3\), "
        rf"got labels from {lowest} to {highest}\. Number .* from 0"
    )

    with pytest.raises(ValueError, match=want):
        CenterLoss(2, 3)(torch.zeros(2, 2), torch.tensor(labels))


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(
        ValueError, match=r"embeddings and centers of one width, got .2, 3. and .5, 2."
    ):
        CenterLoss(2, 5)(torch.zeros(2, 3), torch.zeros(2).long())

    with pytest.raises(
        ValueError, match="CenterLoss: expected num_identities as a whole number >= 1, got 0"
    ):
        CenterLoss(2, 0)

    with pytest.raises(
        ValueError, match=r"CenterLoss: expected dim as a whole number >= 1, got 2\.5"
    ):
        CenterLoss(2.5, 2)

    with pytest.raises(ValueError, match="CenterLoss: expected std >= 0, got -1"):
        CenterLoss(2, 2, std=-1.0)
