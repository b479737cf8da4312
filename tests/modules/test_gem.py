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


def test_a_map_is_its_places_as_tokens():
    features = torch.rand(2, 4, 3, 5)
    assert_close(GeM()(features), GeM()(features.flatten(2).transpose(1, 2)))


def test_between_average_and_maximum():
    features = torch.rand(2, 4, 3, 5)
    assert_close(GeM(1.0)(features).detach(), features.mean(dim=(2, 3)))
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
        out = pool(tokens)
    assert out.dtype == torch.float32
    out.sum().backward()
    assert tokens.grad.isfinite().all()
    assert pool.p.grad.isfinite()


def test_gradient_is_that_of_differences():
    tokens = torch.rand(2, 4, 3, dtype=torch.float64) + 0.2
    pool = GeM(2.5).double()
    assert torch.autograd.gradcheck(pool, tokens.requires_grad_())
    pool(tokens).sum().backward()
    assert pool.p.grad != 0


def test_p_learns_or_not():
    assert [name for name, _ in GeM().named_parameters()] == ["p"]
    fixed = GeM(4.0, learn=False)
    assert list(fixed.parameters()) == []
    assert fixed.state_dict()["p"] == 4
    GeM().load_state_dict(fixed.state_dict())


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(ValueError, match="GeM: expected p > 0, got 0"):
        GeM(0)
    with pytest.raises(ValueError, match="eps > 0"):
        GeM(eps=-1.0)
    with pytest.raises(
        ValueError, match=r"a feature map \(N, C, H, W\) or tokens \(N, T, C\).*shape \(2, 3\)"
    ):
        GeM()(torch.rand(2, 3))


@pytest.mark.unhooked
def test_compiles():
    pool, tokens = GeM(), torch.rand(2, 5, 3)
    assert_close(torch.compile(pool, fullgraph=True, backend="aot_eager")(tokens), pool(tokens))
