import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from clipreid_kit.clip.towers.position_embedding import resize_position_embedding

SIDES = st.integers(1, 9)


def table_of(grid: torch.Tensor, prefix: int) -> torch.Tensor:
    """Rows of a (H, W) image of numbers, after ``prefix`` rows of -7."""
    return torch.cat([torch.full((prefix, 1), -7.0), grid.reshape(-1, 1).float()])


@given(SIDES, SIDES, st.integers(0, 2))
def test_equal_grids_give_the_very_same_table(height, width, prefix):
    table = torch.randn(prefix + height * width, 3)
    assert (
        resize_position_embedding(table, (height, width), (height, width), num_prefix=prefix)
        is table
    )


@given(
    SIDES, SIDES, SIDES, SIDES, st.integers(0, 2), st.sampled_from([torch.float32, torch.bfloat16])
)
def test_rows_prefix_and_dtype(old_h, old_w, new_h, new_w, prefix, dtype):
    table = torch.randn(prefix + old_h * old_w, 3).to(dtype)
    resized = resize_position_embedding(table, (old_h, old_w), (new_h, new_w), num_prefix=prefix)
    assert resized.shape == (prefix + new_h * new_w, 3)
    assert resized.dtype == dtype
    assert torch.equal(resized[:prefix], table[:prefix])


@given(SIDES, SIDES, SIDES, SIDES)
def test_a_constant_table_stays_constant(old_h, old_w, new_h, new_w):
    table = torch.full((1 + old_h * old_w, 2), 0.25)
    resized = resize_position_embedding(table, (old_h, old_w), (new_h, new_w))
    assert_close(resized, torch.full((1 + new_h * new_w, 2), 0.25))


@given(st.integers(12, 24), st.integers(12, 30), st.integers(1, 5), st.booleans())
def test_a_linear_ramp_stays_a_ramp_inside(old, new, across, down):
    # positions are pixel centres; at the border the kernel has nothing to lean on, so it is left out
    line = torch.arange(old) + 0.5
    expected = (torch.arange(new) + 0.5) * old / new
    grid = line[:, None].expand(old, across) if down else line.expand(across, old)
    new_grid = (new, across + 2) if down else (across + 2, new)
    resized = resize_position_embedding(table_of(grid, 1), tuple(grid.shape), new_grid)[1:].reshape(
        new_grid
    )
    lines = resized.T if down else resized
    assert_close(
        lines, lines[:1].expand_as(lines)
    )  # a ramp along one axis says nothing about the other
    margin = 3 * max(1.0, old / new)
    inside = (expected > margin) & (expected < old - margin)
    assert inside.any()
    # shrinking by a broken factor samples the antialias kernel unevenly
    atol = 1e-4 if new >= old else 0.05
    assert_close(lines[0][inside], expected[inside], atol=atol, rtol=0)


def test_the_grid_decides_and_not_the_number_of_tokens():
    table = torch.randn(197, 4, generator=torch.Generator().manual_seed(0))
    resized = resize_position_embedding(table, (14, 14), (28, 7))
    assert resized.shape == table.shape
    assert not torch.allclose(resized[1:], table[1:], atol=0.1)


def test_rows_and_columns_are_not_swapped():
    grid = torch.tensor([[0.0, 0.0, 0.0], [6.0, 6.0, 6.0]])
    resized = resize_position_embedding(table_of(grid, 0), (2, 3), (2, 1), num_prefix=0)
    assert_close(resized.flatten(), torch.tensor([0.0, 6.0]))


def test_gradient_reaches_the_table():
    table = torch.randn(5, 2, requires_grad=True)
    resize_position_embedding(table, (2, 2), (4, 1)).sum().backward()
    assert table.grad is not None
    assert (table.grad.abs() > 0).all()


@pytest.mark.parametrize(
    ("rows", "old", "new", "match"),
    [
        (
            6,
            (2, 2),
            (1, 4),
            r"expected 5 rows \(1 prefix rows and a grid of 2 x 2\), got 6 rows\. Pass the grid",
        ),
        (
            5,
            (2, 2),
            (0, 4),
            r"expected new_grid as \(rows, columns\), each at least 1, got \(0, 4\)",
        ),
        (5, (-2, -2), (1, 4), r"expected old_grid"),
    ],
)
def test_errors(rows, old, new, match):
    with pytest.raises(ValueError, match=match):
        resize_position_embedding(torch.zeros(rows, 2), old, new)


@pytest.mark.unhooked
def test_refuses_a_table_that_is_no_matrix():
    with pytest.raises(
        ValueError,
        match=r"expected table as a floating-point matrix \(T, D\), got shape \(1, 5, 2\)",
    ):
        resize_position_embedding(torch.zeros(1, 5, 2), (2, 2), (1, 4))
