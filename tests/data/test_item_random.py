import threading

import pytest
import torch
from torchvision.transforms import v2

from clipreid_kit.data._item_random import _WITH_GENERATOR, item_random

DRAWS = {
    "rand": lambda: torch.rand(3),
    "randn": lambda: torch.randn(3),
    "randint": lambda: torch.randint(0, 100, (3,)),
    "randperm": lambda: torch.randperm(9),
    "normal": lambda: torch.normal(torch.zeros(3), torch.ones(3)),
    "bernoulli": lambda: torch.bernoulli(torch.full((9,), 0.5)),
    "multinomial": lambda: torch.multinomial(torch.ones(9), 3),
    "poisson": lambda: torch.poisson(torch.full((9,), 5.0)),
    "uniform_": lambda: torch.empty(3).uniform_(2, 3),
    "normal_": lambda: torch.empty(3).normal_(),
    "random_": lambda: torch.empty(3).random_(0, 9),
    "exponential_": lambda: torch.empty(3).exponential_(),
    "rand_like": lambda: torch.rand_like(torch.ones(3)),
    "randn_like": lambda: torch.randn_like(torch.ones(3), dtype=torch.float64),
    "randint_like": lambda: torch.randint_like(torch.ones(9), 7),
    "randint_like, two": lambda: torch.randint_like(torch.ones(9), 3, high=7),
    "dirichlet": lambda: torch._sample_dirichlet(torch.ones(3)),
}


def in_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def seeded(draw):
    with item_random() as random:
        random.seed(5)
        return torch.stack([draw(), draw()])


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("run", [lambda function: function(), in_thread])
def test_numbers_are_those_of_the_global_generator_which_stays(name, run):
    draw = DRAWS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = torch.stack([draw(), draw()])

    before = torch.get_rng_state()
    assert torch.equal(run(lambda: seeded(draw)), expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_that_is_given_is_used():
    own = torch.Generator().manual_seed(1)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(1))
    with item_random() as random:
        random.seed(5)
        assert torch.equal(torch.rand(3, generator=own), expected)


def test_functions_without_a_generator_depend_on_the_seed_in_the_main_thread():
    first = seeded(lambda: torch.dropout(torch.ones(50), 0.5, train=True))
    assert torch.equal(first, seeded(lambda: torch.dropout(torch.ones(50), 0.5, train=True)))


@pytest.mark.parametrize(
    "transform",
    [
        v2.AugMix(),
        v2.RandAugment(),
        v2.TrivialAugmentWide(),
        v2.RandomResizedCrop(8),
        v2.ElasticTransform(),
        v2.GaussianNoise(),
        v2.RandomChoice([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]),
        v2.RandomErasing(1.0, value="random"),
        v2.ColorJitter(0.5, 0.5, 0.5, 0.1),
        v2.RandomPhotometricDistort(),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_transforms_of_torchvision_draw_from_it(transform):
    """In a thread, where the global generator is not seeded, they depend on the seed alone."""
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    if isinstance(transform, v2.AugMix | v2.RandAugment | v2.TrivialAugmentWide):
        image = (image * 255).to(torch.uint8)
    before = torch.get_rng_state()

    first, second = (in_thread(lambda: seeded(lambda: transform(image))) for _ in range(2))

    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_function_takes_a_generator():
    assert torch.rand in _WITH_GENERATOR
    assert torch.dropout not in _WITH_GENERATOR
