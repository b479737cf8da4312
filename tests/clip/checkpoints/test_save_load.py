import json
import os
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from clipreid_kit.clip import ClipTowers, load_towers, load_weights, save_towers


@pytest.fixture
def saved(tmp_path):
    towers = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(128, 64), seed=5)
    towers.image_mean = (0.1, 0.2, 0.3)
    save_towers(towers, tmp_path / "run", extra={"epoch": 3, "classes": ["a", "b"]})
    return towers, tmp_path / "run"


def bits(module):
    return {name: (tensor.dtype, tensor.clone()) for name, tensor in module.state_dict().items()}


def assert_same_bits(one, other):
    first, second = bits(one), bits(other)
    assert first.keys() == second.keys()
    for name, (dtype, tensor) in first.items():
        assert second[name][0] == dtype
        assert torch.equal(second[name][1], tensor), name


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm", "convnext", "siglip", "eos", "coca"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip_is_bit_exact(build, tmp_path, kind, dtype):
    towers = build(kind, image_size=(320, 64)).to(dtype)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for tensor in towers.state_dict().values():  # a trained BatchNorm counts, too
            values = (
                torch.rand(tensor.shape) / 10
                if tensor.is_floating_point()
                else torch.full(tensor.shape, 7)
            )
            tensor.copy_(values)
    save_towers(towers, tmp_path)
    twin = load_towers(tmp_path)
    assert_same_bits(twin, towers)
    assert twin.image_size == (320, 64)
    assert twin.config == towers.config
    assert twin.training
    images = torch.randn(2, 3, 320, 64)
    with torch.no_grad():
        embeddings = towers.encode_image(images)
        assert embeddings.isfinite().all()
        assert torch.equal(twin.eval().encode_image(images), embeddings)


def test_the_card(saved):
    towers, folder = saved
    card = json.loads((folder / "card.json").read_text())
    assert card["name"] == "reid-tiny-resnet"
    assert card["config"]["vision_cfg"]["width"] == 16
    assert card["image_size"] == [128, 64]
    assert card["embed_dim"] == 128
    assert card["image_mean"] == [0.1, 0.2, 0.3]
    assert len(card["image_std"]) == 3
    assert card["num_parameters"] == sum(parameter.numel() for parameter in towers.parameters())
    assert card["versions"].keys() == {"clipreid_kit", "open_clip", "torch"}
    assert card["extra"] == {"epoch": 3, "classes": ["a", "b"]}
    twin = load_towers(folder)
    assert twin.image_mean == (0.1, 0.2, 0.3)
    assert twin.load_report.resized == ()
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "model.safetensors"]


def test_quick_gelu_is_kept(tmp_path):
    towers = ClipTowers.from_open_clip("reid-tiny-vit")
    state = towers.model.state_dict() | {"input_resolution": torch.tensor(64)}
    torch.save(state, tmp_path / "openai.pt")
    save_towers(
        ClipTowers.from_open_clip("reid-tiny-vit", tmp_path / "openai.pt"), tmp_path / "run"
    )
    twin = load_towers(tmp_path / "run")
    assert isinstance(twin.model.transformer.resblocks[0].mlp.gelu, open_clip.transformer.QuickGELU)


def test_a_card_of_an_earlier_version_has_no_geometry(saved):
    towers, folder = saved
    weights = load_file(folder / "model.safetensors")
    card = json.loads((folder / "card.json").read_text())
    for geometry in ({}, {"geometry": ["stride"]}):
        old = {key: value for key, value in card.items() if key != "geometry"} | geometry
        (folder / "card.json").write_text(json.dumps(old))
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        if geometry:
            with pytest.raises(ValueError, match=r"geometry as a mapping in the card"):
                load_towers(folder)
        else:
            assert_same_bits(load_towers(folder), towers)


def test_as_many_patches_in_another_shape_come_back_as_they_were(tmp_path):
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(128, 32))  # 16 x 4 from 8 x 8
    save_towers(towers, tmp_path)
    assert_same_bits(load_towers(tmp_path), towers)


def test_open_clip_reads_the_weights(tmp_path):
    towers = ClipTowers.from_open_clip("reid-tiny-vit", seed=1)
    save_towers(towers, tmp_path)
    model = open_clip.CLIP(**towers.config)
    open_clip.load_checkpoint(model, str(tmp_path / "model.safetensors"))
    assert torch.equal(model.visual.proj, towers.model.visual.proj)


def test_and_load_weights_does(saved):
    towers, folder = saved
    other = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(128, 64), seed=6)
    load_weights(other, folder / "model.safetensors")
    assert_same_bits(other, towers)


def test_loading_leaves_the_global_generator_alone(saved):
    before = torch.random.get_rng_state()
    load_towers(saved[1])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_a_save_that_is_cut_off_leaves_a_whole_checkpoint(saved, monkeypatch, step):
    old, folder = saved
    new = ClipTowers.from_open_clip("reid-tiny-vit", seed=9)
    calls = []

    def stop_before(name):
        real = os.fsync if name == "fsync" else Path.replace

        def call(*arguments):
            calls.append(name)
            if len(calls) == step + 1:
                raise KeyboardInterrupt
            return real(*arguments)

        return call

    monkeypatch.setattr(os, "fsync", stop_before("fsync"))
    monkeypatch.setattr(Path, "replace", stop_before("replace"))
    with pytest.raises(KeyboardInterrupt):
        save_towers(new, folder)
    monkeypatch.undo()
    assert_same_bits(load_towers(folder), old if step < 2 else new)
    assert not list(folder.glob("*.tmp"))


def test_saving_again_replaces(saved):
    _, folder = saved
    new = ClipTowers.from_open_clip("reid-tiny-vit", seed=9)
    save_towers(new, folder)
    assert_same_bits(load_towers(folder), new)
    assert json.loads((folder / "card.json").read_text())["extra"] == {}


class TestBadFolders:
    @pytest.mark.parametrize("name", ["card.json", "model.safetensors"])
    def test_a_file_is_missing(self, saved, name):
        (saved[1] / name).unlink()
        with pytest.raises(
            ValueError,
            match=rf"load_towers: expected a folder with .* without {name}\. Pass a folder",
        ):
            load_towers(saved[1])

    def test_no_folder(self, tmp_path):
        with pytest.raises(ValueError, match=r"without card\.json"):
            load_towers(tmp_path / "none")

    @pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "\x00", '{"format": '])
    def test_a_card_that_is_no_json(self, saved, text):
        (saved[1] / "card.json").write_text(text)
        with pytest.raises(
            ValueError, match=r"expected a card in JSON in .*card\.json, got "
        ) as error:
            load_towers(saved[1])
        assert error.value.__suppress_context__

    @pytest.mark.parametrize("text", ["[]", "3", "{}", '{"format": "clipreid_kit.towers/99"}'])
    def test_a_card_of_another_kind(self, saved, text):
        (saved[1] / "card.json").write_text(text)
        with pytest.raises(ValueError, match=r"a card of the format clipreid_kit\.towers/1"):
            load_towers(saved[1])

    @pytest.mark.parametrize(
        ("key", "value"), [("config", 3), ("name", None), ("image_mean", "x"), ("embed_dim", "a")]
    )
    def test_a_card_with_a_hole(self, saved, key, value):
        self.edit(saved[1], {key: value})
        with pytest.raises(ValueError, match=rf"has no valid {key}"):
            load_towers(saved[1])

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"image_size": [0, 64]}, r"image_size as \(height, width\)"),
            ({"image_mean": [1, 2]}, r"image_mean as three numbers"),
            ({"dtype": "int8"}, r"the dtype of weights"),
            ({"config": {}}, r"expected a configuration"),
        ],
    )
    def test_a_card_of_nonsense(self, saved, change, match):
        self.edit(saved[1], change)
        with pytest.raises(ValueError, match=match):
            load_towers(saved[1])

    def test_weights_of_another_model(self, saved):
        config = ClipTowers.from_open_clip("reid-tiny-vit").config
        self.edit(saved[1], {"config": config, "image_size": [64, 64]})
        with pytest.raises(
            ValueError,
            match=r"weights of a ViT with patches of 8.*weights of a ResNet with 1-1-1-1",
        ):
            load_towers(saved[1])

    @pytest.mark.parametrize("keep", [0, 4, 60, 0.5, 0.999])
    def test_cut_off_weights(self, saved, keep):
        path = saved[1] / "model.safetensors"
        data = path.read_bytes()
        path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
        with pytest.raises(ValueError, match=r"\d+ bytes that cannot be read") as error:
            load_towers(saved[1])
        assert error.value.__suppress_context__

    def edit(self, folder, change):
        """Write a changed card, and weights that carry none, as other tools would."""
        card = json.loads((folder / "card.json").read_text()) | change
        (folder / "card.json").write_text(json.dumps(card))
        save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")


def test_bad_saves(tmp_path, build):
    towers = build("vit")
    with pytest.raises(
        ValueError,
        match=r'save_towers: `extra` must be JSON-serialisable; `extra\["ids"\]` is a set\.',
    ):
        save_towers(towers, tmp_path / "run", extra={"ids": {1, 2}})
    with pytest.raises(ValueError, match="`extra` must be JSON-serialisable"):
        save_towers(towers, tmp_path / "run", extra={"loss": float("nan")})
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="expected a folder, got the file"):
        save_towers(towers, tmp_path / "file")
