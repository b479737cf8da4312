import pytest
import torch

from clipreid_kit.clip import ClipTowers, PatchMasking, mask_patches

LEVELS = ("previous", "unprojected", "projected")


@pytest.fixture(scope="module")
def towers():
    return ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32))


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 64, 32, generator=torch.Generator().manual_seed(0))


def drawn(towers, images, seed):
    """The mask that the next forward draws after a seed."""
    torch.manual_seed(seed)
    num_patches = towers.grid[0] * towers.grid[1]
    return towers.patch_masking.draw(torch.empty(len(images), num_patches, 1))


def plain_vit(towers, images, masked, token=None):
    """One image at a time, with plain indexing and all tokens in every block."""
    visual = towers.model.visual
    rows = []
    for image, hidden in zip(images, masked, strict=True):
        patches = visual.conv1(image[None])[0].flatten(1).T.clone()
        if token is not None:
            for number in hidden.nonzero().flatten().tolist():
                patches[number] = token
        tokens = torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding
        if token is None:
            kept = [0] + [1 + number for number, masks in enumerate(hidden) if not masks]
            tokens = tokens[kept]
        x = visual.ln_pre(tokens)[None]
        for block in visual.transformer.resblocks:
            x = block(x)
        rows.append(visual.ln_post(x[0, 0]) @ visual.proj)
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["drop", "zeros", "learned"])
def test_masked_tokens_are_those_of_a_plain_loop(towers, images, kind):
    mask_patches(towers, 0.4, kind, seed=5)
    masked = drawn(towers, images, seed=2)
    assert (masked.sum(dim=1) == round(0.4 * 32)).all()
    token = {"drop": None, "zeros": torch.zeros(()), "learned": towers.patch_masking.token}[kind]

    torch.manual_seed(2)
    embeddings = towers.train().encode_image(images)
    torch.testing.assert_close(
        embeddings, plain_vit(towers, images, masked, token), atol=2e-5, rtol=1e-4
    )

    torch.manual_seed(2)
    levels = towers.encode_image_levels(images, LEVELS)
    torch.testing.assert_close(levels.projected, embeddings, atol=2e-5, rtol=1e-4)


def test_nothing_is_masked_in_evaluation_or_without_a_share(towers, images):
    mask_patches(towers, 0)
    assert towers.patch_masking is None
    plain_in_evaluation = towers.eval().encode_image(images)
    plain = towers.train().encode_image(images)

    mask_patches(towers, 0.5)
    assert not torch.equal(towers.encode_image(images), plain)
    assert torch.equal(towers.eval().encode_image(images), plain_in_evaluation)

    towers.train()
    mask_patches(towers, 0.0)
    assert torch.equal(towers.encode_image(images), plain)


def test_a_share_of_less_than_half_a_patch_changes_nothing(towers, images):
    masking = PatchMasking(128, 0.01)
    patches = torch.randn(2, 32, 128)
    assert torch.equal(masking.drop(patches, masking.draw(patches)), patches)


def test_every_forward_draws_anew_and_a_seed_repeats_it(towers, images):
    mask_patches(towers, 0.5)
    assert torch.equal(drawn(towers, images, 7), drawn(towers, images, 7))
    masked = drawn(towers, images, 7)
    assert not torch.equal(masked, drawn(towers, images, 8))
    assert not torch.equal(masked[0], masked[1])
    assert PatchMasking(1, 0.5).draw(torch.empty(400, 8, 1)).any(dim=0).all()


def test_the_learned_token_alone_gets_the_gradient_of_masked_patches(towers, images):
    mask_patches(towers, 0.5, "learned")
    token = towers.train().patch_masking.token
    assert any(parameter is token for parameter in towers.image_parameters())
    assert not any(parameter is token for parameter in towers.text_parameters())

    towers.encode_image(images).sum().backward()
    assert token.grad.abs().sum() > 0
    towers.zero_grad()


def test_dropped_patches_leave_no_grid_and_replaced_ones_do(towers, images):
    mask_patches(towers, 0.5)
    with pytest.raises(ValueError, match="leave no complete grid in training mode"):
        towers.train().encode_image_levels(images, ["patches"])
    assert towers.eval().encode_image_levels(images, ["patches"]).patches.shape[1] == 32

    mask_patches(towers.train(), 0.5, "zeros")
    assert towers.encode_image_levels(images, ["patches"]).patches.shape[1] == 32
