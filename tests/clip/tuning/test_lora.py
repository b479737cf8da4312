import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from clipreid_kit.clip import add_lora, load_towers, merge_lora, save_towers
from clipreid_kit.clip.tuning.lora import SplitAttention

NEEDS_PEFT = "peft is an extra"
# per block: q, k, v and out, two of the MLP; timm's test_vit and SigLIP keep q, k and v in one
COUNTS = {("vit", "image"): 12, ("vit", "text"): 12, ("timm", "image"): 24, ("eos", "text"): 12}


def attention(**options):
    layer = nn.MultiheadAttention(64, 4, batch_first=True, **options)
    nn.init.normal_(layer.in_proj_bias)
    nn.init.normal_(layer.out_proj.bias)
    return layer


@pytest.mark.parametrize("masked", [False, True])
def test_split_attention_is_torch_s(masked):
    layer = attention()
    split = SplitAttention(layer)
    x, query = torch.randn(3, 7, 64), torch.randn(3, 7, 64)
    mask = torch.full((7, 7), float("-inf")).triu(1) if masked else None
    expected = layer(query, x, x, need_weights=False, attn_mask=mask)[0]
    assert_close(
        split(query, x, x, need_weights=False, attn_mask=mask)[0], expected, atol=1e-5, rtol=1e-5
    )
    joined = split.joined()
    assert joined.state_dict().keys() == layer.state_dict().keys()
    for name, tensor in layer.state_dict().items():
        assert torch.equal(joined.state_dict()[name], tensor)
    assert torch.equal(joined(query, x, x, need_weights=False, attn_mask=mask)[0], expected)


def test_split_attention_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="attention that is batch first, with biases"):
        SplitAttention(nn.MultiheadAttention(64, 4, bias=False, batch_first=True))
    x = torch.zeros(1, 2, 64)
    with pytest.raises(ValueError, match="need_weights=False"):
        SplitAttention(attention())(x, x, x, need_weights=True)


def outputs(towers, tower):
    generator = torch.Generator().manual_seed(0)
    if tower == "image":
        return towers.encode_image(torch.randn(4, 3, *towers.image_size, generator=generator))
    rows = torch.randint(3, 400, (4, 12), generator=generator)
    rows[:, 9:] = torch.tensor([2 if towers.name == "eos" else 499, 0, 0])
    return towers.encode_text(rows)


@pytest.mark.parametrize(("kind", "tower"), list(COUNTS))
def test_adapters_start_as_nothing_train_alone_and_merge_exactly(build, tmp_path, kind, tower):
    pytest.importorskip("peft", reason=NEEDS_PEFT)
    towers = build(kind)
    expected, before = outputs(towers, tower), copy.deepcopy(towers.state_dict())
    other = {name: p.requires_grad for name, p in towers.named_parameters()}
    generator = torch.random.get_rng_state()
    layers = add_lora(towers, 4, alpha=8, tower=tower)
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert len(layers) == COUNTS[kind, tower]
    assert_close(outputs(towers, tower), expected, atol=1e-5, rtol=1e-5)

    own = set(towers.image_parameters() if tower == "image" else towers.text_parameters())
    adapters = {name: p for name, p in towers.named_parameters() if p in own and p.requires_grad}
    assert len(adapters) == 2 * len(layers)
    assert all("lora_" in name for name in adapters)
    assert all(
        p.requires_grad for name, p in towers.named_parameters() if p not in own and name in other
    )

    optimizer = torch.optim.SGD(adapters.values(), lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        (outputs(towers, tower) - 1).square().sum().backward()
        optimizer.step()
    # at the second step both factors have gradient, in every layer that claims an adapter
    assert all(float(p.grad.abs().sum()) > 0 for p in adapters.values())
    trained = outputs(towers, tower)
    assert not torch.allclose(trained, expected, atol=1e-4)
    frozen = {
        name.replace(".base_layer", ""): p
        for name, p in towers.named_parameters()
        if "lora_" not in name
    }
    for name, tensor in before.items():
        if name in frozen:
            assert torch.equal(frozen[name], tensor), name

    merge_lora(towers)
    assert towers.state_dict().keys() == before.keys()
    assert_close(outputs(towers, tower), trained, atol=1e-5, rtol=1e-5)
    save_towers(towers, tmp_path)
    assert_close(outputs(load_towers(tmp_path).eval(), tower), trained, atol=1e-5, rtol=1e-5)
    assert len(add_lora(towers, 2, tower=tower)) == len(layers)  # and again


def test_parts_and_seed(build):
    pytest.importorskip("peft", reason=NEEDS_PEFT)
    first, again, other = build("vit"), build("vit"), build("vit")
    assert len(add_lora(first, 2, parts=("attention",))) == 8
    assert all(".mlp." in name for name in add_lora(build("vit"), 2, parts=("mlp",)))
    add_lora(again, 2, parts=("attention",))
    add_lora(other, 2, parts=("attention",), seed=1)
    tables = [
        {n: p for n, p in t.named_parameters() if "lora_A" in n} for t in (first, again, other)
    ]
    assert all(torch.equal(tables[0][name], tables[1][name]) for name in tables[0])
    assert not any(torch.equal(tables[0][name], tables[2][name]) for name in tables[0])


def test_errors_with_peft(build):
    pytest.importorskip("peft", reason=NEEDS_PEFT)
    with pytest.raises(ValueError, match="a tower of transformer blocks, got ModifiedResNet"):
        add_lora(build("resnet"))
    towers = build("vit")
    add_lora(towers, 2)
    with pytest.raises(
        ValueError, match=r"The image tower has adapters already\. Call merge_lora first"
    ):
        add_lora(towers, 2)


def test_errors(build, monkeypatch):
    for options, match in [
        ({"rank": 0}, "rank as a whole number >= 1"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\), got 1.0"),
    ]:
        with pytest.raises(ValueError, match=match):
            add_lora(build("vit"), **options)
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(
        ValueError, match=r"peft is not installed\. Run pip install clipreid_kit\[lora\]"
    ):
        add_lora(build("vit"))


def test_merging_nothing_changes_nothing(build):
    towers = build("vit")
    before = copy.deepcopy(towers.state_dict())
    merge_lora(towers)
    assert all(torch.equal(tensor, before[name]) for name, tensor in towers.state_dict().items())
