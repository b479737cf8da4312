"""Weights that neighbouring projects load in part, scrambled, or not at all."""

import pytest
import torch

from clipreid_kit.clip import (
    ClipTowers,
    IdentityClassifier,
    load_towers,
    load_weights,
    read_weights,
    save_towers,
)


def layer(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


def assert_equal_state(module, state):
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


def test_weights_of_a_compiled_model():
    """timm PR#2003: a checkpoint of a compiled model is refused for its `_orig_mod.` prefix.

    Here: the prefix is dropped.
    """
    source, target = layer(1), layer(2)
    report = load_weights(target, prefixed(source.state_dict(), "_orig_mod."))

    assert not report.missing
    assert not report.unexpected
    assert_equal_state(target, source.state_dict())


@pytest.mark.parametrize("prefix", ["module._orig_mod.", "_orig_mod.module."])
def test_weights_behind_two_wrappers(prefix):
    """FareedKhan-dev/train-llm-from-scratch#36: of two prefixes one is dropped, and 163 keys miss.

    Here: any order of the known prefixes.
    """
    source, target = layer(1), layer(2)
    report = load_weights(target, prefixed(source.state_dict(), prefix))
    assert len(report.loaded) == 4
    assert_equal_state(target, source.state_dict())


def test_a_classifier_of_other_identities():
    """damo-cv/TransReID#70: a checkpoint of another number of classes fails at "size of tensor a".

    Here: without `strict` the classifier alone is left out, and the report names it.
    """
    source = torch.nn.ModuleDict({"neck": torch.nn.Linear(4, 4), "head": IdentityClassifier(4, 7)})
    target = torch.nn.ModuleDict({"neck": torch.nn.Linear(4, 4), "head": IdentityClassifier(4, 3)})
    before = target["head"].state_dict()["weight"].clone()

    report = load_weights(target, source.state_dict(), strict=False)
    assert [name for name, _, _ in report.mismatched] == ["head.weight"]
    torch.testing.assert_close(target["neck"].weight, source["neck"].weight)
    torch.testing.assert_close(target["head"].state_dict()["weight"], before)

    with pytest.raises(ValueError, match=r"head\.weight"):
        load_weights(target, source.state_dict())


def test_a_refused_checkpoint_changes_nothing():
    """CLIP-ReID, `model/make_model_clipreid.py`: weights are copied name by name until one fails.

    Here: the module is changed only if every tensor fits.
    """
    target = layer(2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    state = layer(1).state_dict()
    state["1.weight"] = torch.zeros(5, 5)

    with pytest.raises(ValueError, match=r"1\.weight"):
        load_weights(target, state)
    assert_equal_state(target, before)


def test_weights_of_another_image_size(tmp_path):
    """CLIP-ReID#8: weights of another image size than the configuration's fail at a tensor's size.

    Here: the position table is resized when the size is given, and the report says so.
    """
    small = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(32, 16))
    large = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32), seed=1)
    report = load_weights(large, small.state_dict(), source_image_size=(32, 16))

    assert len(report.resized) == 1
    images = torch.randn(1, 3, 64, 32)
    assert large.encode_image(images).isfinite().all()


def test_a_saved_model_keeps_its_geometry(tmp_path):
    """mikel-brostrom/boxmot#1155: weights do not say which image size and stride they are for.

    Here: the card beside the weights does, and the loaded model has the same embeddings.
    """
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(48, 32), patch_stride=6).eval()
    save_towers(towers, tmp_path / "model")
    loaded = load_towers(tmp_path / "model").eval()

    images = torch.randn(2, 3, 48, 32)
    assert loaded.grid == towers.grid
    torch.testing.assert_close(loaded.encode_image(images), towers.encode_image(images))


def test_a_pickled_module_is_not_run(tmp_path):
    """mikel-brostrom/boxmot#2122: weights that are a pickled object end in an UnpicklingError.

    Here: nothing in a file is run, and a sentence names the file.
    """
    path = tmp_path / "model.pt"
    torch.save(layer(), path)
    with pytest.raises(ValueError, match=r"model\.pt"):
        read_weights(path)


def test_a_state_under_a_name(tmp_path):
    """openai/CLIP#350: a training checkpoint of another code base is no state dict.

    Here: one that is held under `state_dict` or `model` is found.
    """
    source = layer(1)
    for key in ("state_dict", "model"):
        target = layer(2)
        torch.save({"epoch": 3, key: source.state_dict()}, tmp_path / "a.pt")
        load_weights(target, tmp_path / "a.pt")
        assert_equal_state(target, source.state_dict())


def test_position_weights_reach_the_forward_pass():
    """clip-vil/CLIP-ViL#13: resized positions are stored where the forward pass does not read them.

    Here: a loaded table changes the embeddings.
    """
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(32, 16)).eval()
    images = torch.randn(1, 3, 32, 16)
    before = towers.encode_image(images)

    state = {name: tensor.clone() for name, tensor in towers.state_dict().items()}
    (name,) = (name for name in state if "visual" in name and "positional_embedding" in name)
    state[name] += torch.randn_like(state[name])
    load_weights(towers, state)

    assert not torch.allclose(towers.encode_image(images), before, atol=1e-4)
