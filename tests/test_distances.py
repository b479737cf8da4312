import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import labelled_rows

from clipreid_kit.distances import (
    cosine_similarity,
    dot_product,
    euclidean_distance,
    l2_normalize,
    squared_euclidean_distance,
)


@given(labelled_rows(), labelled_rows())
def test_euclidean_distances_equal_the_formula_in_float64(first, second):
    (a, _), (b, _) = first, second
    want = (a.double()[:, None] - b.double()[None]).norm(dim=2)

    squared = squared_euclidean_distance(a, b).double()
    torch.testing.assert_close(squared, want.square(), atol=1e-4, rtol=1e-4)

    # Rows that coincide keep the rounding error of the square, whose root is large.
    distance = euclidean_distance(a, b).double()
    apart = want > 0.1
    torch.testing.assert_close(distance[apart], want[apart], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(distance[~apart], want[~apart], atol=1e-2, rtol=0)


@given(labelled_rows(), labelled_rows())
def test_cosines_and_dot_products_equal_the_formulas_in_float64(first, second):
    (a, _), (b, _) = first, second
    product = a.double() @ b.double().T
    cosine = product / a.double().norm(dim=1)[:, None] / b.double().norm(dim=1)[None]

    torch.testing.assert_close(cosine_similarity(a, b).double(), cosine, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(dot_product(a, b).double(), product, atol=1e-5, rtol=1e-5)


def test_rows_that_are_not_numbers_show():
    rows = torch.tensor([[0.0], [float("nan")], [3.0]])
    for function in (cosine_similarity, dot_product, euclidean_distance):
        assert function(torch.zeros(1, 1), rows)[0].isnan().tolist() == [False, True, False]
        assert function(rows, rows).isnan()[1].all()


def test_a_common_offset_costs_no_digits():
    rows = torch.tensor([[0.0], [1.0], [3.0]]) + 1000
    assert squared_euclidean_distance(rows, rows).tolist() == [[0, 1, 9], [1, 0, 4], [9, 4, 0]]


@given(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_precision_is_at_least_float32(dtype):
    want = torch.float64 if dtype == torch.float64 else torch.float32
    rows = torch.ones(2, 3, dtype=dtype)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        for function in (
            cosine_similarity,
            dot_product,
            euclidean_distance,
            squared_euclidean_distance,
        ):
            assert function(rows, rows).dtype == want

    assert dot_product(rows, rows.double()).dtype == torch.float64


@pytest.mark.parametrize("function", [cosine_similarity, euclidean_distance])
def test_gradient_is_finite_for_zero_and_equal_rows(function):
    rows = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0], [1.0, 2.0]], requires_grad=True)
    function(rows, rows).sum().backward()
    assert rows.grad.isfinite().all()


def test_zero_rows_stay_zero_and_pass_no_gradient():
    rows = torch.zeros(2, 3, requires_grad=True)
    unit = l2_normalize(rows)
    unit.sum().backward()

    assert unit.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert rows.grad.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_empty():
    assert euclidean_distance(torch.zeros(0, 3), torch.ones(2, 3)).shape == (0, 2)
    assert cosine_similarity(torch.ones(2, 3), torch.zeros(0, 3)).shape == (2, 0)


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(
        ValueError, match=r"dot_product: expected first and second of one width, got \(2, 3\)"
    ):
        dot_product(torch.ones(2, 3), torch.ones(2, 4))

    with pytest.raises(
        ValueError, match="l2_normalize: expected embeddings as a floating-point matrix"
    ):
        l2_normalize(torch.ones(2, 3).long())


def test_a_row_with_nan_stays_nan():
    rows = l2_normalize(torch.tensor([[float("nan"), 1.0], [3.0, 4.0], [0.0, 0.0]]))
    assert rows[0].isnan().any()
    assert rows[1:].tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
