import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import nn
from torch.testing import assert_close

from clipreid_kit.clip import ClipTowers, load_towers, save_towers

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"width": 64, "heads": 1, "layers": 1},
}
SIGLIP_TEXT = {**CONFIG["text_cfg"], "hf_tokenizer_name": "nobody/nothing"}


@pytest.fixture
def model():
    torch.manual_seed(2)
    return open_clip.CLIP(**CONFIG, quick_gelu=True).eval()


@torch.no_grad()
def test_towers_share_the_modules_of_the_model(model):
    towers = ClipTowers.from_model(model, config=CONFIG)
    images, tokens = torch.randn(2, 3, 32, 32), towers.tokenize(["a red coat", "a cup"])

    assert towers.model is model
    assert not towers.training
    assert torch.equal(towers.encode_image(images), model.encode_image(images))
    assert_close(towers.encode_text(tokens), model.encode_text(tokens))


@torch.no_grad()
def test_it_is_saved_with_its_activation_and_geometry(model, tmp_path):
    towers = ClipTowers.from_model(
        model, config=CONFIG, image_size=(64, 32), patch_stride=4, image_mean=(0.1, 0.2, 0.3)
    )
    save_towers(towers, tmp_path)
    twin = load_towers(tmp_path).eval()

    assert towers.grid == (15, 7)
    assert (twin.config["quick_gelu"], twin.image_mean) == (True, (0.1, 0.2, 0.3))
    images = torch.randn(2, 3, 64, 32)
    assert torch.equal(twin.encode_image(images), towers.encode_image(images))


def test_dtype_and_camera_embedding_follow_the_model(model):
    towers = ClipTowers.from_model(model.bfloat16(), config=CONFIG, num_cameras=3)
    images, cameras = torch.randn(2, 3, 32, 32), torch.tensor([0, 2])

    assert towers.camera_embedding.table.dtype is torch.bfloat16
    assert towers.encode_image(images, cameras=cameras).dtype is torch.bfloat16


def test_the_normalisation_is_what_open_clip_keeps_in_the_model(model):
    assert ClipTowers.from_model(model, config=CONFIG).image_std[0] == pytest.approx(0.26862954)
    model.visual.image_mean, model.visual.image_std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    towers = ClipTowers.from_model(model, config=CONFIG)
    assert (towers.image_mean, towers.image_std) == ((0.5,) * 3, (0.25,) * 3)


def test_the_given_tokenizer_is_used(model):
    config = {**CONFIG, "text_cfg": SIGLIP_TEXT}  # whose own tokenizer cannot be loaded
    towers = ClipTowers.from_model(model, SimpleTokenizer(), config=config)
    assert torch.equal(towers.tokenize(["a coat"]), SimpleTokenizer()(["a coat"]))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"config": "RN50"}, r"weights of a ResNet .* got weights of a ViT"),
        ({"config": {"embed_dim": 16}}, "config as the name or the configuration"),
        ({"config": {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "context_length": 9}}}, "of 9"),
        ({"tokenizer": SimpleTokenizer(context_length=9)}, "a context of 77, as the model"),
    ],
)
def test_what_does_not_belong_to_the_model_is_an_error(model, arguments, match):
    with pytest.raises(ValueError, match=match):
        ClipTowers.from_model(model, **({"config": CONFIG} | arguments))


@pytest.mark.unhooked
def test_another_tokenizer_is_an_error(model):
    with pytest.raises(ValueError, match="a tokenizer of open_clip, got method_descriptor"):
        ClipTowers.from_model(model, str.split, config=CONFIG)


def test_other_modules_are_refused():
    with pytest.raises(ValueError, match=r"a model of open_clip .* got Linear"):
        ClipTowers.from_model(nn.Linear(2, 2), config=CONFIG)
