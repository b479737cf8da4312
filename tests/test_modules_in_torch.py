"""Modules with fixed options under what torch does to modules: averages, casts, new parameters."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel
from two_ranks import on_two_ranks

from clipreid_kit import (
    ArcFaceLoss,
    BNNeck,
    CosFaceHead,
    MultiModalInteraction,
    PrototypeMemoryLoss,
)

ROWS = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


class Unchanged(nn.Module):
    def forward(self, weight):
        return weight * 1


def averaged(module):
    average = AveragedModel(module)
    for _ in range(2):
        average.update_parameters(module)
    return average.module


def assigned(module):
    other = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.load_state_dict(copy.deepcopy(module.state_dict()), assign=True)
    return other


def parametrized(module):
    for part in list(module.modules()):
        for name, weight in list(part.named_parameters(recurse=False)):
            if weight.ndim > 1:
                parametrize.register_parametrization(part, name, Unchanged())
    return module


def no_longer_parametrized(module):
    for part in list(parametrized(module).modules()):
        for name in list(getattr(part, "parametrizations", {})):
            parametrize.remove_parametrizations(part, name)
    return module


def swapped(module):
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        return module.to(torch.float64).to(torch.float32)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def from_meta(module):
    other = copy.deepcopy(module).to("meta").to_empty(device="cpu")
    other.load_state_dict(module.state_dict())
    return other


WAYS = {
    "averaged": averaged,
    "assigned": assigned,
    "parametrized": parametrized,
    "copied with parametrizations": lambda module: copy.deepcopy(parametrized(module)),
    "no longer parametrized": no_longer_parametrized,
    "swapped": swapped,
    "from the meta device": from_meta,
    "shared": lambda module: module.share_memory(),
}

MODULES = {
    "ArcFaceLoss": (lambda: ArcFaceLoss(8, 3), lambda loss: loss(ROWS, LABELS)),
    "BNNeck": (lambda: BNNeck(8, 4), lambda neck: neck(ROWS)[1]),
    "CosFaceHead": (lambda: CosFaceHead(8, 3), lambda head: head(ROWS, LABELS)),
    "MultiModalInteraction": (
        lambda: MultiModalInteraction(8, num_heads=2),
        lambda blocks: blocks(ROWS[:2], ROWS[2:].reshape(2, 2, 8)).embedding,
    ),
    "PrototypeMemoryLoss": (
        lambda: nn.ModuleDict({"body": nn.Linear(8, 8), "loss": PrototypeMemoryLoss(8, 3)}),
        lambda model: model["loss"](model["body"](ROWS), LABELS),
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODULES)
def test_a_module_gives_the_same_values(name, way):
    build, call = MODULES[name]
    module = build()
    expected = call(copy.deepcopy(module))

    changed = WAYS[way](module)
    assert torch.equal(call(changed), expected)


def train(model, rows):
    """Three steps of a model with a loss; the parameters and their average."""
    average = AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        model(ROWS[rows] + step, LABELS[rows]).backward()
        optimizer.step()
        average.update_parameters(model)
    return [parameter.detach() for parameter in (*model.parameters(), *average.parameters())]


class WithLoss(nn.Module):
    def __init__(self):
        super().__init__()
        torch.default_generator.manual_seed(0)
        self.body = nn.Linear(8, 8)
        self.loss = ArcFaceLoss(8, 3)

    def forward(self, rows, labels):
        return self.loss(self.body(rows), labels)


def train_in_ddp(rank):
    torch.set_num_threads(1)
    options = ({}, {"static_graph": True}, {"gradient_as_bucket_view": True})
    return [
        [
            parameter.tolist()
            for parameter in train(
                DistributedDataParallel(WithLoss(), **option), slice(3 * rank, 3 * rank + 3)
            )
        ]
        for option in options
    ]


@pytest.mark.slow  # two processes
def test_two_ranks_of_ddp_train_as_one(tmp_path):
    expected = train(WithLoss(), slice(None))

    for trained in on_two_ranks(train_in_ddp, tmp_path).values():
        for parameters in trained:
            found = [torch.tensor(values) for values in parameters]
            torch.testing.assert_close(found, expected)
