import torch
from torch.testing import assert_close


def last_input(blocks, run):
    """Input of the last block during a run."""
    inputs = []
    handle = blocks[-1].register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    run()
    handle.remove()
    return inputs[0]


@torch.no_grad()
def test_previous_is_the_class_token_before_the_last_block(build):
    towers = build("timm")
    images = torch.randn(2, 3, *towers.image_size)

    tokens = last_input(towers.model.visual.trunk.blocks, lambda: towers.encode_image(images))
    levels = towers.encode_image_levels(images, ["previous"])

    assert_close(levels.previous, tokens[:, 0])


@torch.no_grad()
def test_previous_is_the_mean_token_without_a_class_token(build):
    towers = build("siglip")
    trunk = towers.model.visual.trunk
    images = torch.randn(2, 3, *towers.image_size)

    tokens = last_input(trunk.blocks, lambda: towers.encode_image(images))
    levels = towers.encode_image_levels(images, ["previous"])

    num_prefix = trunk.num_prefix_tokens
    assert_close(levels.previous, tokens[:, num_prefix:].mean(dim=1))


@torch.no_grad()
def test_patches_of_a_convolutional_trunk_are_the_positions_of_its_map(build):
    towers = build("convnext", image_size=(96, 64))
    images = torch.randn(2, 3, 96, 64)

    feature_map = towers.model.visual.trunk.forward_features(images)
    levels = towers.encode_image_levels(images, ["patches"])

    rows, columns = levels.grid
    assert (rows, columns) == feature_map.shape[2:]
    assert_close(levels.patches[:, columns], feature_map[:, :, 1, 0])
