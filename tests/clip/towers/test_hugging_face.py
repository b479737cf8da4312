"""Checkpoints of Hugging Face: random ones, written and computed by transformers itself."""

import json
import shutil

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from clipreid_kit.clip import ClipTowers, load_towers, save_towers
from clipreid_kit.clip.towers.hugging_face_layout import convert_config, convert_weights

transformers = pytest.importorskip("transformers")

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 99,
    "max_position_embeddings": 16,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def model_of(kind, **changes):
    torch.manual_seed(1)
    if kind.startswith("clip"):
        ends = {"eos_token_id": {"clip": 98, "clip, early": 2, "clip, eos": 7}[kind]}
        text = {**TEXT, **ends, "bos_token_id": 1, **changes}
        config = transformers.CLIPConfig(
            text_config=text, vision_config={**VISION, **changes}, projection_dim=24
        )
        model = transformers.CLIPModel(config)
    else:
        text = {**TEXT, "bos_token_id": 1, "eos_token_id": 2, **changes}
        config = transformers.SiglipConfig(text_config=text, vision_config={**VISION, **changes})
        model = transformers.SiglipModel(config)

    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # away from the zeros and ones of the initialisation
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise, alpha=0.02 if parameter.ndim > 1 else 0.2)
    return model.eval()


@pytest.fixture
def write(tmp_path):
    """Save a random model of a kind; return the model and its folder."""

    def make(kind, max_shard_size="5GB", **changes):
        model = model_of(kind, **changes)
        model.save_pretrained(tmp_path / "checkpoint", max_shard_size=max_shard_size)
        return model, tmp_path / "checkpoint"

    return make


def embeddings(output):
    return output if isinstance(output, torch.Tensor) else output.pooler_output


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("clip", {}),
        ("clip, early", {"hidden_act": "gelu"}),
        ("clip, eos", {"layer_norm_eps": 1e-4}),
        ("siglip", {}),
        ("siglip", {"hidden_act": "gelu"}),
    ],
)
@torch.no_grad()
def test_towers_equal_transformers(write, kind, changes):
    model, folder = write(kind, **changes)
    towers = ClipTowers.from_hugging_face(folder).eval()

    images = torch.randn(3, 3, 32, 32)
    tokens = torch.randint(8, 97, (3, 16))
    if kind.startswith("clip"):
        tokens[:, 9] = 7 if kind == "clip, eos" else 98
        tokens[:, 10:] = tokens[:, 9:10]

    expected_images = embeddings(model.get_image_features(pixel_values=images))
    expected_texts = embeddings(model.get_text_features(input_ids=tokens))

    assert towers.load_report.is_complete
    assert_close(towers.encode_image(images), expected_images, rtol=0, atol=1e-5)
    assert_close(towers.encode_text(tokens), expected_texts, rtol=0, atol=1e-5)
    assert_close(towers.logit_scale.squeeze(), model.logit_scale.squeeze())
    if kind == "siglip":
        assert_close(towers.logit_bias.squeeze(), model.logit_bias.squeeze())


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@torch.no_grad()
def test_other_sizes_are_saved_and_loaded(write, tmp_path, kind):
    _, folder = write(kind)
    towers = ClipTowers.from_hugging_face(folder, image_size=(48, 16)).eval()
    save_towers(towers, tmp_path / "saved")
    twin = load_towers(tmp_path / "saved").eval()

    images = torch.randn(2, 3, 48, 16)
    assert towers.grid == twin.grid == (6, 2)
    assert torch.equal(twin.encode_image(images), towers.encode_image(images))


def test_the_specification_of_images_is_that_of_the_checkpoint(write):
    _, folder = write("clip")
    stated = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    towers = ClipTowers.from_hugging_face(folder)

    assert (towers.image_mean, towers.image_std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_without_a_preprocessor_siglip_has_its_own_normalisation(write):
    _, folder = write("siglip")
    assert ClipTowers.from_hugging_face(folder).image_mean == (0.5, 0.5, 0.5)


def test_the_tokenizer_is_that_of_the_checkpoint(write):
    _, folder = write("clip")
    vocabulary = {"[UNK]": 0, "red": 5, "coat": 6, "[PAD]": 1}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_word_tokenizer(vocabulary), pad_token="[PAD]", unk_token="[UNK]"
    )
    tokenizer.save_pretrained(folder)

    towers = ClipTowers.from_hugging_face(folder)

    assert towers.tokenize(["red coat"])[0, :4].tolist() == [5, 6, 1, 1]


def _word_tokenizer(vocabulary):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def test_clip_without_tokenizer_files_has_the_standard_one():
    settings = {"model_type": "clip", "projection_dim": 8, "text_config": {}, "vision_config": {}}
    assert convert_config(settings)["text_cfg"]["vocab_size"] == 49408


def test_a_repository_of_open_clip(tmp_path):
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"width": 64, "heads": 1, "layers": 1},
    }
    model = open_clip.CLIP(**config)
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    images = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    content = {"model_cfg": config, "preprocess_cfg": images}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))

    towers = ClipTowers.from_hugging_face(tmp_path)

    assert towers.load_report.is_complete
    assert (towers.embed_dim, towers.image_std) == (16, (0.25, 0.25, 0.25))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model_type": "siglip2"}, "NaFlex checkpoint of SigLIP 2"),
        ({"model_type": "dinov2"}, "model_type 'dinov2'"),
        ({"projection_dim": None, "text_config": None}, "lacks sizes of its towers"),
        ({"text_config": {"hidden_act": "relu"}, "vision_config": {"hidden_act": "relu"}}, "relu"),
        ({"vision_config": {"hidden_act": "gelu"}}, "one activation in both towers"),
    ],
)
def test_other_models_are_refused(change, match):
    settings = {"model_type": "clip", "projection_dim": 8, "text_config": {}, "vision_config": {}}
    with pytest.raises(ValueError, match=match):
        convert_config({**settings, **change})


def test_an_unknown_tensor_is_an_error(write):
    model, folder = write("clip")
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file({**state, "adapter.weight": torch.zeros(2)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"unexpected: model\.adapter\.weight"):
        ClipTowers.from_hugging_face(folder)


def test_position_ids_of_early_files_are_no_weights():
    assert convert_weights("clip", {"text_model.embeddings.position_ids": torch.arange(3)}) == {}


def test_missing_files_are_named(write):
    _, folder = write("clip")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"a folder with weights \(open_clip.* without any"):
        ClipTowers.from_hugging_face(folder)

    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"a folder with config.json or open_clip_config.json"):
        ClipTowers.from_hugging_face(folder)


@pytest.mark.parametrize("is_cached", [False, True])
def test_weights_in_several_files(write, cache, is_cached):
    model, folder = write("clip", max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    if is_cached:
        put_into(cache, folder)

    towers = ClipTowers.from_hugging_face("somebody/clip" if is_cached else folder).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = embeddings(model.get_image_features(pixel_values=images))
        assert_close(towers.encode_image(images), expected, rtol=0, atol=1e-5)


def test_a_damaged_index_is_explained(write):
    _, folder = write("clip", max_shard_size="40KB")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())

    content["weight_map"]["nobody"] = "model-00001-of-0000X.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"model-00001-of-0000X\.safetensors"):
        ClipTowers.from_hugging_face(folder)

    content["weight_map"]["nobody"] = content["weight_map"]["logit_scale"]
    index.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"safetensors has no nobody, which the index of .* names"):
        ClipTowers.from_hugging_face(folder)

    for wrong in ({"logit_scale": "../model.safetensors"}, [], {}):
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(ValueError, match=r"a weight_map from tensors to names of files in"):
            ClipTowers.from_hugging_face(folder)


def test_names_with_a_prefix_go_through_from_open_clip(write):
    _, folder = write("clip")
    towers = ClipTowers.from_open_clip(f"local-dir:{folder}", image_size=(48, 16), num_cameras=2)

    assert towers.grid == (6, 2)
    assert towers.camera_embedding.num_cameras == 2
    with pytest.raises(ValueError, match=r"no pretrained for local-dir:.* own weights, got 'x'"):
        ClipTowers.from_open_clip(f"local-dir:{folder}", "x")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the hub without a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def put_into(cache, folder):
    """Put a folder into a cache, as a model called somebody/clip."""
    shutil.copytree(folder, cache / "models--somebody--clip" / "snapshots" / "abc")
    (cache / "models--somebody--clip" / "refs").mkdir()
    (cache / "models--somebody--clip" / "refs" / "main").write_text("abc")


@pytest.mark.parametrize("name", ["somebody/clip", "hf-hub:somebody/clip"])
def test_a_name_is_found_in_the_cache(write, cache, name):
    _, folder = write("clip")
    put_into(cache, folder)

    towers = ClipTowers.from_hugging_face(name)

    assert (towers.name, towers.embed_dim) == ("somebody/clip", 24)


@pytest.mark.parametrize("name", ["somebody/nothing", "not a name", "hf-hub:a/b/c"])
def test_a_name_that_nobody_has_is_one_sentence(cache, name):
    with pytest.raises(ValueError, match="is neither a folder nor a model that the hub or its"):
        ClipTowers.from_hugging_face(name)
