import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracles import heads as oracle
from strategies import labelled_rows

from clipreid_kit.losses import (
    ArcFaceHead,
    ArcFaceLoss,
    CosFaceLoss,
    ProxyAnchorLoss,
    arcface_logits,
    arcface_loss,
)

IDENTITIES, DIM = 4, 5
FALLBACKS = st.sampled_from(["linear", "easy"])


def weights(rows=IDENTITIES, dim=DIM, seed=0):
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def at_angle(*degrees):
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_hand_computed():
    logits = arcface_logits(
        at_angle(30.0), torch.tensor([0]), at_angle(0.0, 90.0), scale=10.0, margin=math.radians(30)
    )

    assert logits[0].tolist() == pytest.approx(
        [10 * math.cos(math.radians(60)), 10 * math.cos(math.radians(60))]
    )

    loss = arcface_loss(
        at_angle(30.0), torch.tensor([0]), at_angle(0.0, 90.0), scale=10.0, margin=math.radians(30)
    )

    assert loss.item() == pytest.approx(math.log(2))


def test_hand_computed_beyond_pi():
    rows = at_angle(160.0)
    weight = at_angle(0.0)
    label = torch.tensor([0])
    margin = math.radians(40)
    linear = arcface_logits(rows, label, weight, scale=1.0, margin=margin)

    assert linear.item() == pytest.approx(math.cos(math.radians(160)) - margin * math.sin(margin))

    easy = arcface_logits(rows, label, weight, scale=1.0, margin=margin, fallback="easy")

    assert easy.item() == pytest.approx(math.cos(math.radians(160)))

    # between 90 degrees and pi - m only "linear" turns by the margin
    rows = at_angle(100.0)

    assert arcface_logits(rows, label, weight, scale=1.0, margin=margin).item() == pytest.approx(
        math.cos(math.radians(140))
    )
    assert arcface_logits(
        rows, label, weight, scale=1.0, margin=margin, fallback="easy"
    ).item() == pytest.approx(math.cos(math.radians(100)))


@given(
    labelled_rows(),
    st.floats(0, 3),
    FALLBACKS,
    st.sampled_from([1, 3]),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_equals_the_paper(sample, margin, fallback, num_centers, smoothing):
    rows, labels = sample[0].double(), sample[1]
    weight = weights(IDENTITIES * num_centers).double()
    options = {"scale": 16.0, "margin": margin, "fallback": fallback, "num_centers": num_centers}
    want = oracle.arcface_logits(rows.tolist(), labels.tolist(), weight.tolist(), **options)
    got = arcface_logits(rows, labels, weight, **options)

    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), atol=1e-6, rtol=1e-6)

    loss = arcface_loss(rows, labels, weight, label_smoothing=smoothing, **options)

    assert loss.item() == pytest.approx(
        oracle.cross_entropy(want, labels.tolist(), smoothing), rel=1e-6, abs=1e-6
    )


@given(
    labelled_rows(),
    FALLBACKS,
    st.sampled_from([1, 3]),
    st.sampled_from([0.0, 0.1]),
    st.floats(0, 2),
)
def test_the_gradient_equals_that_of_autograd(sample, fallback, num_centers, smoothing, margin):
    rows, labels = sample[0].double().requires_grad_(), sample[1]
    weight = weights(IDENTITIES * num_centers).double().requires_grad_()
    options = {"scale": 8.0, "margin": margin, "fallback": fallback, "num_centers": num_centers}
    logits = arcface_logits(rows, labels, weight, **options)
    cross_entropies = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")
    want_loss = 3 * cross_entropies / max(len(rows), 1)
    want = torch.autograd.grad(want_loss, [rows, weight])
    got_loss = 3 * arcface_loss(rows, labels, weight, label_smoothing=smoothing, **options)
    got = torch.autograd.grad(got_loss, [rows, weight])

    torch.testing.assert_close(got_loss, want_loss)
    torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-7)


def test_the_gradient_of_the_logits_equals_finite_differences():
    rows = weights(6, seed=1).double().requires_grad_()
    weight = weights(8).double().requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 3, 0])

    for fallback in ("linear", "easy"):
        assert torch.autograd.gradcheck(
            lambda r, w, f=fallback: arcface_logits(
                r, labels, w, scale=2.0, fallback=f, num_centers=2
            ),
            (rows, weight),
        )


@pytest.mark.parametrize("fallback", ["linear", "easy"])
@pytest.mark.parametrize("margin", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_where_the_cosine_is_one(fallback, margin, dtype):
    # cosines of exactly 1, exactly -1, a rounding error beside them, and of a zero row and a zero
    # weight
    beside = torch.nextafter(torch.tensor(1.0, dtype=dtype), torch.tensor(0.0, dtype=dtype))
    rows = torch.tensor(
        [[1.0, 0.0], [-1.0, 0.0], [beside, 1e-4], [0.6, 0.8], [0.0, 0.0], [1.0, 0.0]], dtype=dtype
    )
    weight = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 0.0]], dtype=dtype)
    labels = torch.tensor([0, 0, 0, 1, 0, 2])

    for call in (
        lambda r, w: F.cross_entropy(
            arcface_logits(r, labels, w, margin=margin, fallback=fallback), labels
        ),
        lambda r, w: arcface_loss(r, labels, w, margin=margin, fallback=fallback),
    ):
        leaves = rows.clone().requires_grad_(), weight.clone().requires_grad_()
        gradients = torch.autograd.grad(call(*leaves), leaves)

        assert all(g.isfinite().all() for g in gradients)
        assert all(g.abs().max() < 100 for g in gradients)
        assert (gradients[0][4] == 0).all()
        assert (gradients[1][2] == 0).all()


def test_a_cosine_of_one_is_exact_and_near_it_the_slope_is_the_true_one():
    weight = torch.tensor([[1.0, 0.0]])
    exact = arcface_logits(
        torch.tensor([[5.0, 0.0]]), torch.tensor([0]), weight, scale=1.0, margin=0.5
    )

    assert exact.item() == pytest.approx(math.cos(0.5), abs=1e-7)

    row = at_angle(1.0).requires_grad_()
    logit = arcface_logits(row, torch.tensor([0]), weight.double(), scale=1.0, margin=0.5)
    (gradient,) = torch.autograd.grad(logit.sum(), row)

    # turning the row by an angle changes the logit by the sine of the angle plus the margin
    assert gradient.norm().item() == pytest.approx(math.sin(math.radians(1.0) + 0.5), rel=1e-9)


@given(labelled_rows(), st.floats(0.01, 100), st.floats(0.01, 100))
def test_ignores_order_names_and_scale(sample, row_scale, weight_scale):
    rows, labels = sample
    weight = weights()
    want = arcface_loss(rows, labels, weight).item()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(len(rows)))
    names = torch.tensor([2, 0, 3, 1])
    renamed = torch.empty_like(weight)
    renamed[names] = weight * weight_scale
    got = arcface_loss(rows[order] * row_scale, names[labels[order]], renamed)

    assert got.item() == pytest.approx(want, rel=1e-4, abs=1e-4)


@given(labelled_rows(), st.floats(0, 1.4), st.floats(0.05, 0.1))
def test_a_larger_margin_costs_more_and_touches_the_target_only(sample, margin, more):
    rows, labels = sample
    small, large = (
        arcface_logits(rows, labels, weights(), margin=m) for m in (margin, margin + more)
    )
    target = F.one_hot(labels, IDENTITIES).bool()

    assert torch.equal(small[~target], large[~target])
    assert (large[target] <= small[target] + 1e-5).all()
    assert arcface_loss(rows, labels, weights(), margin=margin + more) >= (
        arcface_loss(rows, labels, weights(), margin=margin) - 1e-5
    )


@given(st.floats(0.0, 3.1))
def test_linear_falls_as_the_angle_grows(margin):
    rows = at_angle(*range(1, 180))
    logits = arcface_logits(
        rows, torch.zeros(179, dtype=torch.long), at_angle(0.0), scale=1.0, margin=margin
    )[:, 0]

    if margin <= math.pi / 2:
        assert (logits.diff() < 0).all()


def test_the_nearest_of_an_identitys_centers_counts():
    weight = torch.eye(4)  # identity 0 has centres 0 and 1, identity 1 has 2 and 3
    rows = torch.tensor([[0.1, 1.0, 0.0, 0.0]], requires_grad=True)
    got = arcface_logits(rows, None, weight, scale=1.0, num_centers=2)

    assert got[0].tolist() == pytest.approx([1 / math.sqrt(1.01), 0.0])

    weight = weight.requires_grad_()
    arcface_loss(rows, torch.tensor([0]), weight, scale=2.0, num_centers=2).backward()

    assert (weight.grad[0] == 0).all()
    assert (weight.grad[1] != 0).any()


def test_the_loss_is_the_cross_entropy_of_its_head():
    torch.manual_seed(1)
    loss = ArcFaceLoss(
        DIM, IDENTITIES, 20.0, 0.3, num_centers=2, fallback="easy", label_smoothing=0.1
    )
    rows, labels = weights(6, seed=3), torch.tensor([0, 1, 2, 3, 3, 0])
    want = F.cross_entropy(loss.head(rows, labels), labels, label_smoothing=0.1)

    assert loss(rows, labels).item() == pytest.approx(want.item(), rel=1e-6)
    assert list(loss.state_dict()) == ["head.weight"]
    assert list(loss.head.state_dict()) == ["weight"]
    assert loss.head.weight.shape == (8, DIM)
    assert torch.equal(
        loss.head(rows),
        arcface_logits(rows, None, loss.head.weight.detach(), scale=20.0, num_centers=2),
    )
    assert "fallback='easy', num_centers=2" in repr(loss)


def test_the_head_learns():
    loss = ArcFaceLoss(DIM, IDENTITIES)
    rows, labels = weights(8, seed=3), torch.arange(8) % 4
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.1)
    before = loss(rows, labels).item()

    for _ in range(30):
        optimizer.zero_grad()
        loss(rows, labels).backward()
        optimizer.step()

    assert loss(rows, labels).item() < 0.3 * before


def test_blocks_of_rows_and_of_classes_change_nothing():
    # more numbers than a block holds, both ways: 2**19 in a block
    rows, weight = weights(70, 64, seed=1), weights(9000, 64)
    labels = torch.arange(70) * 128
    leaves = rows.requires_grad_(), weight.requires_grad_()
    got = torch.autograd.grad(arcface_loss(rows, labels, weight), leaves)
    want = torch.autograd.grad(
        F.cross_entropy(arcface_logits(rows, labels, weight), labels), leaves
    )

    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "rows_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64]
)
@pytest.mark.parametrize("weight_dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_precision_is_promoted(rows_dtype, weight_dtype):
    rows = weights(3).to(rows_dtype).requires_grad_()
    weight = weights().to(weight_dtype).requires_grad_()
    labels = torch.tensor([0, 1, 2])
    want = torch.float64 if torch.float64 in (rows_dtype, weight_dtype) else torch.float32
    loss = arcface_loss(rows, labels, weight)

    assert loss.dtype == arcface_logits(rows, labels, weight).dtype == want

    loss.backward()

    assert (rows.grad.dtype, weight.grad.dtype) == (rows_dtype, weight_dtype)

    exact = arcface_loss(rows.detach().double(), labels, weight.detach().double())

    assert loss.item() == pytest.approx(exact.item(), rel=1e-5 if want == torch.float32 else 1e-12)


def test_backward_inside_autocast_changes_nothing():
    rows, weight, labels = weights(6, seed=2), weights(), torch.tensor([0, 1, 2, 3, 3, 0])
    gradients = []
    for enabled in (False, True):
        leaf = weight.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            arcface_loss(rows, labels, leaf).backward()
        gradients.append(leaf.grad)

    assert torch.equal(*gradients)


def test_two_backward_passes_agree_and_a_second_derivative_is_refused():
    rows, labels, weight = weights(3).requires_grad_(), torch.tensor([0, 1, 2]), weights(seed=1)
    loss = arcface_loss(rows, labels, weight)
    first, second = (torch.autograd.grad(loss, rows, retain_graph=True)[0] for _ in range(2))

    assert torch.equal(first, second)
    with pytest.raises(
        RuntimeError, match="For second derivatives take the cross entropy of the head's logits"
    ):
        torch.autograd.grad(loss, rows, create_graph=True)


def test_an_unknown_identity_is_an_error():
    expected = rf"arcface_loss: expected labels in \[0, {IDENTITIES}\), got labels from 0 to"
    with pytest.raises(ValueError, match=expected):
        arcface_loss(weights(2), torch.tensor([0, IDENTITIES]), weights())


@pytest.mark.unhooked
@pytest.mark.parametrize("call", [arcface_logits, arcface_loss])
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            (torch.zeros(4), torch.zeros(4).long(), weights()),
            {},
            "embeddings as a floating-point matrix",
        ),
        ((torch.zeros(4, 5), torch.zeros(4), weights()), {}, "labels as 4 integers.*float32"),
        (
            (torch.zeros(4, 5), torch.zeros(3).long(), weights()),
            {},
            r"labels as 4 integers.*\(3,\)",
        ),
        (
            (torch.zeros(4, 3), torch.zeros(4).long(), weights()),
            {},
            r"of one width, got \(4, 3\) and \(4, 5\)",
        ),
        (
            (torch.zeros(4, 5), torch.zeros(4).long(), weights()),
            {"num_centers": 3},
            r"weight with 3 row\(s\) for each identity, got 4 rows",
        ),
        (
            (torch.zeros(4, 5), torch.zeros(4).long(), torch.zeros(0, 5)),
            {},
            "for each identity, got 0 rows",
        ),
        (
            (torch.zeros(4, 5), torch.zeros(4).long(), weights()),
            {"fallback": "none"},
            "fallback to be one of",
        ),
    ],
)
def test_wrong_arguments(call, arguments, options, message):
    with pytest.raises(ValueError, match=f"{call.__name__}: expected .*{message}"):
        call(*arguments, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": 28.6}, r"margin in \[0, pi\) radians, got 28.6. Convert degrees"),
        ({"margin": -0.1}, r"margin in \[0, pi\)"),
        ({"margin": math.nan}, r"margin in \[0, pi\)"),
        ({"scale": 0.0}, "scale > 0"),
        ({"num_centers": 0}, "num_centers as a whole number >= 1"),
        ({"dim": 0}, "dim as a whole number >= 1"),
        ({"num_identities": 0}, "num_identities as a whole number >= 1"),
        ({"label_smoothing": 1.0}, r"label_smoothing in \[0, 1\), got 1.0"),
        ({"sparse_grad": True}, "sparse_grad needs num_sampled"),
        ({"num_sampled": 5}, "num_sampled <= 4"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        ArcFaceLoss(**({"dim": DIM, "num_identities": IDENTITIES} | options))


def test_a_head_without_labels_applies_no_margin():
    head = ArcFaceHead(DIM, IDENTITIES, scale=2.0)
    rows = weights(3, seed=1)
    want = 2 * F.normalize(rows) @ F.normalize(head.weight).T
    torch.testing.assert_close(head(rows), want)


@pytest.mark.unhooked
@pytest.mark.parametrize("make", [ArcFaceLoss, CosFaceLoss, ProxyAnchorLoss])
def test_a_loss_needs_labels(make):
    with pytest.raises(ValueError, match="labels as a tensor of integers, got NoneType"):
        make(4, 3)(torch.ones(2, 4), None)
