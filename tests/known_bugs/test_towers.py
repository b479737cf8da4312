"""Towers, texts and positions that neighbouring projects get wrong."""

import pytest
import torch
import torch.nn.functional as F
from known_bugs.peers import is_measured

from clipreid_kit import TestTimeAugmentation as Augmentation
from clipreid_kit.clip import (
    CameraEmbedding,
    ClipBaseline,
    ClipReIDPromptStage,
    ClipTowers,
    IdentityPromptLearner,
    PromptComposer,
    add_lora,
    freeze,
    resize_position_embedding,
)
from clipreid_kit.data import token_safe_prompt


@pytest.fixture(scope="module")
def towers():
    return ClipTowers.from_open_clip("reid-tiny-vit", image_size=(32, 16)).eval()


def bicubic(table, old_grid, new_grid):
    """The table of another grid, without a class token, by torch's own interpolation."""
    grid = table.reshape(1, *old_grid, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, new_grid, mode="bicubic", antialias=True, align_corners=False)
    return resized.permute(0, 2, 3, 1).flatten(0, 2)


def test_grids_of_equally_many_patches():
    """timm PR#2737: a table is left as it is if the new grid has as many patches as the old one.

    Here: the grid decides, so 2 x 8 and 4 x 4 have different tables.
    """
    table = torch.randn(16, 5)
    got = resize_position_embedding(table, (2, 8), (4, 4), num_prefix=0)

    torch.testing.assert_close(got, bicubic(table, (2, 8), (4, 4)), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(got, table)

    if is_measured("timm"):
        from timm.layers import resample_abs_pos_embed

        # Mended since.
        peer = resample_abs_pos_embed(table[None], [4, 4], old_size=[2, 8], num_prefix_tokens=0)
        torch.testing.assert_close(peer[0], got, atol=1e-5, rtol=1e-4)


def test_a_tall_image_of_equally_many_patches():
    """open_clip, `resize_pos_embed`: 448 x 112 has as many patches as 224 x 224.

    Here: its table is resized from 14 x 14 to 28 x 7.
    """
    table = torch.randn(1 + 196, 3)
    got = resize_position_embedding(table, (14, 14), (28, 7))
    want = bicubic(table[1:], (14, 14), (28, 7))

    torch.testing.assert_close(got[0], table[0])
    torch.testing.assert_close(got[1:], want, atol=1e-5, rtol=1e-4)

    if is_measured("open_clip_torch"):
        from types import SimpleNamespace

        from open_clip.model import resize_pos_embed

        state = {"visual.positional_embedding": table.clone()}
        visual = SimpleNamespace(grid_size=(28, 7))
        resize_pos_embed(state, SimpleNamespace(visual=visual))
        assert torch.equal(state["visual.positional_embedding"], table)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_positions_of_half_precision(dtype):
    """timm PR#1890: resizing a table in bfloat16 is not implemented.

    Here: interpolated in float32, and returned in the table's dtype.
    """
    table = torch.randn(1 + 4, 6)
    got = resize_position_embedding(table.to(dtype), (2, 2), (3, 2))
    want = resize_position_embedding(table.to(dtype).float(), (2, 2), (3, 2)).to(dtype)
    assert got.dtype == dtype
    torch.testing.assert_close(got, want)


def test_images_of_half_precision_at_another_size():
    """pytorch/pytorch#175489: antialiased resizing of bfloat16 is not implemented on the CPU.

    Here: the views of another size are resized in float32 and have the dtype of the images.
    """
    images = torch.rand(2, 3, 8, 4).bfloat16()
    shapes = []

    def encoder(batch):
        shapes.append((batch.dtype, tuple(batch.shape[2:])))
        return batch.float().mean(dim=(2, 3))

    views = Augmentation(encoder, flip=False, scales=(1.0, 1.5), normalize=False)
    larger = F.interpolate(
        images.float(), (12, 6), mode="bicubic", antialias=True, align_corners=False
    )
    want = (images.float().mean(dim=(2, 3)) + larger.bfloat16().float().mean(dim=(2, 3))) / 2

    torch.testing.assert_close(views(images), want)
    assert shapes == [(torch.bfloat16, (8, 4)), (torch.bfloat16, (12, 6))]


@pytest.mark.parametrize("name", ["reid-tiny-vit", "reid-tiny-resnet"])
def test_images_that_are_not_square(name):
    """open_clip#76: towers of images that are not square; a ResNet's fail at `tuple // int`.

    Here: any height and width, for both kinds of tower.
    """
    built = ClipTowers.from_open_clip(name, image_size=(64, 32)).eval()
    images = torch.randn(2, 3, 64, 32)
    assert built.encode_image(images).shape == (2, 128)

    if is_measured("open_clip_torch") and name == "reid-tiny-resnet":
        from open_clip.modified_resnet import ModifiedResNet

        with pytest.raises(TypeError):
            ModifiedResNet([1, 1, 1, 1], 32, 4, image_size=(64, 32), width=8)


def test_a_cut_text_ends_with_the_end_of_text(towers):
    """open_clip#130: a text that is cut to 77 tokens loses its end-of-text token.

    Here: a prompt is cut before the tokenizer, at a word, and keeps its end.
    """
    long = "a photo of a red coat and a blue hat " * 30
    prompt = token_safe_prompt(long, 77)
    tokens = towers.tokenize([prompt])[0]
    end = tokens.max()

    assert (tokens == end).sum() == 1
    assert tokens.argmax() <= 76
    assert long.startswith(prompt.rstrip("."))


def test_the_end_of_text_is_not_the_largest_token(towers):
    """huggingface/transformers#21029: pooling at the largest token misses it if words are added.

    Here: learned words are vectors, and the pooled position is that of the end-of-text token.
    """
    composer = PromptComposer(towers, "A photo of a {tokens} person.", num_tokens=2)
    with torch.no_grad():
        prompts = composer(towers, torch.randn(3, 2, towers.text_width))

    filled = towers.tokenize(["A photo of a x x person."])[0]
    end = int((filled == filled.max()).nonzero()[0])
    assert prompts.eot.tolist() == [end] * 3


def test_adapters_of_attention_are_trained():
    """huggingface/peft#2200: an adapter on `out_proj` of an attention layer is never called.

    Here: every adapter beside attention and MLP gets a gradient.
    """
    pytest.importorskip("peft")
    built = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(32, 16))
    names = add_lora(built, rank=2)
    assert any("attn" in name for name in names)

    built.encode_image(torch.randn(2, 3, 32, 16)).square().sum().backward()
    trained = {name: p for name, p in built.named_parameters() if p.requires_grad}
    up = [p for name, p in trained.items() if "lora_B" in name]
    assert len(up) == len(names)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in up)


def test_query_key_and_value_get_adapters():
    """huggingface/peft#761: no adapter fits `in_proj_weight` of an attention layer.

    Here: query, key, value and output are adapted, each layer of each block.
    """
    pytest.importorskip("peft")
    built = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(32, 16))
    images = torch.randn(2, 3, 32, 16)
    before = built.eval().encode_image(images).detach()

    names = add_lora(built, rank=2, parts=("attention",))
    blocks = {name.split("resblocks.")[1].split(".")[0] for name in names}
    assert len(names) == 4 * len(blocks)
    torch.testing.assert_close(built.encode_image(images), before, atol=1e-5, rtol=1e-4)


def test_an_unseen_camera():
    """damo-cv/TransReID#20: a camera that did not occur in training is an index error.

    Here: it gets the mean over the known cameras.
    """
    embedding = CameraEmbedding(4, num_cameras=3).eval()
    got = embedding(torch.tensor([1, 99]))
    torch.testing.assert_close(got[1], embedding.table.mean(dim=0))
    torch.testing.assert_close(got[0], embedding.table[1])


def test_only_prompts_are_trained_in_the_first_stage(towers):
    """CLIP-ReID#11: the text encoder looks trainable in stage 1, and no gradient arrives.

    Here: with frozen towers the prompts alone receive a gradient.
    """
    freeze(towers)
    prompts = IdentityPromptLearner(towers, 3, num_tokens=2)
    stage = ClipReIDPromptStage(towers, prompts)
    stage(torch.randn(4, towers.width), torch.tensor([0, 0, 1, 2])).loss.backward()

    assert all(p.grad is None for p in towers.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in prompts.parameters())


def test_a_batch_size_that_divides_the_images(towers):
    """CLIP-ReID, stage 1: the last of N/B + 1 batches is empty.

    Here: a batch of any size, and no batch that a loader makes is empty.
    """
    freeze(towers)
    stage = ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 3, num_tokens=2))
    loader = torch.utils.data.DataLoader(range(56), batch_size=14)
    assert [len(batch) for batch in loader] == [14] * 4
    assert stage(torch.zeros(1, towers.width), torch.tensor([2])).loss.isfinite()


def test_every_weight_that_trains_has_a_gradient():
    """open_clip#1076: fine-tuning SigLIP with CLIP's loss leaves `logit_bias` without a gradient.

    Here: it does not train unless a loss reads it, so DDP finds no unused parameter.
    """
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(16, 16))
    towers.model.logit_bias = torch.nn.Parameter(torch.tensor(-10.0))  # as SigLIP's have
    method = ClipBaseline(towers, num_identities=2, weights={"id": 1.0, "supcon_text": 1.0})

    tokens = towers.tokenize(["a red coat", "a blue coat", "a hat", "a bag"])
    output = method(torch.rand(4, 3, 16, 16), torch.tensor([0, 0, 1, 1]), tokens=tokens)
    output.loss.backward()

    unused = [
        name
        for name, parameter in method.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert unused == []
    assert not towers.model.logit_bias.requires_grad
