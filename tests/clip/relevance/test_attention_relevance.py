import pytest
import torch
from tiny_towers import tiny_towers

from clipreid_kit.clip import attention_relevance, set_gradient_checkpointing
from clipreid_kit.clip.relevance._recorded_attention import recorded_attention

IMAGES = torch.rand(2, 3, 32, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def towers():
    return tiny_towers(image_size=(32, 16)).eval()


def targets_of(towers):
    return torch.randn(2, towers.embed_dim, generator=torch.Generator().manual_seed(1))


def test_it_is_the_update_of_the_paper_by_loops(towers):
    """Chefer et al. 2021, eq. 5 and 6, one image at a time."""
    targets = targets_of(towers)
    found = attention_relevance(towers, IMAGES, targets)
    layers = [block.attn for block in towers.model.visual.transformer.resblocks]

    for row in range(2):
        with recorded_attention("test", layers) as recorded:
            embedding = towers.encode_image(IMAGES[[row]])
            similarity = torch.cosine_similarity(embedding, targets[[row]])
            gradients = torch.autograd.grad(similarity.sum(), recorded.layers)

        length = recorded.layers[0].shape[-1]
        relevance = torch.eye(length)
        for attention, gradient in zip(recorded.layers, gradients, strict=True):
            mean = torch.zeros(length, length)
            for head in range(attention.shape[1]):
                mean += (attention[0, head] * gradient[0, head]).relu() / attention.shape[1]
            relevance = relevance + mean @ relevance
        torch.testing.assert_close(found[row].flatten(), relevance[0, 1:].detach())


def only_one_patch_matters(towers, patch):
    """Make the class token of the last block attend to one patch, whose position it knows."""
    visual = towers.model.visual
    with torch.no_grad():
        for block in visual.transformer.resblocks[:-1]:
            block.attn.out_proj.weight.zero_()
            block.attn.out_proj.bias.zero_()
            block.mlp.c_proj.weight.zero_()
            block.mlp.c_proj.bias.zero_()
        visual.positional_embedding.zero_()
        visual.positional_embedding[1 + patch, 0] = 50.0
        last = visual.transformer.resblocks[-1]
        width = last.attn.embed_dim
        # keys see the first channel alone, which one patch has; all queries ask for it
        last.attn.in_proj_weight[:width].zero_()
        last.attn.in_proj_weight[width : 2 * width].zero_()
        last.attn.in_proj_weight[width : 2 * width, 0] = 10.0
        last.attn.in_proj_bias[:width] = 10.0


@pytest.mark.parametrize("patch", [0, 3, 7])
def test_the_map_peaks_where_hiding_a_patch_changes_the_similarity(towers, patch):
    only_one_patch_matters(towers, patch)
    embedding = towers.encode_image(IMAGES[:1]).detach()
    target = -targets_of(towers)[:1]
    if float(torch.cosine_similarity(embedding, target)) < 0:
        target = -target

    relevance = attention_relevance(towers, IMAGES[:1], target)[0].flatten()

    changes = []
    for hidden in range(8):
        row, column = divmod(hidden, 2)
        changed = IMAGES[:1].clone()
        changed[..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 0
        changes.append(float((towers.encode_image(changed) - embedding).detach().abs().sum()))
    assert int(torch.tensor(changes).argmax()) == patch
    assert int(relevance.argmax()) == patch


def test_images_of_a_batch_do_not_affect_each_other(towers):
    targets = targets_of(towers)
    both = attention_relevance(towers, IMAGES, targets)
    alone = attention_relevance(towers, IMAGES[1:], targets[1:])
    torch.testing.assert_close(both[1:], alone)
    one_target = attention_relevance(towers, IMAGES, targets[1:])
    torch.testing.assert_close(one_target[1:], alone)


@pytest.mark.parametrize("way", ["frozen", "checkpointed", "no_grad", "inference"])
def test_it_is_the_same_however_the_towers_are_used(towers, way):
    targets = targets_of(towers)
    expected = attention_relevance(towers, IMAGES, targets)
    if way == "frozen":
        towers.requires_grad_(False)
    if way == "checkpointed":
        set_gradient_checkpointing(towers)
    contexts = {"no_grad": torch.no_grad, "inference": torch.inference_mode}
    with contexts.get(way, torch.enable_grad)():
        found = attention_relevance(towers, IMAGES, targets)
    torch.testing.assert_close(found, expected)


def test_towers_are_left_as_they_were(towers):
    towers.train()
    state = {name: value.clone() for name, value in towers.state_dict().items()}
    modes = [module.training for module in towers.modules()]
    attention_relevance(towers, IMAGES, targets_of(towers))

    assert [module.training for module in towers.modules()] == modes
    assert all(parameter.grad is None for parameter in towers.parameters())
    assert not any(module._forward_hooks for module in towers.modules())
    assert all(torch.equal(value, state[name]) for name, value in towers.state_dict().items())


@pytest.mark.unhooked
def test_impossible_arguments_are_explained(towers):
    with pytest.raises(ValueError, match=r"expected targets \(1, \d+\) or \(2, \d+\)"):
        attention_relevance(towers, IMAGES, torch.ones(2, 3))
    with pytest.raises(ValueError, match="finite targets"):
        attention_relevance(towers, IMAGES, torch.full((1, towers.embed_dim), torch.nan))
    resnet = tiny_towers("reid-tiny-resnet", image_size=(64, 32))
    with pytest.raises(ValueError, match="Use grad_cam"):
        attention_relevance(resnet, torch.rand(1, 3, 64, 32), torch.ones(1, resnet.embed_dim))


def test_no_images_have_no_maps(towers):
    assert attention_relevance(towers, IMAGES[:0], targets_of(towers)[:0]).shape == (0, 4, 2)
