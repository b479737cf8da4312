"""``torch.set_default_device`` of the user: it places new modules, and changes nothing else."""

import ast
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from gpu.parts import PARTS, run
from gpu.test_evaluation import CAMERAS, LABELS, WORK, embeddings, plain
from torch.testing import assert_close

from clipreid_kit.clip import ClipTowers, IdentityPromptLearner
from clipreid_kit.losses import PartialFCLoss

SOURCE = Path(__file__).parents[1] / "src" / "clipreid_kit"

FACTORIES = {"zeros", "ones", "empty", "full", "arange", "eye", "linspace", "tensor"}
FACTORIES |= {"rand", "randn", "randint", "randperm"}
FACTORIES |= {"as_tensor", "asarray", "sparse_csr_tensor", "sparse_coo_tensor"}

# New weights are where torch's own modules would have them.
OF_NEW_MODULES = {"__init__", "new_head_weight", "_begin_as_frozen"}


def functions_of(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def makes_tensor_of_torch(node):
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "torch"
        and node.func.attr in FACTORIES
    )


def test_every_tensor_names_its_device():
    unplaced = []
    for path in sorted(SOURCE.rglob("*.py")):
        for function in functions_of(ast.parse(path.read_text(encoding="utf-8"))):
            if function.name in OF_NEW_MODULES:
                continue
            for node in filter(makes_tensor_of_torch, ast.walk(function)):
                if "device" not in {word.arg for word in node.keywords}:
                    unplaced.append(f"{path.relative_to(SOURCE)}:{node.lineno}")

    assert unplaced == []


# A tensor on the meta device has no values: whatever is made there by mistake is an error.
@pytest.mark.parametrize("name", WORK)
def test_evaluation_mining_and_samplers(name):
    inputs = embeddings(torch.float32), LABELS, CAMERAS
    expected = plain(WORK[name](*inputs))

    with torch.device("meta"):
        found = plain(WORK[name](*inputs))

    np.testing.assert_equal(found, expected)


def test_parts_of_a_training_step():
    for name, part in PARTS.items():
        torch.manual_seed(0)
        module = part.build()
        expected, _ = run(part, copy.deepcopy, module)

        with torch.device("meta"):
            found, leaves = run(part, copy.deepcopy, module)
            torch.autograd.grad(found, list(leaves.values()), allow_unused=True)

        assert_close(found, expected, msg=name)


def test_new_weights_are_on_the_default_device():
    towers = ClipTowers.from_open_clip("reid-tiny-vit", pretrained=None)
    with torch.device("meta"):
        learner = IdentityPromptLearner(towers, 5, instance_dim=towers.embed_dim)
        head = PartialFCLoss(8, 5)

    assert {p.device.type for p in [*learner.parameters(), *head.parameters()]} == {"meta"}
