"""What a training step is made of, each part with a call that returns a number to minimise."""

from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

import torch
from clip.methods import test_methods_distributed as methods
from losses import test_contract as contract

from clipreid_kit import modules
from clipreid_kit.clip.methods import text_to_person


class Part(NamedTuple):
    """A module with its inputs, on the CPU.

    Attributes:
        build: Builds the module.
        inputs: Tensors; those of floating point get a gradient.
        call: Takes the module and the inputs, and returns the value.
        on_cpu: Places of the inputs that stay on the CPU, where they cost no wait for the GPU.
    """

    build: Callable[[], torch.nn.Module]
    inputs: tuple[torch.Tensor, ...]
    call: Callable[..., torch.Tensor]
    on_cpu: tuple[int, ...] = ()


class Result(NamedTuple):
    """A value and the leaves that it may have a gradient by, by name."""

    value: torch.Tensor
    leaves: dict[str, torch.Tensor]


def run(part, move, module):
    """Value of a part after ``move`` has brought its module and its inputs to a device."""
    module = move(module)
    inputs = []
    for place, values in enumerate(part.inputs):
        moved = values if place in part.on_cpu else move(values)
        inputs.append(moved.requires_grad_() if moved.is_floating_point() else moved)

    stored = move(contract.STORED_ROWS)
    with mock.patch.object(contract, "STORED_ROWS", stored), words_masked_by_rule():
        value = part.call(module, *inputs)

    leaves = {f"input {place}": x for place, x in enumerate(inputs) if x.requires_grad}
    leaves |= {name: x for name, x in module.named_parameters() if x.requires_grad}
    return Result(value, leaves)


def words_masked_by_rule():
    """The words to guess are not drawn at random, which would differ between devices."""
    return mock.patch.object(text_to_person, "mask_tokens", methods.mask_even_tokens)


def _rows(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _numbers(*shape):
    return torch.randint(10, shape, generator=torch.Generator().manual_seed(0))


def _sum(module, *inputs):
    return module(*inputs).sum()


def _both_of_bn_neck(module, rows):
    before, after = module(rows)
    return (before * after).sum()


def _interaction(module, text, visual):
    return module(text, visual).embedding.square().sum()


def _masked_language(module, words, patches, targets):
    return module(words, patches, targets).loss


def _pseudo_token(module, sentence, tokens):
    return modules.insert_pseudo_token(module(sentence), tokens, 1).square().sum()


def _student_and_teacher():
    student = torch.nn.Linear(8, 3)
    return torch.nn.ModuleDict({"student": student, "teacher": modules.EmaTeacher(student, 0.9)})


def _distance_to_the_teacher(pair, rows):
    pair["teacher"].update(pair["student"])
    return (pair["student"](rows) - 0.5 * pair["teacher"](rows.detach())).square().sum()


def _loss(loss, rows, labels):
    return loss(rows, labels)


def _method(model, images, labels):
    return model(images, labels).loss


def _method_with_captions(model, images, labels, tokens):
    return model(images, labels, tokens=tokens).loss


def _losses():
    rows, labels = contract.BATCHES["ordinary"]
    inputs = rows, torch.tensor(labels)
    return {f"loss {name}": Part(build, inputs, _loss) for name, build in contract.LOSSES.items()}


def _methods():
    parts = {}
    for name in methods.METHODS:
        inputs = methods.inputs_of(name), methods.LABELS
        call, on_cpu = _method, (1,) if name == "prompts" else ()
        if name in ("baseline", "text_to_person"):
            inputs = *inputs, methods.TOKENS
            call, on_cpu = _method_with_captions, (2,)

        def build(name=name):
            return methods.build_method(name, distributed=False)

        parts[f"method {name}"] = Part(build, inputs, call, on_cpu)
    return parts


_SEQUENCES = _rows(4, 8), _rows(4, 6, 8)

PARTS = {
    **_losses(),
    **_methods(),
    "BNNeck": Part(lambda: modules.BNNeck(8, 4), (_rows(6, 8),), _both_of_bn_neck),
    "GeM": Part(modules.GeM, (_rows(2, 3, 4, 5),), _sum),
    "MultiModalInteraction": Part(
        lambda: modules.MultiModalInteraction(8, num_heads=2), _SEQUENCES, _interaction
    ),
    "MaskedLanguageHead": Part(
        lambda: modules.MaskedLanguageHead(8, 10, num_blocks=1, num_heads=2),
        (_rows(4, 5, 8), _rows(4, 6, 8), _numbers(4, 5)),
        _masked_language,
    ),
    "TextualInversionMLP": Part(
        lambda: modules.TextualInversionMLP(8, 6, hidden_dim=7), (_rows(4, 8),), _sum
    ),
    "TokenSelection": Part(
        lambda: modules.TokenSelection(8, 5), (_rows(4, 6, 8), _rows(4, 6)), _sum
    ),
    "insert_pseudo_token": Part(
        lambda: torch.nn.Linear(8, 8), (_rows(1, 5, 8), _rows(3, 8)), _pseudo_token
    ),
    "TestTimeAugmentation": Part(
        lambda: modules.TestTimeAugmentation(
            torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), modules.GeM()), scales=(1.0, 0.5)
        ),
        (_rows(2, 3, 12, 8),),
        _sum,
    ),
    "EmaTeacher": Part(_student_and_teacher, (_rows(4, 8),), _distance_to_the_teacher),
}

# Functions of the library that wait for the GPU in a training step, by part; nothing else does.
# docs/design/gpu.md says why, and what to do instead.
WAITS = {
    "MaskedLanguageHead": ["modules/masked_language.py:forward"],
    "method baseline": 2 * ["losses/_engine/smooth_ranks.py:smooth_rank_rule"],
    "method text_to_person": ["modules/masked_language.py:forward"],
    "loss triplet-semi-hard": ["losses/_engine/triplet_mining.py:largest_number_of_positives"],
    "loss triplet-all": ["losses/_engine/triplet_mining.py:largest_number_of_positives"],
    "loss triplet-all-soft": ["losses/_engine/triplet_mining.py:largest_number_of_positives"],
    "loss triplet-all-cosine": ["losses/_engine/triplet_mining.py:largest_number_of_positives"],
    "loss triplet-all-text": ["losses/_engine/triplet_mining.py:largest_number_of_positives"],
    "loss smooth_ap": ["losses/_engine/smooth_ranks.py:smooth_rank_rule"],
    "loss recall_surrogate": ["losses/_engine/smooth_ranks.py:smooth_rank_rule"],
    "loss cross_batch_memory": ["losses/cross_batch_memory.py:enqueue"],
}
