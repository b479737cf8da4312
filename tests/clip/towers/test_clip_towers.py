import copy
import pickle

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.coca_model import CoCa
from PIL import Image
from torch.testing import assert_close

import clipreid_kit.clip.towers.build as build_module
import clipreid_kit.clip.towers.clip_towers as towers_module
import clipreid_kit.clip.towers.tokenizer as tokenizer_module
from clipreid_kit.clip import ClipTowers, TowerEmbeddings
from clipreid_kit.clip.towers.model_catalogue import model_config

KINDS = ["vit", "resnet", "timm", "convnext", "siglip", "eos", "coca"]

# open_clip's names for LAION's models, and those with the activation of OpenAI's
FULL_WIDTH = [
    "ViT-B-16",
    "ViT-L-14",
    "RN101",
    "ViT-B-16-SigLIP2",
    "EVA02-B-16",
    "ViT-B-32-quickgelu",
    "ViT-B-16-quickgelu",
    "ViT-L-14-quickgelu",
    "RN50-quickgelu",
    "RN101-quickgelu",
]


def built_by_open_clip(kind, config, towers):
    """A model that open_clip alone has built, with the same weights."""
    options = {key: value for key, value in config.items() if key != "custom_text"}
    if kind == "coca":
        build = CoCa
    elif "custom_text" in config:
        build = open_clip.CustomTextCLIP
    else:
        build = open_clip.CLIP

    with torch.random.fork_rng():
        model = build(**options)
    model.load_state_dict(towers.model.state_dict())
    return model.eval()


class TestEqualsOpenClip:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("normalize", [False, True])
    @torch.no_grad()
    def test_at_the_native_size(self, build, configs, kind, normalize):
        towers = build(kind)
        reference = built_by_open_clip(kind, configs[kind], towers)

        images = torch.randn(2, 3, *towers.image_size)
        embeddings = towers.encode_image(images, normalize=normalize)
        assert torch.equal(embeddings, reference.encode_image(images, normalize=normalize))
        assert towers.embed_dim == embeddings.shape[1]

        # one row ends at the last token, so that none is left out and the bits agree
        end = 2 if kind == "eos" else 499
        tokens = torch.randint(3, 400, (3, towers.context_length))
        tokens[[0, 1, 2], [-1, 4, 8]] = end
        embeddings = towers.encode_text(tokens, normalize=normalize)
        assert torch.equal(embeddings, reference.encode_text(tokens, normalize=normalize))

    @pytest.mark.parametrize("kind", ["vit", "timm", "siglip", "coca"])
    def test_to_rounding_for_short_texts(self, build, configs, kind):
        towers = build(kind)
        reference = built_by_open_clip(kind, configs[kind], towers)
        tokens = torch.randint(3, 400, (4, towers.context_length))
        tokens[:, 9] = 499
        tokens[:, 10:] = 0
        tokens[3] = tokens[1]

        expected = reference.encode_text(tokens, normalize=False)

        assert_close(towers.encode_text(tokens), expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["ViT-B-32", "RN50"])
    @torch.no_grad()
    def test_at_full_size(self, name):
        with torch.random.fork_rng():
            torch.manual_seed(7)
            reference = open_clip.create_model(name).eval()
        towers = ClipTowers.from_open_clip(name, seed=7).eval()
        assert towers.load_report is None

        images = torch.randn(1, 3, 224, 224)
        assert torch.equal(towers.encode_image(images), reference.encode_image(images))

        tokens = towers.tokenize(["a photo of a person.", "a red coat"])
        expected = reference.encode_text(tokens)
        assert_close(towers.encode_text(tokens), expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", FULL_WIDTH)
    @torch.no_grad()
    def test_at_full_width_with_fewer_layers(self, build, configs, name):
        configs[name] = config = model_config(name)[1]
        vision, text = config["vision_cfg"], config["text_cfg"]
        if "timm_model_name" not in vision:
            vision["layers"] = [1, 1, 2, 1] if isinstance(vision["layers"], list) else 2
        text["layers"] = 2
        text["vocab_size"] = 500

        towers = build(name, seed=7)
        reference = built_by_open_clip(name, config, towers)

        images = torch.randn(1, 3, *towers.image_size)
        expected = reference.encode_image(images)
        assert torch.equal(towers.encode_image(images), expected)

        tokens = torch.randint(3, 400, (2, towers.context_length))
        tokens[[0, 1], [5, -1]] = 499
        assert torch.equal(towers.encode_text(tokens), reference.encode_text(tokens))

        levels = towers.encode_image_levels(
            images, ["previous", "unprojected", "projected", "patches"]
        )
        assert_close(levels.projected, expected, atol=1e-5, rtol=1e-5)
        assert levels.patches.shape == (1, levels.grid[0] * levels.grid[1], towers.width)
        assert levels.previous.shape[1] == towers.previous_width
        assert levels.unprojected.shape[1] == towers.width


def test_is_float32_in_training_mode_with_stable_names():
    towers = ClipTowers.from_open_clip("reid-tiny-vit")
    names = set(towers.state_dict())

    assert towers.training
    assert {tensor.dtype for tensor in towers.parameters()} == {torch.float32}
    assert names == {f"model.{name}" for name in towers.model.state_dict()}
    assert {"model.visual.proj", "model.text_projection", "model.logit_scale"} <= names


def test_building_leaves_the_global_generator_unchanged():
    before = torch.random.get_rng_state()
    first, again, other = (
        ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(128, 64), seed=seed)
        for seed in (3, 3, 4)
    )

    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.model.text_projection, again.model.text_projection)
    assert not torch.equal(first.model.text_projection, other.model.text_projection)


@pytest.mark.parametrize("kind", KINDS)
def test_each_parameter_belongs_to_one_tower(build, kind):
    towers = build(kind)
    image = [id(parameter) for parameter in towers.image_parameters()]
    text = [id(parameter) for parameter in towers.text_parameters()]

    assert sorted([*image, *text]) == sorted(id(parameter) for parameter in towers.parameters())
    assert image == [id(parameter) for parameter in towers.model.visual.parameters()]
    assert id(towers.logit_scale) in text


def test_the_learned_scale_and_bias(build):
    assert build("vit").logit_scale.exp().item() == pytest.approx(1 / 0.07)
    assert build("vit").logit_bias is None
    assert build("siglip").logit_bias.item() == -10


@pytest.mark.parametrize("kind", ["vit", "eos", "siglip"])
def test_no_inputs_return_no_rows(build, kind):
    towers = build(kind)
    images = torch.zeros(0, 3, *towers.image_size)
    tokens = torch.zeros(0, 4, dtype=torch.long)
    assert towers.encode_image(images).shape == (0, towers.embed_dim)
    assert towers.encode_text(tokens).shape == (0, towers.embed_dim)


class TestForward:
    @pytest.fixture
    def towers(self, build):
        return build("vit")

    @pytest.fixture
    def images(self):
        return torch.randn(2, 3, 64, 64)

    @pytest.fixture
    def tokens(self, towers):
        return towers.tokenize(["a coat", "a hat", "a bag"])

    def test_embeds_both(self, towers, images, tokens):
        both = towers(images, tokens, normalize=True)
        assert isinstance(both, TowerEmbeddings)
        assert torch.equal(both.image, towers.encode_image(images, normalize=True))
        assert torch.equal(both.text, towers.encode_text(tokens, normalize=True))
        assert_close(both.image.norm(dim=1), torch.ones(2))

    def test_embeds_one(self, towers, images, tokens):
        assert towers(images).text is None
        assert towers(tokens=tokens).image is None

    def test_runs_under_autocast(self, towers, images, tokens):
        exact = towers(images, tokens, normalize=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            fast = towers(images, tokens, normalize=True)
        assert_close(fast.image.float(), exact.image, atol=0.05, rtol=0)
        assert_close(fast.text.float(), exact.text, atol=0.05, rtol=0)


def test_gradient_reaches_every_parameter(build):
    towers = build("resnet", image_size=(128, 64)).train()
    tokens = towers.tokenize(["a", "b", "c", "d"])

    image, text = towers(torch.randn(4, 3, 128, 64), tokens, normalize=True)
    logits = towers.logit_scale.exp() * image @ text.T
    F.cross_entropy(logits, torch.arange(4)).backward()

    without = [name for name, parameter in towers.named_parameters() if parameter.grad is None]
    assert without == []


def test_inputs_follow_the_dtype_of_the_module(build):
    towers = build("vit").to(torch.bfloat16)
    assert towers.encode_image(torch.randn(2, 3, 64, 64)).dtype == torch.bfloat16
    assert towers.encode_text(towers.tokenize(["a coat"])).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda towers: pickle.loads(pickle.dumps(towers))]
)
def test_copies(build, copied):
    towers = build("vit", image_size=(128, 64))
    towers.tokenize(["loads the tokenizer"])
    twin = copied(towers)

    images = torch.randn(1, 3, 128, 64)
    assert torch.equal(twin.encode_image(images), towers.encode_image(images))
    assert torch.equal(twin.tokenize(["a coat"]), towers.tokenize(["a coat"]))


def test_the_first_line_shows_the_sizes(build):
    shown = repr(build("vit", image_size=(128, 64))).splitlines()
    assert shown[0] == "ClipTowers("
    assert shown[1].strip() == (
        "'vit', image_size=(128, 64), grid=(8, 4), embed_dim=32, context_length=77"
    )


def test_images_need_no_tokenizer(build, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(tokenizer_module, "HFTokenizer", refuse)
    towers = build("siglip")

    towers.encode_image(torch.zeros(1, 3, 160, 160))
    with pytest.raises(
        ValueError,
        match=r"The tokenizer 'nobody/nothing' .* could not be loaded \(OSError: no network\)",
    ):
        towers.tokenize(["a coat"])


class TestTokens:
    @pytest.fixture
    def towers(self, build):
        return build("vit")

    def test_are_counted(self, towers):
        assert towers.count_tokens("a red coat") == 5

    def test_of_a_piece(self, towers):
        assert towers.token_ids("red coat") == towers.tokenize(["a red coat"])[0, 2:4].tolist()

    def test_can_be_cut(self, towers):
        with pytest.warns(UserWarning, match="and are cut there"):
            assert towers.tokenize(["red " * 99], too_long="cut").shape == (1, 77)

    @pytest.mark.call_stack
    def test_a_cut_points_to_the_line_of_the_caller(self, towers):
        with pytest.warns(UserWarning, match="and are cut there") as warned:
            towers.tokenize(["red " * 99], too_long="cut")
        assert warned[0].filename == __file__

    def test_are_refused_if_too_many(self, towers):
        with pytest.raises(ValueError, match="at most 77 tokens"):
            towers.tokenize(["red " * 99])


def test_images_of_another_size(build):
    towers = build("vit", image_size=(128, 64))
    with pytest.raises(
        ValueError,
        match=r"encode_image: expected images of 128 x 64, got 64 x 128\. Resize the images",
    ):
        towers.encode_image(torch.zeros(1, 3, 64, 128))


@pytest.mark.parametrize("length", [78, 0])
def test_rows_of_another_length(build, length):
    with pytest.raises(
        ValueError, match=rf"token ids \(N, L\) with L in 1\.\.77, got shape \(2, {length}\)"
    ):
        build("vit").encode_text(torch.zeros(2, length, dtype=torch.long))


@pytest.mark.unhooked
@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 1, 64, 64),
        torch.zeros(3, 64, 64),
        torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
    ],
)
def test_other_images(build, images):
    with pytest.raises(ValueError, match=r"images as floating-point \(N, 3, H, W\), got shape"):
        build("vit").encode_image(images)


@pytest.mark.unhooked
def test_tokens_that_are_no_integers(build):
    with pytest.raises(ValueError, match=r"token ids .* got shape \(2, 5\), float32"):
        build("vit").encode_text(torch.zeros(2, 5))


class TestFromOpenClip:
    @pytest.fixture
    def nothing_is_built(self, monkeypatch):
        monkeypatch.setattr(build_module, "build_model", lambda *arguments: pytest.fail("built"))

    @pytest.mark.usefixtures("nothing_is_built")
    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            (("ViT-B-61",), r"The nearest: .*ViT-B-16"),
            (("ViT-B-16", "laion2b"), r"The nearest of its tags: .*laion2b_s34b_b88k"),
            (("ViT-B-16", "folder/none.pt"), r"a file that exists"),
        ],
    )
    def test_names_are_checked_first(self, arguments, match):
        with pytest.raises(ValueError, match=match):
            ClipTowers.from_open_clip(*arguments)

    @pytest.mark.usefixtures("nothing_is_built")
    def test_files_are_read_first(self, tmp_path):
        (tmp_path / "broken.pt").write_bytes(b"no weights")
        with pytest.raises(ValueError, match=r"cannot be read"):
            ClipTowers.from_open_clip("ViT-B-16", tmp_path / "broken.pt")

    @pytest.mark.usefixtures("nothing_is_built")
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"image_size": (256, 0)}, r"image_size as \(height, width\)"),
            ({"seed": -1}, r"from_open_clip: expected seed as a whole number >= 0, got -1"),
            ({"seed": "1"}, r"from_open_clip: expected seed as a whole number >= 0, got '1'"),
        ],
    )
    @pytest.mark.unhooked
    def test_options_are_checked_first(self, options, match):
        with pytest.raises(ValueError, match=match):
            ClipTowers.from_open_clip("ViT-B-16", **options)

    def test_a_file(self, tmp_path):
        there = ClipTowers.from_open_clip("reid-tiny-vit", seed=1)
        torch.save({"state_dict": there.model.state_dict()}, tmp_path / "run.pt")

        here = ClipTowers.from_open_clip("reid-tiny-vit", tmp_path / "run.pt", image_size=(128, 32))

        assert here.image_size == (128, 32)
        assert len(here.load_report.loaded) == len(here.state_dict())
        assert torch.equal(here.model.visual.proj, there.model.visual.proj)

        # 8 x 8 patches become 16 x 4: as many, and still another table
        before = there.model.visual.positional_embedding
        after = here.model.visual.positional_embedding
        assert before.shape == after.shape
        assert not torch.equal(before, after)

    def test_a_file_of_another_model(self, tmp_path):
        resnet = ClipTowers.from_open_clip("reid-tiny-resnet")
        torch.save(resnet.model.state_dict(), tmp_path / "other.pt")
        with pytest.raises(
            ValueError,
            match=r"a ViT with patches of 8.* got weights of a ResNet with 1-1-1-1 blocks",
        ):
            ClipTowers.from_open_clip("reid-tiny-vit", str(tmp_path / "other.pt"))

    def test_a_tag_brings_its_activation(self, monkeypatch, tmp_path):
        """The small model takes the place of ViT-B-32, and its weights those of OpenAI."""
        config = model_config("reid-tiny-vit")[1]
        there = ClipTowers.from_open_clip("reid-tiny-vit", seed=1)
        path = tmp_path / "weights.bin"
        torch.save(there.model.state_dict(), path)
        monkeypatch.setattr(towers_module, "model_config", lambda name: (name, config))
        monkeypatch.setattr(open_clip, "download_pretrained", lambda tag: str(path))

        towers = ClipTowers.from_open_clip("ViT-B-32", "openai")

        activation = towers.model.transformer.resblocks[0].mlp.gelu
        assert isinstance(activation, open_clip.transformer.QuickGELU)
        assert towers.config["quick_gelu"] is True
        assert "quick_gelu" not in config
        assert torch.equal(towers.model.visual.proj, there.model.visual.proj)


class TestFromName:
    @pytest.mark.parametrize("library", ["timm", "torchvision"])
    def test_a_prefix_names_the_library(self, library):
        trunk = "test_resnet" if library == "timm" else "shufflenet_v2_x0_5"
        build = {"timm": ClipTowers.from_timm, "torchvision": ClipTowers.from_torchvision}[library]
        expected = build(trunk, image_size=(64, 32), seed=3)
        towers = ClipTowers.from_name(f"{library}/{trunk}", image_size=(64, 32), seed=3)

        assert (towers.name, towers.image_size) == (expected.name, (64, 32))
        weights = zip(towers.parameters(), expected.parameters(), strict=True)
        assert all(torch.equal(first, second) for first, second in weights)

    def test_other_names_are_those_of_open_clip(self):
        towers = ClipTowers.from_name("reid-tiny-vit", patch_stride=4, num_cameras=2)
        assert towers.has_text
        assert towers.camera_embedding.num_cameras == 2

    @pytest.mark.parametrize(
        "option", [{"patch_stride": 4}, {"position_resize": "clip_reid"}, {"num_views": 2}]
    )
    def test_an_image_tower_alone_refuses_options_of_clip(self, option):
        with pytest.raises(ValueError, match=r"from_name: timm/test_resnet .* takes no patch"):
            ClipTowers.from_name("timm/test_resnet", **option)


@pytest.mark.unhooked
def test_texts_and_images_that_are_no_tensors_are_errors(build):
    towers = build("vit")
    image = Image.new("RGB", (64, 128))

    for call in (towers.encode_text, towers.embed_tokens, towers.end_of_text):
        with pytest.raises(
            ValueError, match=r"as a tensor, got list\. Convert texts with towers\.tok"
        ):
            call(["a photo"])
    with pytest.raises(
        ValueError, match=r"as a tensor, got str\. Convert texts with towers\.tokenize"
    ):
        towers(tokens="a photo")

    for call in (
        towers.encode_image,
        lambda images: towers.encode_image_levels(images, ["patches"]),
    ):
        with pytest.raises(
            ValueError, match=r"images as a tensor .* got list\. Transform and stack"
        ):
            call([image, image])
    with pytest.raises(ValueError, match="expected images as a dense tensor, got a meta tensor"):
        towers.encode_image(torch.zeros(1, 3, 128, 64, device="meta"))
