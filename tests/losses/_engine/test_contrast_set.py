import torch

from clipreid_kit.losses._engine.contrast_set import (
    connected_zero,
    distances_of_pairs,
    masks_of_pairs,
)


def test_an_anchor_is_no_pair_of_itself():
    positive, negative = masks_of_pairs(torch.tensor([0, 0, 1]), None)

    assert positive.int().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert negative.int().tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]


def test_every_contrast_row_is_a_pair():
    positive, negative = masks_of_pairs(torch.tensor([0, 1]), torch.tensor([0, 1, 1]))

    assert positive.int().tolist() == [[1, 0, 0], [0, 1, 1]]
    assert torch.equal(negative, ~positive)


def test_the_connected_zero_reaches_both_inputs():
    first = torch.ones(2, 3, requires_grad=True)
    second = torch.ones(0, 3, requires_grad=True)

    zero = connected_zero(first, second)
    zero.backward()

    assert zero.item() == 0
    assert torch.equal(first.grad, torch.zeros(2, 3))
    assert second.grad is not None


def test_distances_of_pairs():
    rows = torch.tensor([[3.0, 0.0], [0.0, 4.0]])

    euclidean = distances_of_pairs(rows, None, "euclidean")
    cosine = distances_of_pairs(rows, torch.tensor([[1.0, 0.0]]), "cosine")

    torch.testing.assert_close(euclidean, torch.tensor([[0.0, 5.0], [5.0, 0.0]]))
    torch.testing.assert_close(cosine, torch.tensor([[0.0], [1.0]]))
