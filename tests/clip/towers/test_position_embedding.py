import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from clipreid_kit.clip.towers.position_embedding import resize_position_embedding

SIDES = st.integers(1, 9)
DTYPES = st.sampled_from([torch.float32, torch.bfloat16])


def table_of(grid, num_prefix):
    """Rows of a (H, W) grid of numbers, after prefix rows of -7."""
    prefix = torch.full((num_prefix, 1), -7.0)
    return torch.cat([prefix, grid.reshape(-1, 1).float()])


@given(SIDES, SIDES, st.integers(0, 2))
def test_equal_grids_return_the_same_tensor(height, width, num_prefix):
    table = torch.randn(num_prefix + height * width, 3)
    grid = (height, width)
    assert resize_position_embedding(table, grid, grid, num_prefix=num_prefix) is table


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 2), DTYPES)
def test_rows_prefix_and_dtype(old_height, old_width, height, width, num_prefix, dtype):
    table = torch.randn(num_prefix + old_height * old_width, 3).to(dtype)

    resized = resize_position_embedding(
        table, (old_height, old_width), (height, width), num_prefix=num_prefix
    )

    assert resized.shape == (num_prefix + height * width, 3)
    assert resized.dtype == dtype
    assert torch.equal(resized[:num_prefix], table[:num_prefix])


@given(SIDES, SIDES, SIDES, SIDES)
def test_a_constant_table_stays_constant(old_height, old_width, height, width):
    table = torch.full((1 + old_height * old_width, 2), 0.25)
    resized = resize_position_embedding(table, (old_height, old_width), (height, width))
    assert_close(resized, torch.full((1 + height * width, 2), 0.25))


@given(st.integers(12, 24), st.integers(12, 30), st.integers(1, 5), st.booleans())
def test_a_linear_ramp_stays_a_ramp_inside(old, new, across, down):
    # positions are pixel centres
    line = torch.arange(old) + 0.5
    expected = (torch.arange(new) + 0.5) * old / new

    grid = line[:, None].expand(old, across) if down else line.expand(across, old)
    new_grid = (new, across + 2) if down else (across + 2, new)
    resized = resize_position_embedding(table_of(grid, 1), tuple(grid.shape), new_grid)
    image = resized[1:].reshape(new_grid)
    lines = image.T if down else image

    # a ramp along one axis is constant along the other
    assert_close(lines, lines[:1].expand_as(lines))

    # the kernel reaches over the border, so that is left out
    margin = 3 * max(1.0, old / new)
    inside = (expected > margin) & (expected < old - margin)
    assert inside.any()

    # shrinking by a fraction samples the antialiasing kernel unevenly
    tolerance = 1e-4 if new >= old else 0.05
    assert_close(lines[0][inside], expected[inside], atol=tolerance, rtol=0)


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
    ("num_rows", "old", "new", "match"),
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
def test_grids_that_do_not_suit_the_table(num_rows, old, new, match):
    with pytest.raises(ValueError, match=match):
        resize_position_embedding(torch.zeros(num_rows, 2), old, new)


@pytest.mark.unhooked
def test_a_table_that_is_no_matrix():
    with pytest.raises(
        ValueError,
        match=r"expected table as a floating-point matrix \(T, D\), got shape \(1, 5, 2\)",
    ):
        resize_position_embedding(torch.zeros(1, 5, 2), (2, 2), (1, 4))


def test_a_negative_number_of_prefix_rows():
    with pytest.raises(ValueError, match=r"num_prefix as a whole number >= 0, got -1"):
        resize_position_embedding(torch.zeros(3, 2), (2, 2), (1, 4), num_prefix=-1)
