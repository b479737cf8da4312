import open_clip
import pytest
import torch
import torch.nn.functional as F

from clipreid_kit.clip import ClipTowers
from clipreid_kit.clip.towers.small_models import small_model_config, small_model_names
from clipreid_kit.clip.towers.text_forward import text_tower


def num_parameters(parameters):
    return sum(parameter.numel() for parameter in parameters)


@pytest.mark.parametrize("name", small_model_names())
def test_is_small_and_takes_64_pixels(name):
    towers = ClipTowers.from_open_clip(name)

    assert towers.image_size == (64, 64)
    assert towers.embed_dim == 128
    assert towers.context_length == 77
    assert num_parameters(towers.image_parameters()) < 2e6
    assert num_parameters(towers.parameters()) < 6e6
    assert text_tower(towers.model).causal


@pytest.mark.parametrize("name", small_model_names())
def test_is_not_added_to_the_list_of_open_clip(name):
    small_model_config(name)
    assert name not in open_clip.list_models()


def test_the_configuration_is_new_each_time():
    small_model_config("reid-tiny-vit")["vision_cfg"]["width"] = 1
    assert small_model_config("reid-tiny-vit")["vision_cfg"]["width"] > 1


def test_unknown_name():
    with pytest.raises(ValueError, match=r"one of reid-tiny-resnet, reid-tiny-vit, got 'tiny'"):
        small_model_config("tiny")


@pytest.mark.slow
@pytest.mark.parametrize("name", small_model_names())
def test_memorises_sixteen_pairs(name):
    towers = ClipTowers.from_open_clip(name)
    images = torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    tokens = towers.tokenize([f"a photo of person number {number}" for number in range(16)])
    optimizer = torch.optim.AdamW(towers.parameters(), lr=5e-4)
    pairs = torch.arange(16)

    for _ in range(40):
        image, text = towers(images, tokens, normalize=True)
        similarity = towers.logit_scale.exp() * image @ text.T
        loss = (F.cross_entropy(similarity, pairs) + F.cross_entropy(similarity.T, pairs)) / 2

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.2:
            break

    assert (similarity.argmax(dim=1) == pairs).all()
    assert (similarity.argmax(dim=0) == pairs).all()
    assert loss < 0.5
