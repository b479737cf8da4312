import copy
import pickle
import subprocess
import sys

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.coca_model import CoCa
from torch.testing import assert_close

import clipreid_kit.clip.towers.build as assemble_module
import clipreid_kit.clip.towers.clip_towers as towers_module
import clipreid_kit.clip.towers.tokenizer as tokens_module
from clipreid_kit.clip import ClipTowers, TowerEmbeddings
from clipreid_kit.clip.towers.model_catalogue import WeightSource

KINDS = ["vit", "resnet", "timm", "convnext", "siglip", "eos", "coca"]


def reference_of(kind, config, towers):
    """The same weights in a model that open_clip alone has built."""
    options = {key: value for key, value in config.items() if key != "custom_text"}
    build = (
        CoCa
        if kind == "coca"
        else open_clip.CustomTextCLIP
        if "custom_text" in config
        else open_clip.CLIP
    )
    with torch.random.fork_rng():
        model = build(**options)
    model.load_state_dict(towers.model.state_dict())
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_equals_open_clip_at_the_native_size(build, configs, kind):
    towers = build(kind)
    reference = reference_of(kind, configs[kind], towers)
    images = torch.randn(2, 3, *towers.image_size)
    tokens = torch.randint(3, 400, (3, towers.context_length))
    tokens[0, -1], tokens[1, 4], tokens[2, 8] = (2, 2, 2) if kind == "eos" else (499, 499, 499)
    with torch.no_grad():
        for normalize in (False, True):
            ours = towers.encode_image(images, normalize=normalize)
            assert torch.equal(ours, reference.encode_image(images, normalize=normalize))
            # one row reaches the last token, so nothing is left out and the bits agree, too
            ours = towers.encode_text(tokens, normalize=normalize)
            assert torch.equal(ours, reference.encode_text(tokens, normalize=normalize))
    assert towers.embed_dim == ours.shape[1]


@pytest.mark.parametrize("kind", ["vit", "timm", "siglip", "coca"])
def test_texts_equal_open_clip_to_rounding(build, configs, kind):
    towers = build(kind)
    reference = reference_of(kind, configs[kind], towers)
    tokens = torch.randint(3, 400, (4, towers.context_length))
    tokens[:, 9], tokens[:, 10:] = 499, 0
    tokens[3] = tokens[1]
    expected = reference.encode_text(tokens, normalize=False)
    assert_close(towers.encode_text(tokens), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-32", "RN50"])
def test_equals_open_clip_at_full_size(name):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        reference = open_clip.create_model(name).eval()
    towers = ClipTowers.from_open_clip(name, seed=7).eval()
    images = torch.randn(1, 3, 224, 224)
    tokens = towers.tokenize(["a photo of a person.", "a red coat"])
    with torch.no_grad():
        assert torch.equal(towers.encode_image(images), reference.encode_image(images))
        assert_close(
            towers.encode_text(tokens), reference.encode_text(tokens), atol=1e-5, rtol=1e-5
        )
    assert towers.load_report is None


# open_clip's names for LAION's models, and with another activation for OpenAI's
FULL_WIDTH = ["ViT-B-16", "ViT-L-14", "RN101", "ViT-B-16-SigLIP2", "EVA02-B-16"]
FULL_WIDTH += [
    f"{name}-quickgelu" for name in ("ViT-B-32", "ViT-B-16", "ViT-L-14", "RN50", "RN101")
]


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_WIDTH)
def test_equals_open_clip_at_full_width(name):
    config = towers_module.model_config(name)[1]
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" not in vision:
        vision["layers"] = [1, 1, 2, 1] if isinstance(vision["layers"], list) else 2
    text["layers"], text["vocab_size"] = 2, 500
    source = WeightSource(None, False, (0.0,) * 3, (1.0,) * 3)
    towers = assemble_module.assemble(ClipTowers, name, config, source, seed=7).eval()
    reference = reference_of(name, config, towers)
    images, tokens = (
        torch.randn(1, 3, *towers.image_size),
        torch.randint(3, 400, (2, towers.context_length)),
    )
    tokens[0, 5], tokens[1, -1] = 499, 499
    with torch.no_grad():
        expected = reference.encode_image(images)
        assert torch.equal(towers.encode_image(images), expected)
        levels = towers.encode_image_levels(
            images, ["previous", "unprojected", "projected", "patches"]
        )
        assert_close(levels.projected, expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(towers.encode_text(tokens), reference.encode_text(tokens))
    assert levels.patches.shape == (1, levels.grid[0] * levels.grid[1], towers.width)
    assert (levels.previous.shape[1], levels.unprojected.shape[1]) == (
        towers.previous_width,
        towers.width,
    )


def test_is_float32_in_training_mode_with_stable_names(build):
    towers = ClipTowers.from_open_clip("reid-tiny-vit")
    assert towers.training
    assert {tensor.dtype for tensor in towers.parameters()} == {torch.float32}
    reference = {f"model.{name}" for name in towers.model.state_dict()}
    assert set(towers.state_dict()) == reference
    assert {"model.visual.proj", "model.text_projection", "model.logit_scale"} <= reference


def test_building_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    first = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(128, 64), seed=3)
    again = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(128, 64), seed=3)
    other = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(128, 64), seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.model.text_projection, again.model.text_projection)
    assert not torch.equal(first.model.text_projection, other.model.text_projection)


@pytest.mark.parametrize("kind", KINDS)
def test_each_parameter_is_of_one_tower(build, kind):
    towers = build(kind)
    image, text = list(towers.image_parameters()), list(towers.text_parameters())
    assert sorted(map(id, [*image, *text])) == sorted(map(id, towers.parameters()))
    assert {id(parameter) for parameter in image} == {
        id(p) for p in towers.model.visual.parameters()
    }
    assert any(parameter is towers.logit_scale for parameter in text)


def test_the_learned_scale_and_bias(build):
    assert build("vit").logit_scale.exp().item() == pytest.approx(1 / 0.07)
    assert build("vit").logit_bias is None
    assert build("siglip").logit_bias.item() == -10


@pytest.mark.parametrize("kind", ["vit", "eos", "siglip"])
def test_nothing_in_gives_nothing_out(build, kind):
    towers = build(kind)
    assert towers.encode_image(torch.zeros(0, 3, *towers.image_size)).shape == (0, towers.embed_dim)
    assert towers.encode_text(torch.zeros(0, 4, dtype=torch.long)).shape == (0, towers.embed_dim)


def test_forward_gives_what_it_is_given(build):
    towers = build("vit")
    images, tokens = torch.randn(2, 3, 64, 64), towers.tokenize(["a coat", "a hat", "a bag"])
    both = towers(images, tokens, normalize=True)
    assert isinstance(both, TowerEmbeddings)
    assert torch.equal(both.image, towers.encode_image(images, normalize=True))
    assert torch.equal(both.text, towers.encode_text(tokens, normalize=True))
    assert_close(both.image.norm(dim=1), torch.ones(2))
    assert towers(images).text is None
    assert towers(tokens=tokens).image is None


def test_gradient_reaches_every_parameter_that_takes_part(build):
    towers = build("resnet", image_size=(128, 64))
    towers.train()
    image, text = towers(
        torch.randn(4, 3, 128, 64), towers.tokenize(["a", "b", "c", "d"]), normalize=True
    )
    F.cross_entropy(towers.logit_scale.exp() * image @ text.T, torch.arange(4)).backward()
    without = [name for name, parameter in towers.named_parameters() if parameter.grad is None]
    assert without == []


def test_inputs_follow_the_dtype_of_the_module(build):
    towers = build("vit").to(torch.bfloat16)
    assert towers.encode_image(torch.randn(2, 3, 64, 64)).dtype == torch.bfloat16
    assert towers.encode_text(towers.tokenize(["a coat"])).dtype == torch.bfloat16


def test_runs_under_autocast(build):
    towers = build("vit")
    images, tokens = torch.randn(2, 3, 64, 64), towers.tokenize(["a coat", "a hat"])
    exact = towers(images, tokens, normalize=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast = towers(images, tokens, normalize=True)
    assert_close(fast.image.float(), exact.image, atol=0.05, rtol=0)
    assert_close(fast.text.float(), exact.text, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda towers: pickle.loads(pickle.dumps(towers))]
)
def test_copies(build, copied):
    towers = build("vit", image_size=(128, 64))
    towers.tokenize(["loaded"])
    twin = copied(towers)
    images = torch.randn(1, 3, 128, 64)
    assert torch.equal(twin.encode_image(images), towers.encode_image(images))
    assert torch.equal(twin.tokenize(["a coat"]), towers.tokenize(["a coat"]))


def test_images_need_no_tokenizer(build, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(tokens_module, "HFTokenizer", refuse)
    towers = build("siglip")
    towers.encode_image(torch.zeros(1, 3, 160, 160))
    with pytest.raises(
        ValueError,
        match=r"The tokenizer 'nobody/nothing' .* could not be loaded .OSError: no network",
    ):
        towers.tokenize(["a coat"])


def test_tokens(build):
    towers = build("vit")
    assert towers.count_tokens("a red coat") == 5
    with pytest.warns(UserWarning, match="and are cut there"):
        assert towers.tokenize(["red " * 99], too_long="cut").shape == (1, 77)
    assert towers.token_ids("red coat") == towers.tokenize(["a red coat"])[0, 2:4].tolist()
    with pytest.raises(ValueError, match="at most 77 tokens"):
        towers.tokenize(["red " * 99])


def test_wrong_image_size(build):
    with pytest.raises(
        ValueError,
        match=r"encode_image: expected images of 128 x 64, got 64 x 128\. Resize the images",
    ):
        build("vit", image_size=(128, 64)).encode_image(torch.zeros(1, 3, 64, 128))


def test_rows_longer_than_the_context(build):
    with pytest.raises(
        ValueError, match=r"token ids \(N, L\) with L in 1\.\.77, got shape \(2, 78\)"
    ):
        build("vit").encode_text(torch.zeros(2, 78, dtype=torch.long))
    with pytest.raises(ValueError, match=r"with L in 1\.\.77, got shape \(2, 0\)"):
        build("vit").encode_text(torch.zeros(2, 0, dtype=torch.long))


@pytest.mark.unhooked
def test_wrong_kinds_of_input(build):
    towers = build("vit")
    for images in (
        torch.zeros(1, 1, 64, 64),
        torch.zeros(3, 64, 64),
        torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
    ):
        with pytest.raises(ValueError, match=r"images as floating-point \(N, 3, H, W\), got shape"):
            towers.encode_image(images)
    with pytest.raises(ValueError, match=r"token ids .* got shape \(2, 5\), float32"):
        towers.encode_text(torch.zeros(2, 5))


class TestFromOpenClip:
    def test_everything_is_checked_before_anything_is_built(self, monkeypatch, tmp_path):
        monkeypatch.setattr(assemble_module, "build_model", lambda *arguments: pytest.fail("built"))
        (tmp_path / "broken.pt").write_bytes(b"no weights")
        for arguments, match in [
            (("ViT-B-61",), r"The nearest: .*ViT-B-16"),
            (("ViT-B-16", "laion2b"), r"The nearest of its tags: .*laion2b_s34b_b88k"),
            (("ViT-B-16", str(tmp_path / "none.pt")), r"a file that exists"),
            (("ViT-B-16", tmp_path / "broken.pt"), r"cannot be read"),
        ]:
            with pytest.raises(ValueError, match=match):
                ClipTowers.from_open_clip(*arguments)
        with pytest.raises(ValueError, match=r"image_size as \(height, width\)"):
            ClipTowers.from_open_clip("ViT-B-16", image_size=(256, 0))

    def test_a_file(self, tmp_path):
        there = ClipTowers.from_open_clip("reid-tiny-vit", seed=1)
        torch.save({"state_dict": there.model.state_dict()}, tmp_path / "run.pt")
        here = ClipTowers.from_open_clip("reid-tiny-vit", tmp_path / "run.pt", image_size=(128, 32))
        assert here.image_size == (128, 32)
        assert len(here.load_report.loaded) == len(here.state_dict())
        assert torch.equal(here.model.visual.proj, there.model.visual.proj)
        # 16 x 4 patches from 8 x 8: as many, and still another table
        before, after = (towers.model.visual.positional_embedding for towers in (there, here))
        assert before.shape == after.shape
        assert not torch.equal(before, after)

    def test_a_file_of_another_model(self, tmp_path):
        torch.save(
            ClipTowers.from_open_clip("reid-tiny-resnet").model.state_dict(), tmp_path / "other.pt"
        )
        with pytest.raises(
            ValueError,
            match=r"a ViT with patches of 8.* got weights of a ResNet with 1-1-1-1 blocks",
        ):
            ClipTowers.from_open_clip("reid-tiny-vit", str(tmp_path / "other.pt"))

    def test_a_tag(self, monkeypatch, tmp_path):
        config = {**towers_module.model_config("reid-tiny-vit")[1]}
        there = ClipTowers.from_open_clip("reid-tiny-vit", seed=1)
        torch.save(there.model.state_dict(), tmp_path / "weights.bin")
        monkeypatch.setattr(towers_module, "model_config", lambda name: (name, config))
        monkeypatch.setattr(
            open_clip, "download_pretrained", lambda tag: str(tmp_path / "weights.bin")
        )
        towers = ClipTowers.from_open_clip("ViT-B-32", "openai")
        assert towers.config["quick_gelu"] is True  # OpenAI's weights were trained with it
        assert "quick_gelu" not in config
        assert isinstance(
            towers.model.transformer.resblocks[0].mlp.gelu, open_clip.transformer.QuickGELU
        )
        assert torch.equal(towers.model.visual.proj, there.model.visual.proj)


def test_the_rest_of_the_library_does_without_open_clip():
    code = "import sys, clipreid_kit; sys.exit('open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
