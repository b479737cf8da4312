import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from clipreid_kit.clip import ClipTowers, interpolate_weights

START = {
    "w": torch.tensor([1.0, -2.0]),
    "n": torch.tensor(3),
    "h": torch.tensor([1.0], dtype=torch.bfloat16),
}
END = {
    "w": torch.tensor([3.0, 0.5]),
    "n": torch.tensor(8),
    "h": torch.tensor([2.0], dtype=torch.bfloat16),
}


@given(st.floats(0, 1))
def test_lies_on_the_line_between(weight):
    between = interpolate_weights(START, END, weight)
    assert_close(between["w"], (1 - weight) * START["w"] + weight * END["w"])
    assert between["h"].dtype == torch.bfloat16
    assert between["n"].item() == (8 if weight >= 0.5 else 3)
    back = interpolate_weights(END, START, 1 - weight)
    assert_close(between["w"], back["w"])


def test_the_ends_are_exact_and_copies():
    for weight, source in ((0.0, START), (1.0, END)):
        found = interpolate_weights(START, END, weight)
        assert all(torch.equal(found[name], source[name]) for name in source)
        assert all(found[name].data_ptr() != source[name].data_ptr() for name in source)


def test_half_precision_weights_against_float32():
    # in bfloat16, 1 + 0.3 * (1.0078125 - 1) would be lost twice
    start = {"w": torch.ones(1)}
    end = {"w": torch.tensor([1.0078125], dtype=torch.bfloat16)}
    assert interpolate_weights(start, end, 1.0)["w"].dtype == torch.bfloat16
    assert interpolate_weights(end, start, 0.5)["w"].item() == pytest.approx(1.00390625)


def test_towers_between_two():
    first, last, between = (
        ClipTowers.from_open_clip("reid-tiny-resnet", seed=seed) for seed in (0, 1, 2)
    )
    between.load_state_dict(interpolate_weights(first, last, 0.25))
    expected = 0.75 * first.model.visual.conv1.weight + 0.25 * last.model.visual.conv1.weight
    assert_close(between.model.visual.conv1.weight, expected)
    assert not between.model.visual.conv1.weight.equal(first.model.visual.conv1.weight)


def test_errors():
    with pytest.raises(ValueError, match=r"weight in \[0, 1\], got 1.5"):
        interpolate_weights(START, END, 1.5)
    with pytest.raises(ValueError, match=r"weight in \[0, 1\], got nan"):
        interpolate_weights(START, END, float("nan"))
    with pytest.raises(ValueError, match="got 1 in one only: bias"):
        interpolate_weights(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), 0.5)
    with pytest.raises(ValueError, match=r"same shapes, got weight \(2, 2\) and \(2, 3\)"):
        interpolate_weights(nn.Linear(2, 2), nn.Linear(3, 2), 0.5)
