import pytest
import torch
from tiny_towers import tiny_towers

from clipreid_kit.clip import ClipTowers, grad_cam

IMAGES = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def resnet():
    return tiny_towers("reid-tiny-resnet", image_size=(64, 64), last_stride=1).eval()


def test_it_is_the_formula_by_loops(resnet):
    """Selvaraju et al. 2017, eq. 1 and 2, with the attention pool of CLIP behind the map."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    target = resnet.encode_image(images.flip(0)).detach()
    found = grad_cam(resnet, images, target, positive_only=False)

    visual = resnet.model.visual
    x = visual.stem(images)
    for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = stage(x)
    features = x.detach().requires_grad_()
    embedding = visual.attnpool(features)
    torch.cosine_similarity(embedding, target).sum().backward()

    for row in range(2):
        for i in range(found.shape[1]):
            for j in range(found.shape[2]):
                value = 0.0
                for k in range(features.shape[1]):
                    alpha = float(features.grad[row, k].mean())
                    value += alpha * float(features[row, k, i, j].detach())
                assert float(found[row, i, j]) == pytest.approx(value, abs=1e-6)

    positive = grad_cam(resnet, images, target)
    torch.testing.assert_close(positive, found.clamp(min=0))


def test_with_mean_pooling_the_positions_sum_to_the_dot_product():
    """Complete: the gradient of each position is w / Z, so the map is w F / Z, and sums to w f."""
    towers = ClipTowers.from_torchvision("resnet18", image_size=(64, 32)).eval()
    target = torch.randn(2, towers.embed_dim, generator=torch.Generator().manual_seed(1))
    embedding = towers.encode_image(IMAGES).detach()
    length = embedding.norm(dim=1, keepdim=True)
    unit = embedding / length
    goal = target / target.norm(dim=1, keepdim=True)
    # gradient of the cosine with respect to the embedding
    slope = (goal - (unit * goal).sum(1, keepdim=True) * unit) / length

    found = grad_cam(towers, IMAGES, target, positive_only=False)
    torch.testing.assert_close(
        found.sum(dim=(1, 2)), (slope * embedding).sum(1), atol=1e-5, rtol=1e-4
    )
    weights = slope[:, :, None, None] / found[0].numel()
    features = towers.encode_image_levels(IMAGES, ["patches"]).patches.detach()
    by_hand = (weights * features.transpose(1, 2).unflatten(2, towers.grid)).sum(1)
    torch.testing.assert_close(found, by_hand, atol=1e-6, rtol=1e-4)


def test_the_map_peaks_at_the_only_position_that_counts(resnet):
    images = torch.zeros(1, 3, 64, 64)
    images[..., 40:56, 8:24] = 4.0
    blank = resnet.encode_image(torch.zeros(1, 3, 64, 64)).detach()
    target = resnet.encode_image(images).detach() - blank
    found = grad_cam(resnet, images, target)[0]
    row, column = divmod(int(found.argmax()), found.shape[1])
    assert (row, column) in {(2, 0), (2, 1), (3, 0), (3, 1)}


def test_frozen_towers_stay_as_they_were(resnet):
    towers = tiny_towers("reid-tiny-resnet", image_size=(64, 32)).train()
    towers.requires_grad_(False)
    state = {name: value.clone() for name, value in towers.state_dict().items()}
    with torch.no_grad():
        grad_cam(towers, IMAGES, torch.ones(1, towers.embed_dim))
    assert all(torch.equal(value, state[name]) for name, value in towers.state_dict().items())
    assert all(module.training for module in towers.modules())
    assert not any(module._forward_hooks for module in towers.modules())


def test_channels_may_come_last():
    options = {"depths": (1, 1), "num_heads": (1, 2), "embed_dim": 8, "window_size": 4}
    towers = ClipTowers.from_timm(
        "swin_tiny_patch4_window7_224", image_size=(64, 64), options=options
    )
    found = grad_cam(towers, torch.rand(2, 3, 64, 64), torch.ones(1, towers.embed_dim))
    assert found.shape == (2, *towers.grid)


def test_a_vit_that_pools_by_attention():
    options = {"depth": 2, "embed_dim": 32, "num_heads": 2}
    towers = ClipTowers.from_timm(
        "vit_base_patch16_siglip_224", image_size=(32, 32), options=options
    )
    found = grad_cam(towers, torch.rand(2, 3, 32, 32), torch.randn(2, towers.embed_dim))
    assert found.shape == (2, 2, 2)
    assert found.any()


def test_a_vit_with_a_class_token_is_refused():
    towers = tiny_towers(image_size=(32, 16))
    with pytest.raises(ValueError, match="use attention_relevance"):
        grad_cam(towers, torch.rand(1, 3, 32, 16), torch.ones(1, towers.embed_dim))


def test_no_images_have_no_maps(resnet):
    assert grad_cam(resnet, torch.rand(0, 3, 64, 64), torch.ones(1, resnet.embed_dim)).shape == (
        0,
        4,
        4,
    )


def test_an_earlier_stage_is_finer(resnet):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    target = resnet.encode_image(images.flip(0)).detach()
    found = grad_cam(resnet, images, target, positive_only=False, stages_before=1)

    visual = resnet.model.visual
    features = visual.layer3(visual.layer2(visual.layer1(visual.stem(images))))
    features = features.detach().requires_grad_()
    embedding = visual.attnpool(visual.layer4(features))
    torch.cosine_similarity(embedding, target).sum().backward()

    weights = features.grad.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(found, (weights * features).sum(dim=1).detach())


def test_an_earlier_stage_with_channels_last():
    options = {"depths": (1, 1), "num_heads": (1, 2), "embed_dim": 8, "window_size": 4}
    towers = ClipTowers.from_timm(
        "swin_tiny_patch4_window7_224", image_size=(64, 64), options=options
    )
    target = torch.ones(1, towers.embed_dim)
    found = grad_cam(towers, torch.rand(2, 3, 64, 64), target, stages_before=1)
    rows, columns = towers.grid
    assert found.shape == (2, 2 * rows, 2 * columns)


def test_a_stage_that_is_not_there(resnet):
    with pytest.raises(ValueError, match="stages_before is 4, and reid-tiny-resnet has 4 stages"):
        grad_cam(resnet, torch.rand(1, 3, 64, 64), torch.ones(1, resnet.embed_dim), stages_before=4)
