import json

import pytest
import timm
import torch
import torchvision
from torch.testing import assert_close

from clipreid_kit.clip import (
    ClipBaseline,
    ClipTowers,
    freeze,
    layerwise_lr_groups,
    load_towers,
    load_weights,
    save_towers,
    set_trainable,
    unfreeze_last_blocks,
    warm_start,
)

SIZE = (64, 32)
VIT = {"img_size": (32, 16), "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}


@pytest.fixture
def towers():
    return ClipTowers.from_timm("test_resnet", image_size=SIZE, embed_dim=16).eval()


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_file_of_the_library_loads_without_its_classifier(tmp_path, library):
    if library == "timm":
        trunk = timm.create_model("test_resnet", num_classes=5).eval()
        make, name = ClipTowers.from_timm, "test_resnet"
    else:
        trunk = torchvision.models.shufflenet_v2_x0_5(num_classes=5).eval()
        make, name = ClipTowers.from_torchvision, "shufflenet_v2_x0_5"
    torch.save(trunk.state_dict(), tmp_path / "trunk.pt")

    towers = make(name, tmp_path / "trunk.pt", image_size=SIZE).eval()

    assert towers.load_report.unexpected == ("fc.weight", "fc.bias")
    assert not towers.load_report.missing
    images = torch.randn(2, 3, *SIZE)
    trunk.fc = torch.nn.Identity()
    with torch.no_grad():
        assert_close(towers.encode_image(images), trunk(images))


def test_a_native_file_is_resized_to_another_grid(tmp_path):
    native = ClipTowers.from_timm("vit_tiny_patch16_224", options=VIT, seed=4)
    torch.save(native.model.visual.trunk.state_dict(), tmp_path / "vit.pt")

    towers = ClipTowers.from_timm(
        "vit_tiny_patch16_224", tmp_path / "vit.pt", options=VIT, image_size=(64, 16)
    )

    assert (native.grid, towers.grid) == ((4, 2), (8, 2))
    found, expected = (one.model.visual.trunk.blocks[0].mlp.fc1.weight for one in (towers, native))
    assert torch.equal(found, expected)


def test_a_file_of_another_model_is_an_error(tmp_path):
    trunk = timm.create_model("test_convnext", num_classes=0)
    torch.save(trunk.state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"the checkpoint does not fit|expected weights"):
        ClipTowers.from_timm("test_resnet", tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("make", "arguments", "match"),
    [
        (ClipTowers.from_timm, ["resnet5"], "name of a model of timm, got 'resnet5'. The nearest"),
        (ClipTowers.from_torchvision, ["resnet5"], "of torchvision, got 'resnet5'. The nearest"),
        (
            ClipTowers.from_torchvision,
            ["squeezenet1_1"],
            r"got squeezenet1_1 \(SqueezeNet\). timm has most others",
        ),
        (
            ClipTowers.from_timm,
            ["test_resnet", "none.pt"],
            "or a tag of test_resnet, got 'none.pt'",
        ),
        (ClipTowers.from_timm, ["test_resnet", "x"], "Its tags: r160_in1k"),
        (ClipTowers.from_torchvision, ["resnet18", "V9"], "Its tags: IMAGENET1K_V1"),
    ],
)
def test_unknown_names_and_tags_are_errors(make, arguments, match):
    with pytest.raises(ValueError, match=match):
        make(*arguments)


def test_unknown_options_are_an_error():
    with pytest.raises(ValueError, match=r"test_resnet could not be built with the options"):
        ClipTowers.from_timm("test_resnet", options={"colour": "red"})


def test_a_download_that_fails_is_one_sentence(monkeypatch):
    def fail(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ValueError, match=r"test_resnet.r160_in1k .*no network.* filled cache"):
        ClipTowers.from_timm("test_resnet", "r160_in1k")


def test_the_normalisation_is_that_of_the_tag():
    mean = ClipTowers.from_timm("test_resnet", image_size=SIZE).image_mean
    assert mean == tuple(timm.get_pretrained_cfg("test_resnet").mean)


def test_weights_depend_on_the_seed_alone():
    before = torch.random.get_rng_state()
    first, second, other = (
        ClipTowers.from_timm("test_resnet", image_size=SIZE, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    first, second, other = (
        one.model.visual.trunk.conv1[0].weight for one in (first, second, other)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClipTowers.from_timm("test_resnet", image_size=SIZE, last_stride=1, embed_dim=16),
        lambda: ClipTowers.from_timm(
            "vit_tiny_patch16_224", options=VIT, image_size=(48, 16)
        ).bfloat16(),
        lambda: ClipTowers.from_torchvision("shufflenet_v2_x0_5", image_size=SIZE),
    ],
)
def test_saved_towers_load_bit_for_bit(tmp_path, make):
    towers = make().eval()
    save_towers(towers, tmp_path)
    twin = load_towers(tmp_path).eval()

    assert (twin.name, twin.image_size, twin.grid) == (towers.name, towers.image_size, towers.grid)
    assert json.dumps(twin.config) == json.dumps(towers.config)
    images = torch.randn(2, 3, *towers.image_size)
    with torch.no_grad():
        assert torch.equal(twin.encode_image(images), towers.encode_image(images))


def test_weights_load_under_the_names_of_the_trunk(towers):
    state = {"backbone." + k: v + 1 for k, v in towers.model.visual.trunk.state_dict().items()}
    expected = state["backbone.conv1.0.weight"].clone()
    report = load_weights(towers, state, strict=False)

    assert report.missing == ("model.visual.head.weight",)
    assert torch.equal(towers.model.visual.trunk.conv1[0].weight, expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda towers: towers.tokenize(["a"]),
        lambda towers: towers.count_tokens("a"),
        lambda towers: towers.token_ids("a"),
        lambda towers: towers.encode_text(torch.zeros(1, 1, dtype=torch.long)),
        lambda towers: towers.embed_tokens(torch.zeros(1, 1, dtype=torch.long)),
        lambda towers: towers.end_of_text(torch.zeros(1, 1, dtype=torch.long)),
        lambda towers: towers.encode_text_embeddings(
            torch.zeros(1, 1, 1), torch.zeros(1, dtype=torch.long)
        ),
        lambda towers: towers.text_width,
        lambda towers: towers.logit_scale,
        lambda towers: unfreeze_last_blocks(towers, 1, tower="text"),
        lambda towers: set_trainable(towers, text="all"),
    ],
)
def test_text_is_refused_in_one_sentence(towers, call):
    with pytest.raises(ValueError, match=r"timm/test_resnet is an image tower without a text"):
        call(towers)


def test_what_trains(towers):
    unfreeze_last_blocks(towers, 1)
    trained = {name for name, p in towers.named_parameters() if p.requires_grad}
    assert {name.split(".")[3] for name in trained if "trunk" in name} == {"layer4"}
    assert "model.visual.head.weight" in trained

    set_trainable(towers, image=0, projections=False)
    assert not any(p.requires_grad for p in towers.parameters())

    freeze(towers)
    towers.train()
    assert not towers.model.visual.trunk.layer1[0].bn1.training


def test_rates_decay_from_the_head_to_the_stem(towers):
    groups = layerwise_lr_groups(towers, 1.0, layer_decay=0.5)
    rates = {group["name"].partition(",")[0]: group["lr"] for group in groups}
    assert rates["image head"] == 1.0
    assert rates["image block 4"] == 0.5
    assert rates["image embeddings"] == 0.5**5


def test_the_baseline_trains_it_and_needs_no_text(towers, tmp_path):
    method = ClipBaseline(towers, num_identities=3).train()
    loss = method(torch.randn(4, 3, *SIZE), torch.tensor([0, 0, 1, 2])).loss
    loss.backward()
    assert all(p.grad is not None for p in towers.parameters())

    save_towers(towers, tmp_path)
    assert warm_start(method, tmp_path).missing == tuple(
        name for name in method.state_dict() if not name.startswith("towers.")
    )


def test_the_baseline_refuses_texts_of_it(towers):
    with pytest.raises(ValueError, match="image tower without a text tower"):
        ClipBaseline(towers, weights={"supcon_text": 1.0})
