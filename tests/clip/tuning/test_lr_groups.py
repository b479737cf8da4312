import pytest
import torch
from torch import nn

from clipreid_kit.clip import (
    CameraEmbedding,
    ClipTowers,
    freeze,
    layerwise_lr_groups,
    unfreeze_last_blocks,
)


class Method(nn.Module):
    def __init__(self, towers):
        super().__init__()
        self.towers = towers
        self.neck = nn.BatchNorm1d(8)
        self.classifier = nn.Linear(8, 3, bias=False)


@pytest.fixture
def method(build):
    towers = build("vit")
    towers.camera_embedding = CameraEmbedding(128, num_cameras=2)
    return Method(towers)


def rate_of(module, groups):
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    rows = [
        (names[id(p)], group["lr"], group["weight_decay"])
        for group in groups
        for p in group["params"]
    ]
    assert len(rows) == len({name for name, _, _ in rows})
    return {name: (lr, decay) for name, lr, decay in rows}


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm", "convnext", "siglip", "eva"])
@pytest.mark.parametrize("blocks", [0, 1, "all"])
def test_every_trainable_parameter_stands_in_exactly_one_group(build, kind, blocks):
    method = Method(build(kind))
    unfreeze_last_blocks(method.towers, blocks)
    groups = layerwise_lr_groups(
        method, 1e-3, layer_decay=0.7, weight_decay=0.1, bias_lr_factor=2.0
    )
    wanted = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    assert rate_of(method, groups).keys() == wanted
    assert len({group["name"] for group in groups}) == len(groups)
    torch.optim.AdamW(groups).step()


def test_rates_by_hand(method):
    groups = layerwise_lr_groups(
        method, 8.0, layer_decay=0.5, weight_decay=0.1, bias_lr_factor=10.0
    )
    rates = rate_of(method, groups)
    for name, expected in {
        "towers.model.visual.proj": (8.0, 0.1),
        "towers.model.visual.ln_post.weight": (8.0, 0.0),
        "towers.model.visual.ln_post.bias": (80.0, 0.0),
        "towers.model.visual.transformer.resblocks.1.mlp.c_fc.weight": (4.0, 0.1),
        "towers.model.visual.transformer.resblocks.1.attn.in_proj_bias": (40.0, 0.0),
        "towers.model.visual.transformer.resblocks.0.mlp.c_fc.weight": (2.0, 0.1),
        "towers.model.visual.conv1.weight": (1.0, 0.1),
        "towers.model.visual.positional_embedding": (1.0, 0.0),
        "towers.model.visual.class_embedding": (1.0, 0.0),
        "towers.camera_embedding.table": (1.0, 0.0),
        "towers.model.token_embedding.weight": (1.0, 0.1),
        "towers.model.positional_embedding": (1.0, 0.0),
        "towers.model.text_projection": (8.0, 0.1),
        "towers.model.logit_scale": (8.0, 0.0),
        "neck.weight": (8.0, 0.0),
        "neck.bias": (80.0, 0.0),
        "classifier.weight": (8.0, 0.1),
    }.items():
        assert rates[name] == pytest.approx(expected), name
    labels = {group["name"] for group in groups}
    assert {
        "image head",
        "image block 1",
        "image embeddings, no decay",
        "image block 2, bias, no decay",
    } <= labels


def test_clip_reid_s_groups(method):
    groups = layerwise_lr_groups(method, 5e-6, weight_decay=1e-4, bias_lr_factor=2.0, no_decay=())
    rates = rate_of(method, groups)
    assert {lr for name, (lr, _) in rates.items() if "bias" not in name} == {5e-6}
    assert {lr for name, (lr, _) in rates.items() if "bias" in name} == {1e-5}
    assert {decay for _, decay in rates.values()} == {1e-4}


def test_the_longest_name_that_fits_counts(method):
    rates = {"": 1.0, "towers.model": 2.0, "towers.model.visual.conv1": 4.0, "neck": 8.0}
    found = rate_of(method, layerwise_lr_groups(method, rates))
    assert found["towers.model.visual.conv1.weight"][0] == 4.0
    assert found["towers.model.visual.proj"][0] == 2.0
    assert found["towers.camera_embedding.table"][0] == 1.0
    assert found["neck.weight"][0] == 8.0
    assert found["classifier.weight"][0] == 1.0


def test_ends_of_names_without_decay(method):
    found = rate_of(
        method, layerwise_lr_groups(method, 1.0, weight_decay=0.1, no_decay=("proj", "neck.weight"))
    )
    spared = {name for name, (_, decay) in found.items() if decay == 0}
    assert spared == {"towers.model.visual.proj", "neck.weight"}


def test_orphans_are_listed(method):
    with pytest.raises(
        ValueError,
        match=r"got none for towers\.camera_embedding\.table, neck\.weight, neck\.bias\. Ad",
    ):
        layerwise_lr_groups(method, {"towers.model": 1.0, "classifier": 1.0})
    freeze(method.towers)
    with pytest.raises(ValueError, match=r"got none for neck\.weight, neck\.bias\."):
        layerwise_lr_groups(method, {"classifier": 1.0})
    with pytest.raises(ValueError, match=r"ln_1\.weight.* and \d+ more"):
        layerwise_lr_groups(ClipTowers.from_open_clip("reid-tiny-vit"), {"model.visual.proj": 1.0})


def test_errors(method):
    for options, match in [
        (
            {"lr": {"necks": 1.0, "": 1.0}},
            "prefixes in lr that some parameter's name has, got 'necks'",
        ),
        ({"lr": {"nec": 1.0, "": 1.0}}, "got 'nec'"),
        ({"lr": -1.0}, "lr >= 0"),
        ({"lr": 1.0, "layer_decay": 1.5}, r"layer_decay in \(0, 1\], got 1.5"),
        ({"lr": 1.0, "layer_decay": 0.0}, "layer_decay > 0"),
        ({"lr": 1.0, "weight_decay": -0.1}, "weight_decay >= 0"),
        ({"lr": 1.0, "bias_lr_factor": 0.0}, "bias_lr_factor > 0"),
    ]:
        with pytest.raises(ValueError, match=match):
            layerwise_lr_groups(method, **options)
    method.requires_grad_(requires_grad=False)
    with pytest.raises(
        ValueError, match="a module with trainable parameters, got Method without any"
    ):
        layerwise_lr_groups(method, 1.0)
