import pytest
import torch

from clipreid_kit.clip.importers.openai_architecture import (
    REID_SIZES,
    catalogue_name,
    find_config,
    possible_geometries,
)


def vit(width=768, num_blocks=12, patch=16, dim=512, num_patches=128):
    blocks = {f"visual.transformer.resblocks.{i}.ln_1.bias": torch.empty(0) for i in range(12)}
    return {
        "visual.conv1.weight": torch.empty(width, 3, patch, patch, device="meta"),
        "visual.proj": torch.empty(width, dim, device="meta"),
        "visual.positional_embedding": torch.empty(1 + num_patches, width, device="meta"),
        **dict(list(blocks.items())[:num_blocks]),
    }


def test_the_models_of_the_paper_are_found_in_the_catalogue():
    config = find_config(vit())
    assert catalogue_name(config) == "ViT-B-16-quickgelu"
    assert config["text_cfg"]["layers"] == 12  # that of the catalogue: the weights have no text


def test_a_model_of_no_catalogue_has_no_name():
    assert catalogue_name(find_config(vit(width=64, num_blocks=2))) is None


@pytest.mark.parametrize("size", REID_SIZES)
@pytest.mark.parametrize("stride", [16, 12])
def test_no_two_usual_geometries_have_as_many_patches(size, stride):
    rows, columns = ((side - 16) // stride + 1 for side in size)
    (found,) = possible_geometries(vit(num_patches=rows * columns), None, None)
    assert (found.image_size, found.patch_stride) == (size, (stride, stride))


@pytest.mark.parametrize("size", REID_SIZES)
@pytest.mark.parametrize("last_stride", [1, 2])
def test_the_same_of_resnets(size, last_stride):
    reduction = 16 * last_stride
    rows = 1 + (size[0] // reduction) * (size[1] // reduction)
    state = {"visual.attnpool.positional_embedding": torch.empty(rows, 8)}
    (found,) = possible_geometries(state, None, None)
    assert (found.image_size, found.last_stride) == (size, last_stride)
