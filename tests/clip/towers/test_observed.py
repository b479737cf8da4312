import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.testing import assert_close

from clipreid_kit.clip.towers.observed import is_observed, is_plain_linear

REGISTER = [
    nn.Module.register_forward_hook,
    nn.Module.register_forward_pre_hook,
    nn.Module.register_full_backward_hook,
    nn.Module.register_full_backward_pre_hook,
]


@pytest.mark.parametrize("register", REGISTER, ids=lambda method: method.__name__)
def test_a_module_is_observed_as_long_as_its_hook(register):
    module, other = nn.Linear(2, 2), nn.Linear(2, 2)
    handle = register(module, lambda *_: None)
    assert is_observed(other, module)
    assert not is_plain_linear(module)

    handle.remove()
    assert not is_observed(other, module)
    assert is_plain_linear(module)


def test_a_layer_with_more_than_weight_and_bias_is_not_plain():
    assert not is_plain_linear(parametrizations.weight_norm(nn.Linear(2, 2)))
    assert not is_plain_linear(prune.random_unstructured(nn.Linear(2, 2), "weight", 0.5))


WHOLE = [
    ("vit", ""),
    ("vit", "transformer"),
    ("vit", "transformer.resblocks.1"),
    ("resnet", ""),
    ("resnet", "attnpool"),
]


@pytest.mark.parametrize("encode", ["encode_image", "encode_image_levels"])
@pytest.mark.parametrize(("kind", "name"), WHOLE)
def test_hooks_see_the_same_calls_in_training_as_in_evaluation(build, kind, name, encode):
    towers = build(kind).train()
    images = torch.randn(2, 3, *towers.image_size)
    alone = towers.encode_image(images)

    shapes = []
    part = towers.model.visual.get_submodule(name)
    part.register_forward_hook(lambda _, __, output: shapes.append(output.shape))
    if encode == "encode_image":
        found = towers.encode_image(images)
    else:
        found = towers.encode_image_levels(images, ["projected"]).projected

    assert_close(found, alone, atol=1e-5, rtol=1e-5)
    if encode == "encode_image" or name not in ("", "transformer"):  # levels run these in parts
        towers.eval().encode_image(images)
        assert len(shapes) == 2
        assert shapes[0] == shapes[1]


def test_an_adapter_of_the_attention_pool_is_not_left_out(build):
    class Adapted(nn.Linear):
        def forward(self, rows):
            return super().forward(rows) + self.shift

    towers = build("resnet").train()
    pool = towers.model.visual.attnpool
    images = torch.randn(2, 3, *towers.image_size)
    before = towers.encode_image(images)
    pool.v_proj.__class__ = Adapted
    pool.v_proj.shift = nn.Parameter(torch.ones(1))

    after = towers.encode_image(images)
    after.sum().backward()

    # attention adds up to one: every value is moved by the shift
    assert_close(after, before + pool.c_proj.weight.sum(dim=1), atol=1e-4, rtol=1e-4)
    assert pool.v_proj.shift.grad is not None
