import pytest
import torch
from tiny_towers import tiny_towers
from torch import nn

from clipreid_kit.clip import (
    CameraEmbedding,
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


def settings(module, groups):
    """(learning rate, weight decay) of each parameter by its name; each is in one group."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found = {}
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert name not in found
            found[name] = (group["lr"], group["weight_decay"])
    return found


def learning_rates(module, groups):
    return {name: lr for name, (lr, _) in settings(module, groups).items()}


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm", "convnext", "siglip", "eva"])
@pytest.mark.parametrize("blocks", [0, 1, "all"])
def test_every_trainable_parameter_is_in_exactly_one_group(build, kind, blocks):
    method = Method(build(kind))
    unfreeze_last_blocks(method.towers, blocks)

    groups = layerwise_lr_groups(
        method, 1e-3, layer_decay=0.7, weight_decay=0.1, bias_lr_factor=2.0
    )

    trainable = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    assert settings(method, groups).keys() == trainable
    assert len({group["name"] for group in groups}) == len(groups)
    torch.optim.AdamW(groups).step()


class TestByHand:
    @pytest.fixture
    def groups(self, method):
        return layerwise_lr_groups(
            method, 8.0, layer_decay=0.5, weight_decay=0.1, bias_lr_factor=10.0
        )

    @pytest.mark.parametrize(
        ("name", "lr", "weight_decay"),
        [
            ("towers.model.visual.proj", 8.0, 0.1),
            ("towers.model.visual.ln_post.weight", 8.0, 0.0),
            ("towers.model.visual.ln_post.bias", 80.0, 0.0),
            ("towers.model.visual.transformer.resblocks.1.mlp.c_fc.weight", 4.0, 0.1),
            ("towers.model.visual.transformer.resblocks.1.attn.in_proj_bias", 40.0, 0.0),
            ("towers.model.visual.transformer.resblocks.0.mlp.c_fc.weight", 2.0, 0.1),
            ("towers.model.visual.conv1.weight", 1.0, 0.1),
            ("towers.model.visual.positional_embedding", 1.0, 0.0),
            ("towers.model.visual.class_embedding", 1.0, 0.0),
            ("towers.camera_embedding.table", 1.0, 0.0),
            ("towers.model.token_embedding.weight", 1.0, 0.1),
            ("towers.model.positional_embedding", 1.0, 0.0),
            ("towers.model.text_projection", 8.0, 0.1),
            ("towers.model.logit_scale", 8.0, 0.0),
            ("neck.weight", 8.0, 0.0),
            ("neck.bias", 80.0, 0.0),
            ("classifier.weight", 8.0, 0.1),
        ],
    )
    def test_settings(self, method, groups, name, lr, weight_decay):
        assert settings(method, groups)[name] == pytest.approx((lr, weight_decay))

    def test_names_of_groups(self, groups):
        names = {group["name"] for group in groups}
        assert {
            "image head",
            "image block 1",
            "image embeddings, no decay",
            "image block 2, bias, no decay",
        } <= names


def test_groups_of_clip_reid(method):
    groups = layerwise_lr_groups(method, 5e-6, weight_decay=1e-4, bias_lr_factor=2.0, no_decay=())
    for name, (lr, weight_decay) in settings(method, groups).items():
        assert lr == (1e-5 if "bias" in name else 5e-6)
        assert weight_decay == 1e-4


def test_the_longest_prefix_applies(method):
    rates = {"": 1.0, "towers.model": 2.0, "towers.model.visual.conv1": 4.0, "neck": 8.0}

    found = learning_rates(method, layerwise_lr_groups(method, rates))

    assert found["towers.model.visual.conv1.weight"] == 4.0
    assert found["towers.model.visual.proj"] == 2.0
    assert found["towers.camera_embedding.table"] == 1.0
    assert found["neck.weight"] == 8.0
    assert found["classifier.weight"] == 1.0


def test_suffixes_without_weight_decay(method):
    groups = layerwise_lr_groups(method, 1.0, weight_decay=0.1, no_decay=("proj", "neck.weight"))
    exempt = {name for name, (_, decay) in settings(method, groups).items() if decay == 0}
    assert exempt == {"towers.model.visual.proj", "neck.weight"}


class TestParametersWithoutARate:
    def test_are_listed(self, method):
        with pytest.raises(
            ValueError,
            match=r"got none for towers\.camera_embedding\.table, neck\.weight, neck\.bias\. Add",
        ):
            layerwise_lr_groups(method, {"towers.model": 1.0, "classifier": 1.0})

    def test_are_listed_if_they_train(self, method):
        freeze(method.towers)
        with pytest.raises(ValueError, match=r"got none for neck\.weight, neck\.bias\."):
            layerwise_lr_groups(method, {"classifier": 1.0})

    def test_are_listed_up_to_ten(self):
        towers = tiny_towers()
        with pytest.raises(ValueError, match=r"ln_1\.weight.* and \d+ more"):
            layerwise_lr_groups(towers, {"model.visual.proj": 1.0})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"lr": {"necks": 1.0, "": 1.0}},
            "prefixes in lr that some parameter's name has, got 'necks'",
        ),
        ({"lr": {"nec": 1.0, "": 1.0}}, "got 'nec'"),
        ({"lr": -1.0}, "lr >= 0"),
        ({"lr": "1e-3"}, "lr as a number, got '1e-3'"),
        ({"lr": {"neck": None, "": 1.0}}, "lr of 'neck' as a number, got None"),
        ({"lr": 1.0, "layer_decay": 1.5}, r"layer_decay in \(0, 1\], got 1.5"),
        ({"lr": 1.0, "layer_decay": 0.0}, "layer_decay > 0"),
        ({"lr": 1.0, "weight_decay": -0.1}, "weight_decay >= 0"),
        ({"lr": 1.0, "bias_lr_factor": 0.0}, "bias_lr_factor > 0"),
    ],
)
@pytest.mark.unhooked
def test_invalid_options(method, options, match):
    with pytest.raises(ValueError, match=f"layerwise_lr_groups: .*{match}"):
        layerwise_lr_groups(method, **options)


def test_a_module_that_does_not_train(method):
    method.requires_grad_(requires_grad=False)
    with pytest.raises(
        ValueError, match="a module with trainable parameters, got Method without any"
    ):
        layerwise_lr_groups(method, 1.0)
