import pytest
import torch
from torch import nn

from clipreid_kit.clip import (
    ClipBaseline,
    ClipTowers,
    IdentityPromptLearner,
    TrainingCheckpoints,
    load_towers,
    load_weights,
    merge_lora,
    save_towers,
    warm_start,
)
from clipreid_kit.clip.towers.wrappers import unwrapped

pytestmark = pytest.mark.unhooked

CALLS = {
    "save_towers": save_towers,
    "load_weights": lambda towers, folder: load_weights(towers, towers.state_dict()),
    "merge_lora": lambda towers, folder: merge_lora(towers),
    "warm_start": warm_start,
    "ClipBaseline": lambda towers, folder: ClipBaseline(towers, num_identities=2),
    "IdentityPromptLearner": lambda towers, folder: IdentityPromptLearner(towers, 2),
    "TrainingCheckpoints": lambda towers, folder: TrainingCheckpoints(folder).save(
        1, towers, {}, best=True
    ),
}


@pytest.fixture(scope="module")
def towers():
    return ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(64, 32))


@pytest.mark.parametrize("call", CALLS)
def test_a_module_for_several_devices_is_refused(towers, tmp_path, call):
    with pytest.raises(ValueError, match=rf"^{call}: .*DataParallel.* Pass its \.module\.$"):
        CALLS[call](nn.DataParallel(towers), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_compiled_towers_are_saved_under_their_own_names(towers, tmp_path):
    save_towers(torch.compile(towers), tmp_path)

    loaded = load_towers(tmp_path).state_dict()
    assert loaded.keys() == towers.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in towers.state_dict().items())


def test_a_compiled_method_is_saved_and_loaded_under_its_own_names(tmp_path):
    checkpoints = TrainingCheckpoints(tmp_path)
    layer = nn.Linear(2, 2)
    checkpoints.save(1, torch.compile(layer), {}, best=True)

    other = nn.Linear(2, 2)
    checkpoints.load("last", torch.compile(other))
    assert torch.equal(other.weight, layer.weight)
    assert checkpoints.load("last", other).loaded == ("weight", "bias")


def test_a_module_without_a_wrapper_is_itself():
    layer = nn.Linear(2, 2)
    assert unwrapped("owner", layer) is layer
