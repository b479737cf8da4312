import copy
import itertools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from clipreid_kit.clip import (
    CameraEmbedding,
    freeze,
    projection_names,
    set_trainable,
    unfreeze_last_blocks,
)
from clipreid_kit.clip.tuning.freezing import freeze_projection

TEXTS = ["a coat", "a hat", "a bag", "a red bag"]


def trainable(towers):
    return {name for name, parameter in towers.named_parameters() if parameter.requires_grad}


def trainable_in_image_tower(towers):
    return {name for name in trainable(towers) if name.startswith("model.visual.")}


def train_step(towers):
    """Take one step on both towers, as far as they train."""
    towers.train()
    image, text = towers(torch.randn(4, 3, *towers.image_size), towers.tokenize(TEXTS))
    loss = (image - text).square().sum()
    if loss.requires_grad:
        loss.backward()

    with_gradient = [p for p in towers.parameters() if p.grad is not None]
    if with_gradient:
        torch.optim.SGD(with_gradient, lr=0.1, weight_decay=0.1).step()


def moved_by_a_step(towers):
    """Names of the parameters and buffers that a step changes."""
    before = copy.deepcopy(towers.state_dict())
    train_step(towers)
    after = towers.state_dict()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


class TestFreeze:
    @pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
    def test_both_towers_stay_to_the_bit(self, build, kind):
        towers = build(kind)
        freeze(towers)
        assert trainable(towers) == set()
        assert moved_by_a_step(towers) == set()

    @pytest.mark.parametrize("kind", ["vit", "resnet"])
    def test_the_text_tower_alone(self, build, kind):
        towers = build(kind)
        names = [name for name, _ in towers.named_parameters()]

        freeze(towers, "text")

        assert trainable(towers) == {name for name in names if name.startswith("model.visual.")}
        moved = moved_by_a_step(towers)
        assert moved
        assert all(name.startswith("model.visual.") for name in moved)

    @pytest.mark.parametrize("kind", ["vit", "resnet"])
    def test_the_image_tower_alone(self, build, kind):
        towers = build(kind)
        freeze(towers, "image")
        assert trainable_in_image_tower(towers) == set()
        assert trainable(towers)
        assert not any(name.startswith("model.visual.") for name in moved_by_a_step(towers))

    @pytest.mark.parametrize(
        ("kind", "name"), [("vit", "proj"), ("resnet", "attnpool"), ("timm", "head")]
    )
    def test_the_projection_alone(self, build, kind, name):
        towers = build(kind)
        before = trainable(towers)
        freeze_projection(towers)
        assert {frozen.split(".")[2] for frozen in before - trainable(towers)} == {name}


# names inside an image tower: the head, the blocks, and the numbers of the blocks
HEADS = {
    "vit": ("ln_post", "proj"),
    "resnet": ("attnpool",),
    "timm": ("trunk.norm", "trunk.fc_norm", "head"),
}
BLOCKS = {"vit": "transformer.resblocks.{}.", "resnet": "layer{}.", "timm": "trunk.blocks.{}."}
NUMBERS = {"vit": [0, 1], "resnet": [1, 2, 3, 4], "timm": [0, 1, 2, 3, 4, 5]}
COUNTS = [(kind, count) for kind, blocks in NUMBERS.items() for count in range(len(blocks) + 1)]


class TestUnfreezeLastBlocks:
    @pytest.mark.parametrize(("kind", "count"), COUNTS)
    def test_blocks_train_with_the_head_behind_them(self, build, kind, count):
        towers = build(kind)
        first = len(NUMBERS[kind]) - count
        prefixes = [BLOCKS[kind].format(number) for number in NUMBERS[kind][first:]]
        expected = {
            f"model.visual.{name}"
            for name, _ in towers.model.visual.named_parameters()
            if name.startswith((*prefixes, *HEADS[kind]))
        }

        unfreeze_last_blocks(towers, count)

        assert expected
        assert trainable_in_image_tower(towers) == expected

    @pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
    def test_all_trains_the_whole_tower(self, build, kind):
        towers = build(kind)
        for name, parameter in towers.named_parameters():
            if "bn3.weight" in name:  # initialised to 0, which keeps gradient from the block
                nn.init.ones_(parameter)

        unfreeze_last_blocks(towers, "all")

        names = {f"model.visual.{name}" for name, _ in towers.model.visual.named_parameters()}
        assert trainable_in_image_tower(towers) == names
        assert moved_by_a_step(towers) >= names

    def test_blocks_of_the_text_tower(self, build):
        towers = build("vit")
        unfreeze_last_blocks(towers, 1, tower="text")

        text = trainable(towers) - trainable_in_image_tower(towers)
        parts = {name.split(".")[1] for name in text}
        blocks = {name.split(".")[3] for name in text if ".resblocks." in name}
        assert parts == {"transformer", "ln_final", "text_projection", "logit_scale"}
        assert blocks == {"1"}

    def test_a_camera_embedding_trains_with_any_block(self, build):
        towers = build("vit")
        towers.camera_embedding = CameraEmbedding(128, num_cameras=2)

        unfreeze_last_blocks(towers, 1)
        assert "camera_embedding.table" in trainable(towers)
        assert "model.visual.class_embedding" not in trainable(towers)

        freeze(towers, "image")
        assert "camera_embedding.table" not in trainable(towers)


def stages_with_kept_statistics(towers):
    """Stages of a ResNet whose running statistics a step does not move."""
    moved = moved_by_a_step(towers)
    kept = set()
    for name, module in towers.model.visual.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            buffers = {f"model.visual.{name}.{kind}" for kind in ("running_mean", "running_var")}
            if not buffers & moved:
                kept.add(name.split(".")[0])
    return kept


class TestRunningStatistics:
    @pytest.fixture
    def towers(self, build):
        return build("resnet")

    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            ("follow", {"bn1", "bn2", "bn3", "layer1", "layer2"}),
            ("frozen", {"bn1", "bn2", "bn3", "layer1", "layer2", "layer3", "layer4"}),
            ("running", set()),
        ],
    )
    def test_policies(self, towers, policy, expected):
        unfreeze_last_blocks(towers, 2, batch_norm=policy)
        assert stages_with_kept_statistics(towers) == expected

        towers.eval().train()  # the policy survives a change of mode
        assert stages_with_kept_statistics(towers) == expected

    def test_kept_statistics_are_those_in_use(self, towers):
        images = torch.randn(2, 3, 64, 64)
        expected = towers.encode_image(images)
        freeze(towers)
        assert_close(towers.train().encode_image(images), expected, atol=1e-6, rtol=1e-5)

    def test_a_policy_replaces_the_one_before(self, towers):
        images = torch.randn(2, 3, 64, 64)
        expected = towers.encode_image(images)
        freeze(towers.train())

        freeze(towers, batch_norm="running")
        assert not torch.allclose(towers.encode_image(images), expected)

        freeze(towers)
        norms = [module for module in towers.modules() if isinstance(module, nn.BatchNorm2d)]
        assert towers.training
        assert not any(norm.training for norm in norms)

    def test_a_policy_survives_a_copy(self, towers):
        freeze(towers)
        twin = copy.deepcopy(towers).train()
        assert twin.frozen_batch_norms == towers.frozen_batch_norms
        assert twin.frozen_batch_norms
        assert moved_by_a_step(twin) == set()


class TestSetTrainable:
    @pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
    @pytest.mark.parametrize(
        ("image", "text"), list(itertools.product(("none", 0, 1, "all"), ("none", 1, "all")))
    )
    def test_equals_two_calls(self, build, kind, image, text):
        expected = build(kind)
        for tower, blocks in (("image", image), ("text", text)):
            if blocks == "none":
                freeze(expected, tower, batch_norm="running")
            else:
                unfreeze_last_blocks(expected, blocks, tower=tower, batch_norm="running")

        found = build(kind)
        freeze(found)  # a state to be replaced
        set_trainable(found, image=image, text=text, temperature=True, batch_norm="running")

        assert trainable(found) == trainable(expected)
        assert found.frozen_batch_norms == expected.frozen_batch_norms

    @pytest.mark.parametrize("text", ["none", 1, "all"])
    def test_the_temperature_is_frozen_by_default(self, build, text):
        with_temperature, without = build("vit"), build("vit")
        set_trainable(with_temperature, text=text, temperature=True)
        set_trainable(without, text=text)
        assert trainable(without) == trainable(with_temperature) - {"model.logit_scale"}


PROJECTIONS = {
    "vit": {"model.visual.proj", "model.text_projection"},
    "resnet": {
        "model.visual.attnpool.c_proj.weight",
        "model.visual.attnpool.c_proj.bias",
        "model.text_projection",
    },
    "timm": {"model.visual.head.proj.weight", "model.text.text_projection"},
    "eva": {
        "model.visual.trunk.head.weight",
        "model.visual.trunk.head.bias",
        "model.text.text_projection",
    },
    "convnext": {"model.visual.head.proj.weight", "model.text_projection"},
    # its image tower has none
    "siglip": {"model.text.text_projection.weight", "model.text.text_projection.bias"},
    "eos": {
        "model.visual.proj",
        "model.text.text_projection.weight",
        "model.text.text_projection.bias",
    },
    # none into its vocabulary
    "coca": {"model.visual.proj", "model.text.text_projection"},
}


@pytest.mark.parametrize(("kind", "projections"), list(PROJECTIONS.items()))
class TestProjections:
    def test_are_found(self, build, kind, projections):
        towers = build(kind)
        assert set(projection_names(towers)) == projections
        for name, parameter in towers.named_parameters():
            if name in projections:
                assert towers.embed_dim in parameter.shape

    def test_can_be_kept(self, build, kind, projections):
        towers = build(kind)
        set_trainable(towers, text="all", projections=False)
        assert not trainable(towers) & projections
        assert len(trainable(towers)) > 20

    def test_train_by_default(self, build, kind, projections):
        towers = build(kind)
        set_trainable(towers, text="all")
        assert trainable(towers) >= projections


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("work", "match"),
    [
        (lambda towers: unfreeze_last_blocks(towers, 3), r'blocks in 0\.\.2 or "all", got 3'),
        (lambda towers: unfreeze_last_blocks(towers, -1), r'blocks in 0\.\.2 or "all", got -1'),
        (lambda towers: unfreeze_last_blocks(towers, True), r'blocks in 0\.\.2 or "all", got True'),
        (lambda towers: unfreeze_last_blocks(towers, 1.5), r'blocks in 0\.\.2 or "all", got 1.5'),
        (
            lambda towers: unfreeze_last_blocks(towers, "last"),
            r'blocks in 0\.\.2 or "all", got \'last\'',
        ),
        (
            lambda towers: unfreeze_last_blocks(towers, "none"),
            r'blocks in 0\.\.2 or "all", got \'none\'',
        ),
        (
            lambda towers: unfreeze_last_blocks(towers, 1, tower="both"),
            "tower to be one of image, text",
        ),
        (lambda towers: freeze(towers, "images"), "tower to be one of both, image, text"),
        (
            lambda towers: freeze(towers, batch_norm="eval"),
            "batch_norm to be one of follow, frozen, running",
        ),
        (
            lambda towers: set_trainable(towers, batch_norm="eval"),
            "batch_norm to be one of follow, frozen, running",
        ),
    ],
)
def test_unknown_options(build, work, match):
    with pytest.raises(ValueError, match=match):
        work(build("vit"))


@pytest.mark.unhooked
@pytest.mark.parametrize("wrong", ["some", None, 1.5, True, 3, -1])
@pytest.mark.parametrize(("tower", "other"), [("image", "text"), ("text", "image")])
def test_wrong_blocks_change_neither_tower(build, wrong, tower, other):
    towers = build("vit")
    before = trainable(towers)
    with pytest.raises(
        ValueError,
        match=rf'set_trainable: expected {tower} as a number of blocks in 0\.\.2, "all" or "none"',
    ):
        set_trainable(towers, **{tower: wrong, other: "none"})
    assert trainable(towers) == before
