import copy
import sys

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from clipreid_kit.clip import add_lora, load_towers, merge_lora, save_towers
from clipreid_kit.clip.tuning.lora import SplitAttention

# Adapted layers of all blocks. A block has q, k, v and out, and two layers of the MLP; timm's
# test_vit keeps q, k and v in one.
NUM_LAYERS = {("vit", "image"): 12, ("vit", "text"): 12, ("timm", "image"): 24, ("eos", "text"): 12}


@pytest.fixture
def peft():
    return pytest.importorskip("peft", reason="an extra")


class TestSplitAttention:
    @pytest.fixture
    def attention(self):
        layer = nn.MultiheadAttention(64, 4, batch_first=True)
        nn.init.normal_(layer.in_proj_bias)
        nn.init.normal_(layer.out_proj.bias)
        return layer

    @pytest.fixture(params=[False, True], ids=["unmasked", "masked"])
    def inputs(self, request):
        """Query, key, value and options of a call."""
        x, query = torch.randn(3, 7, 64), torch.randn(3, 7, 64)
        mask = torch.full((7, 7), float("-inf")).triu(1) if request.param else None
        return (query, x, x), {"need_weights": False, "attn_mask": mask}

    def test_equals_the_layer_of_torch(self, attention, inputs):
        arguments, options = inputs
        found = SplitAttention(attention)(*arguments, **options)[0]
        assert_close(found, attention(*arguments, **options)[0], atol=1e-5, rtol=1e-5)

    def test_joins_to_the_same_layer(self, attention, inputs):
        arguments, options = inputs
        joined = SplitAttention(attention).joined()

        expected = attention.state_dict()
        assert joined.state_dict().keys() == expected.keys()
        for name, tensor in joined.state_dict().items():
            assert torch.equal(tensor, expected[name])
        assert torch.equal(joined(*arguments, **options)[0], attention(*arguments, **options)[0])

    def test_needs_biases(self):
        with pytest.raises(ValueError, match="attention that is batch first, with biases"):
            SplitAttention(nn.MultiheadAttention(64, 4, bias=False, batch_first=True))

    def test_returns_no_weights(self, attention):
        x = torch.zeros(1, 2, 64)
        with pytest.raises(ValueError, match="need_weights=False"):
            SplitAttention(attention)(x, x, x, need_weights=True)


@pytest.mark.usefixtures("peft")
@pytest.mark.parametrize(("kind", "tower"), list(NUM_LAYERS))
class TestAdapters:
    @pytest.fixture
    def towers(self, build, kind):
        return build(kind)

    @pytest.fixture
    def encode(self, towers, tower):
        """Embed fixed inputs with towers of this kind."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(4, 3, *towers.image_size, generator=generator)
        tokens = torch.randint(3, 400, (4, 12), generator=generator)
        tokens[:, 9:] = torch.tensor([2 if towers.name == "eos" else 499, 0, 0])

        def run(towers):
            return towers.encode_image(images) if tower == "image" else towers.encode_text(tokens)

        return run

    @pytest.fixture
    def adapters(self, towers, tower):
        """The trainable parameters of the adapted tower, by their names."""

        def find():
            own = towers.image_parameters() if tower == "image" else towers.text_parameters()
            own_ids = {id(parameter) for parameter in own}
            return {
                name: parameter
                for name, parameter in towers.named_parameters()
                if id(parameter) in own_ids and parameter.requires_grad
            }

        return find

    @pytest.fixture
    def train(self, towers, encode, adapters):
        """Take two steps."""

        def run():
            optimizer = torch.optim.SGD(adapters().values(), lr=1.0)
            for _ in range(2):
                optimizer.zero_grad()
                (encode(towers) - 1).square().sum().backward()
                optimizer.step()

        return run

    def test_start_without_effect(self, towers, kind, tower, encode):
        expected = encode(towers)
        generator = torch.random.get_rng_state()

        layers = add_lora(towers, 4, alpha=8, tower=tower)

        assert torch.equal(torch.random.get_rng_state(), generator)
        assert len(layers) == NUM_LAYERS[kind, tower]
        assert_close(encode(towers), expected, atol=1e-5, rtol=1e-5)

    def test_are_all_that_trains_in_their_tower(self, towers, tower, adapters):
        layers = add_lora(towers, 4, tower=tower)
        assert len(adapters()) == 2 * len(layers)
        assert all("lora_" in name for name in adapters())

    def test_leave_the_other_tower_as_it_is(self, towers, tower):
        other = towers.text_parameters if tower == "image" else towers.image_parameters
        before = list(other())
        add_lora(towers, 4, tower=tower)
        assert [id(parameter) for parameter in other()] == [id(parameter) for parameter in before]
        assert all(parameter.requires_grad for parameter in other())

    def test_all_get_gradient(self, towers, tower, adapters, train):
        add_lora(towers, 4, tower=tower)
        train()  # at the second step both factors have gradient
        assert all(float(parameter.grad.abs().sum()) > 0 for parameter in adapters().values())

    def test_train_while_the_weights_do_not_move(self, towers, tower, encode, train):
        expected, before = encode(towers), copy.deepcopy(towers.state_dict())
        add_lora(towers, 4, tower=tower)
        train()
        assert not torch.allclose(encode(towers), expected, atol=1e-4)

        num_compared = 0
        for name, parameter in towers.named_parameters():
            original = before.get(name.replace(".base_layer", ""))
            if "lora_" not in name and original is not None:
                assert torch.equal(parameter, original), name
                num_compared += 1
        assert num_compared > len(before) / 2

    def test_merge_into_the_layers_of_open_clip(self, towers, tower, encode, train, tmp_path):
        names = towers.state_dict().keys()
        layers = add_lora(towers, 4, alpha=8, tower=tower)
        train()
        trained = encode(towers)

        merge_lora(towers)

        assert towers.state_dict().keys() == names
        assert_close(encode(towers), trained, atol=1e-5, rtol=1e-5)
        save_towers(towers, tmp_path)
        assert_close(encode(load_towers(tmp_path).eval()), trained, atol=1e-5, rtol=1e-5)
        assert len(add_lora(towers, 2, tower=tower)) == len(layers)  # and again


@pytest.mark.usefixtures("peft")
def test_parts_are_adapted_alone(build):
    attention = add_lora(build("vit"), 2, parts=("attention",))
    mlp = add_lora(build("vit"), 2, parts=("mlp",))
    assert len(attention) == 8
    assert all(".attn." in name for name in attention)
    assert len(mlp) == 4
    assert all(".mlp." in name for name in mlp)


@pytest.mark.usefixtures("peft")
def test_the_seed_decides(build):
    def factors(seed):
        towers = build("vit")
        add_lora(towers, 2, seed=seed)
        return {name: p for name, p in towers.named_parameters() if "lora_A" in name}

    first, again, other = factors(0), factors(0), factors(1)
    assert all(torch.equal(factor, again[name]) for name, factor in first.items())
    assert not any(torch.equal(factor, other[name]) for name, factor in first.items())


@pytest.mark.usefixtures("peft")
def test_a_resnet_has_no_blocks_to_adapt(build):
    with pytest.raises(ValueError, match="a tower of transformer blocks, got ModifiedResNet"):
        add_lora(build("resnet"))


@pytest.mark.usefixtures("peft")
def test_adapters_are_not_added_twice(build):
    towers = build("vit")
    add_lora(towers, 2)
    with pytest.raises(
        ValueError, match=r"The image tower has adapters already\. Call merge_lora first"
    ):
        add_lora(towers, 2)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rank": 0}, "rank as a whole number >= 1"),
        ({"rank": "8"}, "rank as a whole number >= 1, got '8'"),
        ({"alpha": "8"}, "alpha as a number, got '8'"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\), got 1.0"),
        ({"parts": ("attn",)}, "each of parts to be one of attention, mlp, got 'attn'"),
        ({"seed": -1}, "seed as a whole number >= 0, got -1"),
    ],
)
def test_invalid_options(build, options, match):
    with pytest.raises(ValueError, match=f"add_lora: expected {match}"):
        add_lora(build("vit"), **options)


def test_a_missing_peft_is_named(build, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        ValueError, match=r"peft is not installed\. Run pip install clipreid_kit\[lora\]"
    ):
        add_lora(build("vit"))


def test_merging_without_adapters_changes_nothing(build):
    towers = build("vit")
    before = copy.deepcopy(towers.state_dict())
    merge_lora(towers)
    assert all(torch.equal(tensor, before[name]) for name, tensor in towers.state_dict().items())
