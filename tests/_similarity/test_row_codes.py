import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit._similarity.row_codes import error_bounds, whole_numbers


def unit_rows(kind, seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((20, int(rng.integers(1, 70))))
    if kind == "one-sided":
        rows = np.abs(rows)
    if kind == "heavy tails":
        rows = rows**5
    if kind == "with zeros":
        rows *= rng.random(rows.shape) < 0.1
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return torch.from_numpy(np.divide(rows, norms, out=rows, where=norms > 0)).float()


@given(
    st.integers(0, 2**31),
    st.sampled_from(["usual", "one-sided", "heavy tails", "with zeros"]),
    st.sampled_from([1, 64, 127]),
)
def test_products_of_numbers_are_within_the_bound(seed, kind, largest):
    rows, others = unit_rows(kind, seed)[:12], unit_rows(kind, seed)[12:]
    left, right = whole_numbers(rows, 127), whole_numbers(others, largest)

    assert left.numbers.abs().max() <= 127
    assert right.numbers.abs().max() <= largest
    exact = rows.double() @ others.double().T
    fast = left.scale * right.scale * (left.numbers.double() @ right.numbers.double().T)
    error = (exact - fast).abs().numpy()
    for other in range(len(others)):
        assert (error[:, other] <= error_bounds(left.residuals, right.residuals[other])).all()


@pytest.mark.parametrize("largest", [64, 127])
def test_the_bound_is_reached_nearly(largest):
    # every coordinate but the first lies in the middle between two numbers, all with one sign
    scale = np.float32(0.25 / largest)
    rows = torch.full((1, 64), 3.5 * float(scale))
    rows[0, 0] = 0.25
    coded = whole_numbers(rows, largest)
    lost = rows - coded.numbers * coded.scale

    other = lost / lost.norm()
    assert float((lost * other).sum()) == pytest.approx(coded.residuals[0], abs=1e-5)
    assert float((lost * other).sum()) <= coded.residuals[0]
