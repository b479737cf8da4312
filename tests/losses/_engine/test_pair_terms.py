"""The slope of each term is the derivative of its value, by the logits and times 2 N."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from clipreid_kit.losses._engine.pair_terms import (
    PairStatistics,
    ProbabilityBlock,
    cross_entropy,
    focal,
    smoothed_cross_entropy,
)

NUM_PAIRS = 5

TERMS = {
    "cross_entropy": cross_entropy,
    "smoothed": partial(smoothed_cross_entropy, label_smoothing=0.2),
    "focal": partial(focal, gamma=2.0, alpha=0.5),
    "focal-gamma-below-1": partial(focal, gamma=0.5, alpha=1.0),
}


@pytest.fixture(params=TERMS, ids=str)
def term(request):
    return TERMS[request.param]


def random_logits():
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(NUM_PAIRS, NUM_PAIRS, generator=generator, dtype=torch.float64)
    return logits.requires_grad_()


def statistics_of(logits):
    return PairStatistics(
        pair=logits.diagonal(),
        image=logits.logsumexp(dim=1),
        text=logits.logsumexp(dim=0),
        total=logits.sum(dim=1),
    )


def block_of(logits, start, stop):
    given_image = logits.softmax(dim=1)[start:stop].clone()
    given_text = logits.softmax(dim=0)[start:stop].clone()
    return ProbabilityBlock(start, stop, given_image, given_text)


@pytest.mark.parametrize("block_size", [1, 2, NUM_PAIRS])
def test_the_slopes_of_all_blocks_are_the_derivative_of_the_value(term, block_size):
    logits = random_logits()
    value, _ = term(statistics_of(logits))
    (want,) = torch.autograd.grad(2 * NUM_PAIRS * value, logits)

    detached = logits.detach()
    _, slope = term(statistics_of(detached))
    blocks = []
    for start in range(0, NUM_PAIRS, block_size):
        stop = min(start + block_size, NUM_PAIRS)
        blocks.append(slope(block_of(detached, start, stop)))

    torch.testing.assert_close(torch.cat(blocks), want)


def test_cross_entropy_is_the_mean_of_both_directions():
    logits = random_logits()
    pair = torch.arange(NUM_PAIRS)

    value, _ = cross_entropy(statistics_of(logits))

    want = (F.cross_entropy(logits, pair) + F.cross_entropy(logits.T, pair)) / 2
    torch.testing.assert_close(value, want)


def test_without_smoothing_or_focal_weights_all_terms_are_equal():
    statistics = statistics_of(random_logits().detach())
    want, _ = cross_entropy(statistics)

    smoothed, _ = smoothed_cross_entropy(statistics, label_smoothing=0.0)
    unweighted, _ = focal(statistics, gamma=0.0, alpha=1.0)

    torch.testing.assert_close(smoothed, want)
    torch.testing.assert_close(unweighted, want)


def test_focal_weights_are_finite_where_a_pair_is_certain():
    logits = torch.full((2, 2), -1000.0).fill_diagonal_(1000.0)

    value, slope = focal(statistics_of(logits), gamma=0.5, alpha=1.0)

    assert value.item() == 0
    assert torch.equal(slope(block_of(logits, 0, 2)), torch.zeros(2, 2))


def test_smoothing_without_sums_is_an_error():
    statistics = statistics_of(random_logits())._replace(total=None)

    with pytest.raises(TypeError, match="the statistics hold no sums of logits"):
        smoothed_cross_entropy(statistics, label_smoothing=0.1)
