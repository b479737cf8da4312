import json
import os
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_towers import tiny_towers

from clipreid_kit.clip import CameraEmbedding, ClipTowers, load_towers, load_weights, save_towers


@pytest.fixture
def towers():
    towers = tiny_towers("reid-tiny-resnet", image_size=(128, 64), seed=5)
    towers.image_mean = (0.1, 0.2, 0.3)
    return towers


@pytest.fixture
def folder(towers, tmp_path):
    """A folder with saved towers."""
    save_towers(towers, tmp_path / "run", extra={"epoch": 3, "classes": ["a", "b"]})
    return tmp_path / "run"


def read_card(folder):
    return json.loads((folder / "card.json").read_text())


def assert_same_bits(one, other):
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert second[name].dtype == tensor.dtype, name
        assert torch.equal(second[name], tensor), name


class TestRoundTrip:
    @pytest.fixture(
        params=[
            *("vit", "resnet", "timm", "convnext", "siglip", "eos", "coca"),
            *("vit in bfloat16", "resnet in bfloat16"),
        ]
    )
    def trained(self, request, build):
        """Towers with other values than a seed gives, also in the statistics of BatchNorm."""
        kind, _, precision = request.param.partition(" in ")
        towers = build(kind, image_size=(320, 64)).to(torch.bfloat16 if precision else None)
        generator = torch.Generator().manual_seed(0)
        for tensor in towers.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) / 10)
            else:
                tensor.fill_(7)
        return towers

    @torch.no_grad()
    def test_is_bit_exact(self, trained, tmp_path):
        save_towers(trained, tmp_path)
        twin = load_towers(tmp_path)

        assert_same_bits(twin, trained)
        assert twin.image_size == (320, 64)
        assert twin.config == trained.config
        assert twin.training

        images = torch.randn(2, 3, 320, 64)
        embeddings = trained.encode_image(images)
        assert embeddings.isfinite().all()
        assert torch.equal(twin.eval().encode_image(images), embeddings)


def test_the_card(towers, folder):
    card = read_card(folder)

    assert card["name"] == "reid-tiny-resnet"
    assert card["config"]["vision_cfg"]["width"] == 16
    assert card["image_size"] == [128, 64]
    assert card["embed_dim"] == 128
    assert card["image_mean"] == [0.1, 0.2, 0.3]
    assert len(card["image_std"]) == 3
    assert card["num_parameters"] == sum(parameter.numel() for parameter in towers.parameters())
    assert card["versions"].keys() == {"clipreid_kit", "open_clip", "torch"}
    assert card["extra"] == {"epoch": 3, "classes": ["a", "b"]}


def test_the_card_comes_back(folder):
    twin = load_towers(folder)
    assert twin.name == "reid-tiny-resnet"
    assert twin.image_mean == (0.1, 0.2, 0.3)
    assert twin.load_report.resized == ()
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "model.safetensors"]


def test_the_quick_gelu_is_kept(tmp_path):
    state = tiny_towers().model.state_dict()
    torch.save({**state, "input_resolution": torch.tensor(64)}, tmp_path / "openai.pt")
    towers = ClipTowers.from_open_clip("reid-tiny-vit", tmp_path / "openai.pt")

    save_towers(towers, tmp_path / "run")
    twin = load_towers(tmp_path / "run")

    activation = twin.model.transformer.resblocks[0].mlp.gelu
    assert isinstance(activation, open_clip.transformer.QuickGELU)


def test_as_many_patches_in_another_shape_come_back(tmp_path):
    towers = tiny_towers(image_size=(128, 32))  # 16 x 4 from 8 x 8
    save_towers(towers, tmp_path)
    assert_same_bits(load_towers(tmp_path), towers)


class TestCardsOfEarlierVersions:
    """Folders as version 0.1 wrote them: format 1, without a card inside the weights."""

    @pytest.fixture
    def rewrite(self, folder):
        """Change the card, and take the card out of the weights."""

        def write(change):
            card = change(read_card(folder))
            (folder / "card.json").write_text(json.dumps(card))
            weights = load_file(folder / "model.safetensors")
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

        return write

    def test_without_a_geometry(self, towers, folder, rewrite):
        rewrite(lambda card: {key: part for key, part in card.items() if key != "geometry"})
        assert_same_bits(load_towers(folder), towers)

    def test_with_a_geometry_of_another_type(self, folder, rewrite):
        rewrite(lambda card: {**card, "geometry": ["stride"]})
        with pytest.raises(ValueError, match=r"geometry as a mapping in the card"):
            load_towers(folder)

    def test_with_every_key_of_version_0_1(self, tmp_path):
        """A card written out by hand, so that a change of the writer cannot hide one."""
        towers = ClipTowers.from_open_clip(
            "reid-tiny-vit", image_size=(32, 16), patch_stride=(4, 6), num_cameras=3, num_views=2
        )
        towers.camera_embedding.scale = 3.0
        towers.camera_embedding.tokens = "all"
        weights = {
            name.removeprefix("model."): tensor for name, tensor in towers.state_dict().items()
        }
        card = {
            "format": "clipreid_kit.towers/1",
            "name": "reid-tiny-vit",
            "config": towers.config,
            "image_size": [32, 16],
            "geometry": {
                "patch_stride": [4, 6],
                "last_stride": None,
                "position_resize": "clip_reid",
                "cameras": {"num_cameras": 3, "num_views": 2, "scale": 3.0, "tokens": "all"},
            },
            "embed_dim": 128,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.25, 0.25, 0.25],
            "dtype": "float32",
            "num_parameters": 4118337,
            "versions": {"clipreid_kit": "0.1.0", "open_clip": "3.1.0", "torch": "2.6.0"},
            "extra": {"epoch": 3},
        }
        text = json.dumps(card, indent=2) + "\n"
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt", "card": text})
        (tmp_path / "card.json").write_text(text)

        twin = load_towers(tmp_path)

        assert_same_bits(twin, towers)
        assert twin.grid == towers.grid
        assert twin.position_resize == "clip_reid"
        assert (twin.camera_embedding.scale, twin.camera_embedding.tokens) == (3.0, "all")
        assert twin.image_std == (0.25, 0.25, 0.25)


def test_a_camera_embedding_comes_back(tmp_path):
    towers = tiny_towers(image_size=(32, 32))
    towers.camera_embedding = CameraEmbedding(towers.width, num_cameras=4)
    save_towers(towers, tmp_path)
    twin = load_towers(tmp_path)
    assert_same_bits(twin, towers)
    assert (twin.camera_embedding.num_cameras, twin.camera_embedding.num_views) == (4, 0)


def test_open_clip_reads_the_weights(tmp_path):
    towers = tiny_towers(seed=1)
    save_towers(towers, tmp_path)

    model = open_clip.CLIP(**towers.config)
    open_clip.load_checkpoint(model, str(tmp_path / "model.safetensors"))

    assert torch.equal(model.visual.proj, towers.model.visual.proj)


def test_load_weights_reads_the_weights(towers, folder):
    other = tiny_towers("reid-tiny-resnet", image_size=(128, 64), seed=6)
    load_weights(other, folder / "model.safetensors")
    assert_same_bits(other, towers)


def test_loading_leaves_the_global_generator_unchanged(folder):
    before = torch.random.get_rng_state()
    load_towers(folder)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("step", "is_new"), [(0, False), (1, False), (2, True), (3, True)])
def test_an_interrupted_save_leaves_complete_towers(towers, folder, monkeypatch, step, is_new):
    """The steps are a flush and a rename for the weights, then for the card."""
    new = tiny_towers(seed=9)
    num_calls = 0

    def interrupted(operation):
        def call(*arguments):
            nonlocal num_calls
            num_calls += 1
            if num_calls == step + 1:
                raise KeyboardInterrupt
            return operation(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted(os.fsync))
        patch.setattr(Path, "replace", interrupted(Path.replace))
        with pytest.raises(KeyboardInterrupt):
            save_towers(new, folder)

    assert_same_bits(load_towers(folder), new if is_new else towers)
    assert not list(folder.glob("*.tmp"))


def test_saving_again_replaces(folder):
    new = tiny_towers(seed=9)
    save_towers(new, folder)
    assert_same_bits(load_towers(folder), new)
    assert read_card(folder)["extra"] == {}


class TestDamagedFolders:
    @pytest.mark.parametrize("name", ["card.json", "model.safetensors"])
    def test_a_missing_file(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(
            ValueError,
            match=rf"load_towers: expected a folder with .* without {name}\. Pass a folder",
        ):
            load_towers(folder)

    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(ValueError, match=r"without card\.json"):
            load_towers(tmp_path / "none")

    @pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "\x00", '{"format": '])
    def test_a_card_that_is_not_json(self, folder, text):
        (folder / "card.json").write_text(text)
        with pytest.raises(
            ValueError, match=r"expected a card in JSON in .*card\.json, got "
        ) as error:
            load_towers(folder)
        assert error.value.__suppress_context__

    @pytest.mark.parametrize("text", ["[]", "3", "{}", '{"format": "clipreid_kit.towers/99"}'])
    def test_a_card_of_another_format(self, folder, text):
        (folder / "card.json").write_text(text)
        with pytest.raises(ValueError, match=r"a card of the format clipreid_kit\.towers/1"):
            load_towers(folder)

    @pytest.fixture
    def edit(self, folder):
        """Change the card, and take the card out of the weights, as other tools would."""

        def write(change):
            (folder / "card.json").write_text(json.dumps(read_card(folder) | change))
            save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")

        return write

    @pytest.mark.parametrize(
        ("key", "value"), [("config", 3), ("name", None), ("image_mean", "x"), ("embed_dim", "a")]
    )
    def test_a_value_of_another_type(self, folder, edit, key, value):
        edit({key: value})
        with pytest.raises(ValueError, match=rf"The card in .*card\.json has no valid {key}\."):
            load_towers(folder)

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"image_size": [0, 64]}, r"image_size as \(height, width\)"),
            ({"image_mean": [1, 2]}, r"image_mean as three numbers"),
            ({"dtype": "int8"}, r"the dtype of weights"),
            ({"config": {}}, r"expected a configuration"),
        ],
    )
    def test_a_value_out_of_range(self, folder, edit, change, match):
        edit(change)
        with pytest.raises(ValueError, match=match):
            load_towers(folder)

    def test_weights_of_another_model(self, folder, edit):
        config = tiny_towers().config
        edit({"config": config, "image_size": [64, 64]})
        with pytest.raises(
            ValueError,
            match=r"weights of a ViT with patches of 8.*weights of a ResNet with 1-1-1-1",
        ):
            load_towers(folder)

    @pytest.mark.parametrize("keep", [0, 4, 60, 0.5, 0.999])
    def test_truncated_weights(self, folder, keep):
        path = folder / "model.safetensors"
        content = path.read_bytes()
        length = keep if isinstance(keep, int) else int(len(content) * keep)
        path.write_bytes(content[:length])

        with pytest.raises(ValueError, match=r"\d+ bytes that cannot be read") as error:
            load_towers(folder)
        assert error.value.__suppress_context__


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"ids": {1, 2}}, r'`extra\["ids"\]` is a set\.'),
        ({"loss": float("nan")}, r'`extra\["loss"\]` is nan\.'),
    ],
)
def test_extra_that_is_not_json_is_refused_before_anything_is_written(
    tmp_path, towers, extra, reason
):
    with pytest.raises(
        ValueError, match=rf"save_towers: `extra` must be JSON-serialisable; {reason}"
    ):
        save_towers(towers, tmp_path / "run", extra=extra)
    assert not (tmp_path / "run").exists()


def test_a_file_is_no_folder(tmp_path, towers):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="expected a folder, got the file"):
        save_towers(towers, tmp_path / "file")
