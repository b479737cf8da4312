import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import prompts as oracle
from torch.testing import assert_close

from clipreid_kit.modules import GeM


@pytest.mark.parametrize("p", [0.5, 1.0, 3.0, 6.5])
def test_equals_the_formula(p):
    tokens = torch.randn(3, 5, 4)
    expected = torch.tensor([oracle.gem(image, p) for image in tokens.tolist()])
    assert_close(GeM(p)(tokens).detach(), expected, atol=1e-5, rtol=1e-4)


def test_a_map_equals_its_positions_as_tokens():
    features = torch.rand(2, 4, 3, 5)
    tokens = features.flatten(2).transpose(1, 2)
    assert_close(GeM()(features), GeM()(tokens))


def test_p_of_1_is_the_average():
    features = torch.rand(2, 4, 3, 5)
    assert_close(GeM(1.0)(features).detach(), features.mean(dim=(2, 3)))


def test_a_large_p_is_near_the_maximum():
    features = torch.rand(2, 4, 3, 5)
    assert_close(GeM(300.0)(features).detach(), features.amax(dim=(2, 3)), atol=0.02, rtol=0)


@given(st.floats(0.5, 20), st.floats(1e-3, 1e3))
def test_scales_with_its_input(p, factor):
    tokens = torch.rand(2, 6, 3) + 0.1
    pool = GeM(p, learn=False, eps=1e-12)
    assert_close(pool(tokens * factor), pool(tokens) * factor, atol=0, rtol=1e-3)


def test_large_powers_stay_finite_under_autocast():
    pool = GeM(50.0)
    tokens = (torch.rand(2, 6, 3) * 1e4).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = pool(tokens)
    pooled.sum().backward()

    assert pooled.dtype == torch.float32
    assert pooled.isfinite().all()
    assert tokens.grad.isfinite().all()
    assert pool.p.grad.isfinite()


def test_gradient_equals_finite_differences():
    tokens = torch.rand(2, 4, 3, dtype=torch.float64) + 0.2
    pool = GeM(2.5).double()
    assert torch.autograd.gradcheck(pool, tokens.requires_grad_())

    pool(tokens).sum().backward()
    assert pool.p.grad != 0


def test_p_is_a_parameter_or_a_buffer():
    learned = GeM()
    fixed = GeM(4.0, learn=False)

    assert [name for name, _ in learned.named_parameters()] == ["p"]
    assert list(fixed.parameters()) == []
    learned.load_state_dict(fixed.state_dict())
    assert learned.p == 4


def test_repr():
    assert repr(GeM(learn=False)) == "GeM(learn=False, eps=1e-06)"


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 0}, "GeM: expected p > 0, got 0"),
        ({"p": "3"}, "GeM: expected p as a number, got '3'"),
        ({"eps": -1.0}, "GeM: expected eps > 0, got -1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        GeM(**options)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    "features",
    [torch.rand(2, 3), torch.zeros(2, 3, 4, dtype=torch.long), torch.rand(0, 3, 4), torch.rand(())],
)
def test_wrong_features(features):
    message = r"GeM: expected a feature map \(N, C, H, W\) or tokens \(N, T, C\), with at least one"
    with pytest.raises(ValueError, match=message):
        GeM()(features)


@pytest.mark.unhooked
def test_compiles():
    pool = GeM()
    tokens = torch.rand(2, 5, 3)
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager")
    assert_close(compiled(tokens), pool(tokens))
