import copy

import pytest
import torch
from torch import nn

from clipreid_kit.clip import (
    CameraEmbedding,
    freeze,
    projection_names,
    set_trainable,
    unfreeze_last_blocks,
)
from clipreid_kit.clip.tuning.freezing import freeze_projection


def trainable(towers):
    return {name for name, parameter in towers.named_parameters() if parameter.requires_grad}


def step(towers):
    """One step of training on both towers, as far as they train."""
    towers.train()
    images = torch.randn(4, 3, *towers.image_size)
    image, text = towers(images, towers.tokenize(["a coat", "a hat", "a bag", "a red bag"]))
    loss = (image - text).square().sum()
    if loss.requires_grad:
        loss.backward()
    parameters = [parameter for parameter in towers.parameters() if parameter.grad is not None]
    if parameters:
        torch.optim.SGD(parameters, lr=0.1, weight_decay=0.1).step()


def moved(towers, work):
    before = copy.deepcopy(towers.state_dict())
    work(towers)
    return {
        name
        for name, tensor in towers.state_dict().items()
        if not torch.equal(tensor, before[name])
    }


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_frozen_towers_stay_as_they_are_to_the_bit(build, kind):
    towers = build(kind)
    freeze(towers)
    assert trainable(towers) == set()
    assert moved(towers, step) == set()


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_one_tower_can_be_frozen_alone(build, kind):
    towers = build(kind)
    freeze(towers, "text")
    assert trainable(towers) == {
        name for name, _ in towers.named_parameters() if name.startswith("model.visual.")
    }
    assert not any(name.startswith("model.transformer.") for name in moved(towers, step))
    unfreeze_last_blocks(towers, "all", tower="text")
    freeze(towers, "image")
    assert not any(name.startswith("model.visual.") for name in trainable(towers))
    assert not any(name.startswith("model.visual.") for name in moved(towers, step))


HEADS = {
    "vit": ("ln_post", "proj"),
    "resnet": ("attnpool",),
    "timm": ("trunk.norm", "trunk.fc_norm", "head"),
}
BLOCKS = {"vit": "transformer.resblocks.{}.", "resnet": "layer{}.", "timm": "trunk.blocks.{}."}
NUMBERS = {"vit": [0, 1], "resnet": [1, 2, 3, 4], "timm": list(range(6))}


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_last_blocks_train_with_the_head_behind_them(build, kind):
    towers = build(kind)
    text = {name for name in trainable(towers) if not name.startswith("model.visual.")}
    names = [name for name, _ in towers.model.visual.named_parameters()]
    numbers = [
        number
        for number in NUMBERS[kind]
        if any(n.startswith(BLOCKS[kind].format(number)) for n in names)
    ]
    for count in range(len(numbers) + 1):
        unfreeze_last_blocks(towers, count)
        open_blocks = tuple(
            BLOCKS[kind].format(number) for number in numbers[len(numbers) - count :]
        )
        expected = {
            f"model.visual.{name}"
            for name in names
            if name.startswith((*open_blocks, *HEADS[kind]))
        }
        assert trainable(towers) - text == expected
        assert expected
    unfreeze_last_blocks(towers, "all")
    assert trainable(towers) - text == {f"model.visual.{name}" for name in names}
    for name, parameter in towers.named_parameters():
        if "bn3.weight" in name:  # zero at the start, which keeps gradient from the rest of a block
            nn.init.ones_(parameter)
    assert moved(towers, step) >= trainable(towers) - text


def test_last_blocks_of_text(build):
    towers = build("vit")
    unfreeze_last_blocks(towers, 1, tower="text")
    text = {name for name in trainable(towers) if not name.startswith("model.visual.")}
    assert {name.split(".")[1] for name in text} == {
        "transformer",
        "ln_final",
        "text_projection",
        "logit_scale",
    }
    assert {name.split(".")[3] for name in text if ".resblocks." in name} == {"1"}


@pytest.mark.parametrize(
    ("kind", "names"), [("vit", {"proj"}), ("resnet", {"attnpool"}), ("timm", {"head"})]
)
def test_the_projection_can_be_frozen_alone(build, kind, names):
    towers = build(kind)
    before = trainable(towers)
    freeze_projection(towers)
    assert {name.split(".")[2] for name in before - trainable(towers)} == names


def test_a_camera_embedding_trains_with_whatever_does(build):
    towers = build("vit")
    towers.camera_embedding = CameraEmbedding(128, num_cameras=2)
    unfreeze_last_blocks(towers, 1)
    assert "camera_embedding.table" in trainable(towers)
    assert "model.visual.class_embedding" not in trainable(towers)
    freeze(towers, "image")
    assert "camera_embedding.table" not in trainable(towers)


def still(towers):
    """Stages of a ResNet whose statistics did not move in a step."""
    names = moved(towers, step)
    visual = towers.model.visual
    norms = [name for name, module in visual.named_modules() if isinstance(module, nn.BatchNorm2d)]
    return {
        name.split(".")[0]
        for name in norms
        if not any(
            f"model.visual.{name}.{buffer}" in names for buffer in ("running_mean", "running_var")
        )
    }


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("follow", {"bn1", "bn2", "bn3", "layer1", "layer2"}),
        ("frozen", {"bn1", "bn2", "bn3", "layer1", "layer2", "layer3", "layer4"}),
        ("running", set()),
    ],
)
def test_policies_of_running_statistics(build, policy, expected):
    towers = build("resnet")
    unfreeze_last_blocks(towers, 2, batch_norm=policy)
    assert still(towers) == expected
    towers.eval().train()  # the mode does not forget the policy
    assert still(towers) == expected


def test_frozen_statistics_are_also_those_in_use(build):
    towers = build("resnet")
    images = torch.randn(2, 3, 64, 64)
    expected = towers.encode_image(images)
    freeze(towers)
    assert torch.equal(towers.train().encode_image(images), expected)
    freeze(towers, batch_norm="running")
    assert not torch.allclose(towers.encode_image(images), expected)
    freeze(towers)
    assert towers.training
    assert not any(
        module.training for module in towers.modules() if isinstance(module, nn.BatchNorm2d)
    )


def test_the_policy_survives_a_copy(build):
    towers = build("resnet")
    freeze(towers)
    assert copy.deepcopy(towers).train().frozen_batch_norms == towers.frozen_batch_norms
    assert moved(copy.deepcopy(towers), step) == set()


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("work", "match"),
    [
        (lambda towers: unfreeze_last_blocks(towers, 3), r'blocks in 0\.\.2 or "all", got 3'),
        (lambda towers: unfreeze_last_blocks(towers, -1), r'blocks in 0\.\.2 or "all", got -1'),
        (lambda towers: unfreeze_last_blocks(towers, True), r'blocks in 0\.\.2 or "all", got True'),
        (
            lambda towers: unfreeze_last_blocks(towers, "last"),
            r'blocks in 0\.\.2 or "all", got \'last\'',
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
    ],
)
def test_errors(build, work, match):
    with pytest.raises(ValueError, match=match):
        work(build("vit"))


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_one_call_sets_what_two_would(build, kind):
    for image in ("none", 0, 1, "all"):
        for text in ("none", 1, "all"):
            found, expected = build(kind), build(kind)
            freeze(found)  # whatever was before
            set_trainable(found, image=image, text=text, temperature=True, batch_norm="running")
            for tower, blocks in (("image", image), ("text", text)):
                if blocks == "none":
                    freeze(expected, tower, batch_norm="running")
                else:
                    unfreeze_last_blocks(expected, blocks, tower=tower, batch_norm="running")
            assert trainable(found) == trainable(expected)
            assert found.frozen_batch_norms == expected.frozen_batch_norms
            set_trainable(found, image=image, text=text)
            assert trainable(found) == trainable(expected) - {"model.logit_scale"}


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
    "siglip": {
        "model.text.text_projection.weight",
        "model.text.text_projection.bias",
    },  # its image tower has none
    "eos": {
        "model.visual.proj",
        "model.text.text_projection.weight",
        "model.text.text_projection.bias",
    },
    "coca": {"model.visual.proj", "model.text.text_projection"},  # and none into the vocabulary
}


@pytest.mark.parametrize("kind", list(PROJECTIONS))
def test_projections_are_found_and_left_alone(build, kind):
    towers = build(kind)
    assert set(projection_names(towers)) == PROJECTIONS[kind]
    width = towers.embed_dim
    shapes = [
        parameter.shape
        for name, parameter in towers.named_parameters()
        if name in PROJECTIONS[kind]
    ]
    assert all(width in shape for shape in shapes)
    set_trainable(towers, text="all", projections=False)
    assert not trainable(towers) & PROJECTIONS[kind]
    assert len(trainable(towers)) > 20
    set_trainable(towers, text="all")
    assert trainable(towers) >= PROJECTIONS[kind]


@pytest.mark.unhooked
def test_wrong_blocks_are_refused(build):
    for wrong in ("some", None, 1.5, True, 3, -1):
        for tower in ("image", "text"):
            towers = build("vit")
            before = trainable(towers)
            other = {"text" if tower == "image" else "image": "none"}
            with pytest.raises(
                ValueError,
                match=rf"set_trainable: expected {tower} as a number of blocks in 0\.\.2, \"all\" or",
            ):
                set_trainable(towers, **{tower: wrong}, **other)
            assert trainable(towers) == before  # of both
        if wrong is not None:
            with pytest.raises(ValueError, match="unfreeze_last_blocks: expected blocks in"):
                unfreeze_last_blocks(build("vit"), wrong)
