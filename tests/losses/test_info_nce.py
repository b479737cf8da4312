import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracles import losses as oracle

from clipreid_kit.losses import InfoNCELoss, info_nce_loss, supcon_loss


@given(st.integers(1, 8), st.integers(0, 10_000), st.sampled_from([0.07, 1.0]))
def test_equals_the_paper(rows, seed, temperature):
    rng = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(rows, 4, generator=rng), torch.randn(rows, 4, generator=rng)
    got = info_nce_loss(images, texts, temperature=temperature).item()

    assert got == pytest.approx(
        oracle.info_nce(images.tolist(), texts.tolist(), temperature), rel=1e-4, abs=1e-5
    )
    assert info_nce_loss(texts, images, temperature=temperature).item() == pytest.approx(
        got, rel=1e-5, abs=1e-6
    )


SOFTER = [
    {"label_smoothing": 0.1},
    {"label_smoothing": 0.7},
    {"focal_gamma": 2.0, "focal_alpha": 0.25},
]
SOFTER += [{"focal_gamma": 0.5}, {"focal_alpha": 3.0}]


def two(rows, seed=0, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, 4, generator=rng).to(dtype).requires_grad_() for _ in range(2)]


@pytest.mark.parametrize("options", SOFTER, ids=str)
@given(
    rows=st.integers(1, 8), seed=st.integers(0, 10_000), block_size=st.sampled_from([None, 1, 3])
)
def test_smoothing_and_focal_weights_equal_their_papers(options, rows, seed, block_size):
    images, texts = two(rows, seed)
    got = info_nce_loss(images, texts, temperature=0.3, block_size=block_size, **options).item()
    keys = {"label_smoothing": "smoothing", "focal_gamma": "gamma", "focal_alpha": "alpha"}
    wanted = {keys[key]: value for key, value in options.items()}

    assert got == pytest.approx(
        oracle.info_nce(images.tolist(), texts.tolist(), 0.3, **wanted), rel=1e-4, abs=1e-5
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_smoothing_equals_that_of_torch_with_its_gradient(smoothing):
    images, texts = two(9)
    scale = torch.tensor(5.0, requires_grad=True)
    inputs = [images, texts, scale]
    got = info_nce_loss(
        images, texts, temperature=1 / scale, label_smoothing=smoothing, block_size=4
    )
    logits = scale * F.normalize(images) @ F.normalize(texts).T
    sides = [
        F.cross_entropy(side, torch.arange(9), label_smoothing=smoothing)
        for side in (logits, logits.T)
    ]

    torch.testing.assert_close(got, sum(sides) / 2)
    torch.testing.assert_close(
        torch.autograd.grad(got, inputs), torch.autograd.grad(sum(sides) / 2, inputs)
    )


@pytest.mark.parametrize("options", SOFTER, ids=str)
@pytest.mark.parametrize("block_size", [None, 2])
def test_the_gradient_with_smoothing_and_focal_weights(options, block_size):
    images, texts = two(5, dtype=torch.float64)
    scale = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(
        lambda i, t, s: info_nce_loss(i, t, temperature=1 / s, block_size=block_size, **options),
        (images, texts, scale),
    )


def test_focal_weights_ignore_pairs_that_are_right():
    right = torch.eye(2, requires_grad=True)

    for gamma in (
        0.5,
        1.0,
        2.0,
    ):  # at a temperature where 1 - p is 0 in float32: neither NaN nor a slope
        value = info_nce_loss(right, torch.eye(2), temperature=0.005, focal_gamma=gamma)
        value.backward()
        assert value.item() == 0

    assert torch.equal(right.grad, torch.zeros(2, 2))

    wrong = torch.eye(2).flip(0)  # p = 1 / (1 + e^10): the weight is 1
    plain, focal = (
        info_nce_loss(torch.eye(2), wrong, temperature=0.1, focal_gamma=g).item()
        for g in (0.0, 2.0)
    )

    assert focal == pytest.approx(plain, rel=1e-3)


@given(st.permutations(range(6)), st.sampled_from(SOFTER))
def test_order_and_length_of_rows_change_nothing(order, options):
    images, texts = two(6)
    value = info_nce_loss(images, texts, **options).item()
    moved = info_nce_loss(3 * images[order], 0.2 * texts[order], **options).item()
    assert moved == pytest.approx(value, rel=1e-4)


def test_equals_both_directions_of_supcon_where_identities_differ():
    images, texts, labels = torch.randn(6, 4), torch.randn(6, 4), torch.arange(6)
    both = supcon_loss(images, labels, texts, labels) + supcon_loss(texts, labels, images, labels)
    assert info_nce_loss(images, texts).item() == pytest.approx(both.item() / 2, rel=1e-5)


def test_learned_temperature_moves_and_stays_in_bounds():
    loss = InfoNCELoss(0.5, learnable=True, max_scale=20.0)
    optimizer = torch.optim.SGD(loss.parameters(), lr=5.0)
    images = torch.eye(4)

    for _ in range(40):  # perfect pairs ask for an ever colder temperature
        optimizer.zero_grad()
        loss(images, images).backward()
        optimizer.step()

    loss(images, images)

    assert loss.temperature == pytest.approx(1 / 20, rel=1e-5)

    optimizer.zero_grad()

    # Wrong pairs ask for a warmer one: the bound does not hold it back.
    loss(images, images.flip(0)).backward()
    optimizer.step()

    assert loss.temperature > 1 / 20


def test_fixed_temperature_has_no_parameters():
    assert list(InfoNCELoss().parameters()) == []
    assert InfoNCELoss(0.2).temperature == 0.2


def test_single_row_is_zero():
    assert info_nce_loss(torch.randn(1, 4), torch.randn(1, 4)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(ValueError, match="as many texts as images, got 3 images and 2 texts"):
        info_nce_loss(torch.zeros(3, 4), torch.zeros(2, 4))

    with pytest.raises(ValueError, match="of one width"):
        info_nce_loss(torch.zeros(3, 4), torch.zeros(3, 5))

    with pytest.raises(ValueError, match="temperature > 0, got 0"):
        info_nce_loss(torch.zeros(3, 4), torch.zeros(3, 4), temperature=0)

    with pytest.raises(ValueError, match=r"temperature >= 1 / max_scale = 0.01"):
        InfoNCELoss(0.001, learnable=True)

    for owner in (
        InfoNCELoss,
        lambda **options: info_nce_loss(torch.eye(2), torch.eye(2), **options),
    ):
        with pytest.raises(ValueError, match=r"label_smoothing in \[0, 1\), got 1"):
            owner(label_smoothing=1.0)

        with pytest.raises(ValueError, match=r"focal_gamma >= 0, got -1"):
            owner(focal_gamma=-1.0)

        with pytest.raises(ValueError, match=r"focal_alpha > 0, got 0"):
            owner(focal_alpha=0.0)

        with pytest.raises(
            ValueError, match=r"label_smoothing=0.1 cannot be combined with focal_gamma=2.0"
        ):
            owner(label_smoothing=0.1, focal_gamma=2.0)

    with pytest.raises(ValueError, match="max_scale > 0"):
        InfoNCELoss(max_scale=-math.inf)
