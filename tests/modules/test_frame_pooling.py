"""What all modules have in common that pool the frames of a tracklet."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit import FrameAttention, FrameMean, FrameTransformer


def trained(module):
    """A module with weights far from its initial ones, in float64."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.7
    return module.double().eval()


MODULES = {
    "mean": FrameMean().double(),
    "attention": trained(FrameAttention(4, hidden_dim=3)),
    "transformer": trained(FrameTransformer(4, num_blocks=2, num_heads=2, num_positions=3)),
}
every_module = pytest.mark.parametrize("name", MODULES)
lengths = st.lists(st.integers(0, 5), min_size=1, max_size=4)


def padded(lengths, fill):
    """Tracklets of these lengths, in random places of 6 frames, and their mask."""
    generator = torch.Generator().manual_seed(sum(lengths) + len(lengths))
    frames = torch.full((len(lengths), 6, 4), fill, dtype=torch.float64)
    valid = torch.zeros(len(lengths), 6, dtype=torch.bool)
    for row, length in enumerate(lengths):
        places = torch.randperm(6, generator=generator)[:length].sort().values
        valid[row, places] = True
        frames[row, places] = torch.randn(length, 4, generator=generator, dtype=torch.float64)
    return frames, valid


@every_module
@given(lengths, st.sampled_from([0.0, 1e9, float("nan"), float("inf")]))
def test_padding_is_ignored_exactly(name, lengths, fill):
    frames, valid = padded(lengths, fill)
    expected, _ = padded(lengths, 3.0)
    assert torch.equal(MODULES[name](frames, valid), MODULES[name](expected, valid))


@every_module
@given(lengths)
def test_a_padded_batch_gives_what_each_tracklet_gives_alone(name, lengths):
    frames, valid = padded(lengths, 7.0)
    pooled = MODULES[name](frames, valid)

    for row, length in enumerate(lengths):
        alone = torch.zeros(4, dtype=torch.float64)
        if length:
            alone = MODULES[name](frames[row][valid[row]][None])[0]
        torch.testing.assert_close(pooled[row], alone)


@pytest.mark.parametrize("name", ["mean", "attention"])
@given(st.permutations(range(6)))
def test_the_order_of_frames_does_not_matter(name, order):
    frames, valid = padded([4, 6], 0.0)
    shuffled = MODULES[name](frames[:, order], valid[:, order])
    torch.testing.assert_close(shuffled, MODULES[name](frames, valid))


def test_the_order_of_frames_matters_to_a_transformer():
    frames, _ = padded([6], 0.0)
    reverse = MODULES["transformer"](frames.flip(1))
    assert not torch.allclose(reverse, MODULES["transformer"](frames), atol=1e-3)


@every_module
def test_gradients_of_padding_and_of_empty_tracklets_are_zero(name):
    frames, valid = padded([3, 0, 6], float("nan"))
    frames.requires_grad_()
    MODULES[name](frames, valid).sum().backward()

    assert frames.grad.isfinite().all()
    assert (frames.grad[~valid] == 0).all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in MODULES[name].parameters())


@pytest.mark.parametrize("module", [FrameMean(), FrameAttention(4), FrameTransformer(4)])
def test_begins_as_the_mean(module):
    frames = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(module(frames), frames.mean(dim=1))
    assert module(frames[:0]).shape == (0, 4)


@pytest.mark.parametrize("module", [FrameMean(), FrameAttention(4), FrameTransformer(4)])
def test_half_precision_is_pooled_in_float32(module):
    frames = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        pooled = module(frames.bfloat16())
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, frames.mean(dim=1), atol=0.05, rtol=0.05)


@pytest.mark.unhooked
@pytest.mark.parametrize("module", [FrameMean(), FrameAttention(4), FrameTransformer(4)])
@pytest.mark.parametrize(
    ("shape", "mask", "message"),
    [
        ((3, 4), None, "expected frames"),
        ((3, 0, 4), None, "at least one frame"),
        ((3, 5, 4), torch.ones(3, 4, dtype=torch.bool), r"expected valid as booleans \(3, 5\)"),
        ((3, 5, 4), torch.ones(3, 5), r"expected valid as booleans \(3, 5\)"),
    ],
)
def test_wrong_shapes(module, shape, mask, message):
    with pytest.raises(ValueError, match=f"^{type(module).__name__}: .*{message}"):
        module(torch.zeros(shape), mask)
