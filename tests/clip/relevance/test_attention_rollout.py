import pytest
import torch
from tiny_towers import tiny_towers

from clipreid_kit.clip import ClipTowers, attention_rollout
from clipreid_kit.clip.relevance._recorded_attention import recorded_attention

IMAGES = torch.rand(3, 3, 32, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def towers():
    return tiny_towers(image_size=(32, 16)).eval()


def rollout_by_loops(layers, image):
    """Abnar & Zuidema 2020, eq. 1, token by token."""
    heads, length, _ = layers[0][image].shape
    rollout = [[float(i == j) for j in range(length)] for i in range(length)]
    for attention in layers:
        mixed = [[0.0] * length for _ in range(length)]
        for i in range(length):
            for j in range(length):
                mean = sum(float(attention[image, h, i, j].detach()) for h in range(heads)) / heads
                mixed[i][j] = 0.5 * mean + 0.5 * (i == j)
        rollout = [
            [sum(mixed[i][k] * rollout[k][j] for k in range(length)) for j in range(length)]
            for i in range(length)
        ]
    return rollout


def test_it_is_the_product_by_loops(towers):
    found = attention_rollout(towers, IMAGES[:2])
    layers = [block.attn for block in towers.model.visual.transformer.resblocks]
    with recorded_attention("test", layers) as recorded, torch.no_grad():
        towers.encode_image(IMAGES[:2])

    for image in range(2):
        expected = rollout_by_loops(recorded.layers, image)
        torch.testing.assert_close(found[image].flatten(), torch.tensor(expected[0][1:]))
        # complete: the patches and the class token share 1
        assert float(found[image].sum()) + expected[0][0] == pytest.approx(1, abs=1e-5)


def test_a_last_block_for_the_class_token_alone_gives_the_same(towers):
    embed = lambda x: towers.encode_image_levels(x, ["projected"]).projected  # noqa: E731
    torch.testing.assert_close(
        attention_rollout(towers, IMAGES, embed=embed), attention_rollout(towers, IMAGES)
    )


def test_uniform_attention_looks_everywhere_alike(towers):
    changed = tiny_towers(image_size=(32, 16))
    for block in changed.model.visual.transformer.resblocks:
        torch.nn.init.zeros_(block.attn.in_proj_weight)
    found = attention_rollout(changed, IMAGES)
    torch.testing.assert_close(found, found[0, 0, 0].expand(3, 4, 2))


def test_towers_are_left_as_they_were():
    towers = tiny_towers(image_size=(32, 16)).train()
    towers.model.visual.eval()
    modes = [module.training for module in towers.modules()]
    with torch.inference_mode():
        attention_rollout(towers, IMAGES)

    assert [module.training for module in towers.modules()] == modes
    assert not any(module._forward_hooks for module in towers.modules())
    assert all(parameter.grad is None for parameter in towers.parameters())


def test_no_images_have_no_maps(towers):
    assert attention_rollout(towers, IMAGES[:0]).shape == (0, 4, 2)


@pytest.mark.parametrize("global_pool", ["token", "avg"])
def test_vits_of_timm(global_pool):
    options = {"depth": 2, "global_pool": global_pool, "reg_tokens": 2}
    towers = ClipTowers.from_timm("vit_tiny_patch16_224", image_size=(32, 32), options=options)
    found = attention_rollout(towers, torch.rand(2, 3, 32, 32))
    assert found.shape == (2, 2, 2)
    assert (found > 0).all()


def test_a_resnet_is_refused():
    towers = tiny_towers("reid-tiny-resnet", image_size=(64, 32))
    with pytest.raises(ValueError, match="is no ViT that reads a class token"):
        attention_rollout(towers, torch.rand(1, 3, 64, 32))
