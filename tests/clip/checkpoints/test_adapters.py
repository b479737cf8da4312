import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_towers import tiny_towers

from clipreid_kit.clip import (
    TrainingCheckpoints,
    add_lora,
    export_image_tower,
    load_adapters,
    load_towers,
    load_weights,
    merge_lora,
    save_adapters,
    save_towers,
    warm_start,
)
from clipreid_kit.clip.towers.read_weights import read_metadata

SIZE = (32, 16)


def build(seed=0):
    return tiny_towers(image_size=SIZE, seed=seed).eval()


@pytest.fixture
def adapted():
    """Towers whose adapters have an effect, with a projection that was trained too."""
    pytest.importorskip("peft", reason="an extra")
    towers = build()
    add_lora(towers, 2, alpha=3, parts=("attention",))
    add_lora(towers, 2, tower="text")
    towers.model.visual.proj.requires_grad = True
    with torch.no_grad():
        for name, parameter in towers.named_parameters():
            if parameter.requires_grad and "logit" not in name:
                parameter.add_(0.02)
    return towers


@torch.no_grad()
def embeddings(towers):
    images = torch.linspace(-1, 1, 2 * 3 * SIZE[0] * SIZE[1]).view(2, 3, *SIZE)
    texts = towers.tokenize(["a red coat", "a cup"])
    return torch.cat([towers.encode_image(images), towers.encode_text(texts)])


def assert_same(one, other):
    torch.testing.assert_close(embeddings(one), embeddings(other), rtol=1e-5, atol=1e-5)


class TestFolders:
    def test_towers_are_saved_with_their_adapters(self, adapted, tmp_path):
        save_towers(adapted, tmp_path)
        again = load_towers(tmp_path).eval()

        assert again.adapters == adapted.adapters
        assert again.adapters["image"]["alpha"] == 3
        assert torch.equal(embeddings(again), embeddings(adapted))
        trained = {name for name, value in again.named_parameters() if "lora_" in name}
        assert all(again.get_parameter(name).requires_grad for name in trained)

    def test_or_merged_when_asked(self, adapted, tmp_path):
        save_towers(adapted, tmp_path, merge_adapters=True)
        again = load_towers(tmp_path).eval()

        assert again.adapters == {}
        assert again.state_dict().keys() == build().state_dict().keys()
        assert adapted.adapters  # the towers keep theirs
        assert_same(again, adapted)

    @pytest.mark.parametrize("adapters", [[], {"image": {"rang": 2}}, {"image": 2}])
    def test_a_damaged_card_is_named(self, adapted, tmp_path, adapters):
        save_towers(adapted, tmp_path)
        card = json.loads((tmp_path / "card.json").read_text()) | {"adapters": adapters}
        weights = load_file(tmp_path / "model.safetensors")
        save_file(weights, tmp_path / "model.safetensors", {"card": json.dumps(card)})
        with pytest.raises(ValueError, match=r"load_towers: expected .*adapters .*in the card of"):
            load_towers(tmp_path)


class TestCheckpointsOfRuns:
    def test_with_adapters_start_a_run_without(self, adapted, tmp_path):
        TrainingCheckpoints(tmp_path).save(1, adapted, {}, best=True)
        plain = build(seed=1)
        assert warm_start(plain, tmp_path).is_complete
        assert_same(plain, adapted)

    def test_without_adapters_start_a_run_with(self, adapted, tmp_path):
        plain = build(seed=1)
        TrainingCheckpoints(tmp_path).save(1, plain, {}, best=True)

        with torch.no_grad():  # adapters that have no effect
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.zero_()
        report = warm_start(adapted, tmp_path)

        assert {name.split(".")[-3] for name in report.missing} == {"lora_A", "lora_B"}
        assert not report.unexpected
        assert_same(plain, adapted)

    def test_resume(self, adapted, tmp_path):
        checkpoints = TrainingCheckpoints(tmp_path)
        checkpoints.save(1, adapted, {}, best=True)
        twin = build(seed=1)
        add_lora(twin, 2, alpha=3, parts=("attention",), seed=1)
        add_lora(twin, 2, tower="text")

        checkpoints.load("last", twin)

        assert torch.equal(embeddings(twin), embeddings(adapted))


class TestFileOfAdapters:
    @pytest.fixture
    def file(self, adapted, tmp_path):
        path = tmp_path / "shoes.safetensors"
        save_adapters(adapted, path)
        return path

    def test_holds_what_trains_alone(self, adapted, file):
        names = load_file(file).keys()
        assert names == {name for name, p in adapted.named_parameters() if p.requires_grad}
        assert file.stat().st_size < sum(p.numel() for p in adapted.parameters())

    def test_loads_into_towers_with_the_same_weights(self, adapted, file):
        towers = build()
        report = load_adapters(towers, file)

        assert torch.equal(embeddings(towers), embeddings(adapted))
        assert towers.adapters == adapted.adapters
        assert set(report.loaded) == load_file(file).keys()
        assert not report.unexpected

    def test_of_another_model_is_refused(self, file):
        other = tiny_towers("reid-tiny-resnet")
        with pytest.raises(ValueError, match=r"adapters of reid-tiny-resnet, got those of .*vit"):
            load_adapters(other, file)

    def test_that_does_not_fit_changes_nothing(self, file):
        weights = load_file(file) | {"model.visual.proj": torch.ones(2)}
        save_file(weights, file, read_metadata(file))

        towers = build()
        before = embeddings(towers)
        towers.model.visual.conv1.weight.requires_grad = False
        names = towers.state_dict().keys()
        with pytest.raises(ValueError, match=r"1 tensors of .* do not fit .* model\.visual\.proj"):
            load_adapters(towers, file)

        assert torch.equal(embeddings(towers), before)
        assert (towers.state_dict().keys(), towers.adapters) == (names, {})
        frozen = [name for name, p in towers.named_parameters() if not p.requires_grad]
        assert frozen == ["model.visual.conv1.weight"]

    def test_on_towers_with_adapters_is_refused(self, adapted, file):
        with pytest.raises(ValueError, match=r"have adapters already\. Call merge_lora first"):
            load_adapters(adapted, file)

    def test_of_another_kind_is_refused(self, tmp_path):
        save_towers(build(), tmp_path)
        with pytest.raises(ValueError, match=r"expected a file of save_adapters"):
            load_adapters(build(), tmp_path / "model.safetensors")

    def test_of_another_suffix_is_refused(self, adapted, tmp_path):
        with pytest.raises(ValueError, match=r"a path that ends in \.safetensors"):
            save_adapters(adapted, tmp_path / "shoes.pt")


def test_towers_without_adapters_have_none_to_save(tmp_path):
    with pytest.raises(ValueError, match=r"save_adapters: The towers have no adapters"):
        save_adapters(build(), tmp_path / "shoes.safetensors")


def test_merging_forgets_the_settings(adapted):
    merge_lora(adapted)
    assert adapted.adapters == {}
    assert load_weights(build(), adapted.state_dict()).is_complete


@pytest.mark.skipif(
    torch.__version__.startswith("2.6"),
    reason="torch 2.6 cannot export attention without gradients, and says so",
)
@pytest.mark.slow
def test_adapters_are_merged_on_export(adapted, tmp_path):
    pytest.importorskip("onnxscript", reason="an extra")
    onnxruntime = pytest.importorskip("onnxruntime", reason="an extra")
    export_image_tower(adapted, tmp_path / "tower.onnx", normalize=False)

    session = onnxruntime.InferenceSession(str(tmp_path / "tower.onnx"))
    images = torch.randn(2, 3, *SIZE)
    (found,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        expected = adapted.encode_image(images)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)
    assert adapted.adapters
