import pytest
import torch
from tiny_towers import tiny_towers
from torch import nn

from clipreid_kit.clip import (
    ClipBaseline,
    TrainingCheckpoints,
    load_weights,
    read_card,
    save_towers,
    warm_start,
)

SIZE = (32, 32)


class Method(nn.Module):
    """Towers with a head beside them."""

    def __init__(self, towers, num_identities):
        super().__init__()
        self.towers = towers
        self.neck = nn.BatchNorm1d(8)
        self.classifier = nn.Linear(8, num_identities, bias=False)


def make_towers(name="reid-tiny-resnet", size=SIZE, seed=0):
    return tiny_towers(name, image_size=size, seed=seed)


def make_method(num_identities, **options):
    return Method(make_towers(**options), num_identities)


def changed(module):
    """The module with other values, as after a step."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5)
    return module


def same(module, other):
    first, second = module.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


@pytest.fixture
def checkpoints(tmp_path):
    return TrainingCheckpoints(tmp_path / "run" / "checkpoints")


@pytest.fixture
def method(checkpoints):
    """A method of nine identities that was saved as the best one, before another."""
    method = changed(make_method(9))
    checkpoints.save(1, method, {}, best=True, card={"identities": ["rex", "tom"]})
    checkpoints.save(2, changed(make_method(9, seed=1)), {}, best=False)
    return method


class TestSources:
    @pytest.fixture(params=["checkpoints", "run", "one checkpoint"])
    def source(self, request, checkpoints, method):
        return {
            "checkpoints": checkpoints.folder,
            "run": checkpoints.folder.parent,
            "one checkpoint": checkpoints.path("best"),
        }[request.param]

    def test_what_fits_is_loaded(self, source, method):
        other = make_method(4)
        classifier = other.classifier.weight.clone()

        report = warm_start(other, source)

        assert same(other.towers, method.towers)
        assert torch.equal(other.neck.weight, method.neck.weight)
        assert torch.equal(other.classifier.weight, classifier)
        assert "neck.weight" in report.loaded
        assert report.mismatched == (("classifier.weight", (9, 8), (4, 8)),)

    def test_the_card_is_read(self, source):
        assert read_card(source) == {"epoch": 1, "identities": ["rex", "tom"]}

    def test_a_folder_of_save_towers(self, tmp_path, method):
        save_towers(method.towers, tmp_path / "towers")
        other = make_method(4)
        classifier = other.classifier.weight.clone()

        report = warm_start(other, tmp_path / "towers")

        assert same(other.towers, method.towers)
        assert torch.equal(other.classifier.weight, classifier)
        assert "classifier.weight" in report.missing


def test_towers_alone(checkpoints, method):
    towers = make_towers()
    report = warm_start(towers, checkpoints.folder)
    assert same(towers, method.towers)
    assert report.is_complete


def test_a_method_of_the_library(checkpoints):
    method = changed(ClipBaseline(make_towers(), 9))
    checkpoints.save(1, method, {}, best=True)
    other = ClipBaseline(make_towers(seed=1), 4)

    report = warm_start(other, checkpoints.folder)

    assert same(other.towers, method.towers)
    assert [shapes for _, *shapes in report.mismatched] == [[(9, 128), (4, 128)]]
    assert (report.missing, report.unexpected) == ((), ())


@pytest.mark.parametrize(
    ("trained_at", "size"),
    [((48, 24), (64, 32)), ((48, 192), (96, 96))],  # the latter has 4 x 16 patches, or 8 x 8
)
def test_tables_are_resized(checkpoints, trained_at, size):
    checkpoints.save(1, make_method(4, name="reid-tiny-vit", size=trained_at), {}, best=True)
    other = make_method(4, name="reid-tiny-vit", size=size, seed=1)
    report = warm_start(other, checkpoints.folder)
    assert report.resized == ("towers.model.visual.positional_embedding",)


def test_modules_without_towers(checkpoints):
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 9))
    checkpoints.save(1, module, {}, best=True)
    other = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))

    report = warm_start(other, checkpoints.folder)

    assert report.loaded == ("0.weight", "0.bias")
    assert torch.equal(other[0].weight, module[0].weight)


def test_the_report_equals_that_of_load_weights(checkpoints, method):
    expected = load_weights(make_method(4), method.state_dict(), strict=False)
    report = warm_start(make_method(4), checkpoints.folder)
    assert set(report.loaded) == set(expected.loaded)
    assert report.mismatched == expected.mismatched


def test_a_folder_without_a_checkpoint(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"warm_start: expected a training run or a checkpoint with model\.safetensors or "
        r"heads\.safetensors, got",
    ):
        warm_start(nn.Linear(2, 2), tmp_path)


class TestReadCard:
    def test_without_towers_there_is_none(self, tmp_path):
        assert read_card(tmp_path) == {}

    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(
            ValueError, match="read_card: expected a training run or a checkpoint, got"
        ):
            read_card(tmp_path / "nothing")

    @pytest.mark.parametrize("text", ["{", "[]", '{"extra": 3}'])
    def test_a_damaged_card(self, checkpoints, method, text):
        (checkpoints.path("best") / "card.json").write_text(text)
        with pytest.raises(ValueError, match=r"read_card: The card .*card\.json is damaged"):
            read_card(checkpoints.folder)
