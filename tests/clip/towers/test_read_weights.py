import hashlib
import os
import zipfile
from argparse import Namespace

import numpy as np
import pytest
import torch
from clip_files import save_as
from torch import nn

from clipreid_kit.clip.towers import read_weights as module
from clipreid_kit.clip.towers.read_weights import find_tensors, openai_digests, read_weights


class TestDamagedFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(
            ValueError, match=r"a file that exists, got .*none\.pt\. Check the path"
        ):
            read_weights(tmp_path / "none.pt")

    @pytest.mark.parametrize("form", ["state dict", "TorchScript", "safetensors"])
    @pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.99])
    def test_truncated(self, tmp_path, form, keep):
        path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
        save_as(form, {"layer.weight": torch.randn(50, 50)}, path)
        content = path.read_bytes()
        length = keep if isinstance(keep, int) else int(len(content) * keep)
        path.write_bytes(content[:length])

        with pytest.raises(
            ValueError, match=r"load_weights: expected .* got \d+ bytes that cannot be read"
        ):
            read_weights(path)

    @pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors", ".npz"])
    @pytest.mark.parametrize(
        "content", [b"{}", b"\xff" * 400, b"PK\x03\x04 no archive", b"\x80\x05K\x01."]
    )
    def test_of_another_format(self, tmp_path, suffix, content):
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="load_weights: expected"):
            read_weights(path)

    def test_the_traceback_of_the_reader_is_hidden(self, tmp_path):
        path = tmp_path / "w.safetensors"
        path.write_bytes(b"short")
        with pytest.raises(ValueError, match="cannot be read") as error:
            read_weights(path)
        assert error.value.__suppress_context__


class Malicious:
    def __reduce__(self):
        return (print, ("executed",))


def test_code_in_a_pickle_does_not_run(tmp_path, capsys):
    torch.save({"weights": Malicious()}, tmp_path / "malicious.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        read_weights(tmp_path / "malicious.pt")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("checkpoint", [{}, {"epoch": 3}, {"state_dict": {"a": 1}}])
def test_content_without_tensors(checkpoint):
    with pytest.raises(
        ValueError, match=r"expected a mapping of names to tensors, got dict without any"
    ):
        find_tensors(checkpoint)


@pytest.mark.parametrize(
    "key",
    ["state_dict", "model_state_dict", "model", "module", "state_dict_ema", "model_ema", "ema"],
)
def test_a_nested_state_dict_is_found(key):
    tensor = torch.ones(2)
    assert find_tensors({"epoch": 3, key: {"weight": tensor}}) == {"weight": tensor}


def test_a_state_dict_inside_another_is_found():
    tensor = torch.ones(2)
    assert find_tensors({"model": {"state_dict": {"weight": tensor}}}) == {"weight": tensor}


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "module.module._orig_mod.module.",
        "_fsdp_wrapped_module.",
    ],
)
def test_prefixes_of_wrappers_are_dropped(prefix):
    state = {f"{prefix}weight": torch.ones(2), f"{prefix}bias": torch.zeros(2)}
    assert find_tensors(state).keys() == {"weight", "bias"}


def test_a_wrapper_inside_a_module_is_dropped():
    assert find_tensors({"towers._orig_mod.weight": torch.ones(2)}).keys() == {"towers.weight"}


@pytest.mark.parametrize(
    ("wrapped", "plain"),
    [
        ("towers.module.model.weight", "towers.model.weight"),
        ("module.towers._orig_mod.module.model.weight", "towers.model.weight"),
        ("_orig_mod.towers.module.module.weight", "towers.weight"),
    ],
)
def test_wrappers_at_any_depth_are_dropped(wrapped, plain):
    state = {wrapped: torch.ones(2), wrapped.replace("weight", "bias"): torch.zeros(2)}
    assert find_tensors(state).keys() == {plain, plain.replace("weight", "bias")}


def test_an_averaged_part_of_a_model_is_unwrapped():
    state = {"head.weight": torch.ones(2), "towers.n_averaged": torch.tensor(3)}
    state["towers.module.weight"] = torch.zeros(2)
    assert find_tensors(state).keys() == {"head.weight", "towers.weight"}


def test_a_counter_without_a_wrapper_is_kept():
    state = {"weight": torch.ones(2), "n_averaged": torch.tensor(3)}
    assert find_tensors(state).keys() == {"weight", "n_averaged"}


def test_components_are_joined_under_their_names():
    tensor = torch.ones(2)
    checkpoint = {"clip": {"visual.proj": tensor}, "classifier_state_dict": {"weight": tensor}}
    found = find_tensors({"epoch": 3, "optimizer": {"state": {0: {}}}, **checkpoint})
    assert found.keys() == {"clip.visual.proj", "classifier.weight"}


def test_arguments_beside_the_weights_are_no_obstacle(tmp_path):
    arguments = Namespace(lr=1e-5, name="run")
    torch.save({"model_state_dict": {"w": torch.ones(2)}, "args": arguments}, tmp_path / "a.pth")
    assert read_weights(tmp_path / "a.pth").keys() == {"w"}


def test_measures_and_random_states_of_numpy_are_no_obstacle(tmp_path):
    beside = {"top1_accuracy": np.float64(0.5), "rng_state": np.random.RandomState(0).get_state()}
    torch.save({"model_state_dict": {"w": torch.ones(2)}, **beside}, tmp_path / "a.pth")
    assert read_weights(tmp_path / "a.pth").keys() == {"w"}


def test_a_pickled_model_is_refused(tmp_path):
    torch.save({"model": nn.Linear(2, 2), "args": Namespace(lr=1e-5)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"tensors only, got \d+ bytes that cannot be read"):
        read_weights(tmp_path / "a.pth")


def test_a_class_inside_the_arguments_is_refused(tmp_path, capsys):
    torch.save({"w": torch.ones(2), "args": Namespace(weights=Malicious())}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="cannot be read"):
        read_weights(tmp_path / "a.pth")
    assert "executed" not in capsys.readouterr().out


def test_averaged_models_are_unwrapped():
    average = torch.optim.swa_utils.AveragedModel(nn.Linear(2, 2))
    assert find_tensors(average.state_dict()).keys() == {"weight", "bias"}


def test_names_that_would_collide_are_kept():
    state = {"a._orig_mod.b": torch.ones(2), "a.b": torch.zeros(2)}
    assert find_tensors(state).keys() == state.keys()


def test_a_prefix_of_some_names_is_kept():
    state = {"module.weight": torch.ones(2), "bias": torch.zeros(2)}
    assert find_tensors(state).keys() == state.keys()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
class TestTorchScript:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "weights.pt"
        save_as("TorchScript", {"layer.weight": torch.ones(2)}, path)
        return path

    def test_of_others_is_refused(self, path):
        with pytest.raises(ValueError, match=r"may run any code .* and not one of OpenAI's"):
            read_weights(path)

    def test_is_not_loaded_before_it_is_refused(self, path, monkeypatch):
        monkeypatch.setattr(torch.jit, "load", None)
        with pytest.raises(ValueError, match="TorchScript archive"):
            read_weights(path)

    def test_under_another_suffix_is_refused(self, path):
        path.rename(path.with_suffix(".bin"))
        with pytest.raises(ValueError, match="TorchScript archive"):
            read_weights(path.with_suffix(".bin"))

    def test_that_hides_its_constants_does_not_run(self, path, tmp_path):
        """Whatever torch.load takes for a program, it refuses, because only data are asked for."""
        hidden = tmp_path / "hidden.pt"
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(hidden, "w") as new:
            for name in old.namelist():
                new.writestr(name.replace("/constants.pkl", "/CONSTANTS.pkl"), old.read(name))
        with pytest.raises(ValueError, match="cannot be read"):
            read_weights(hidden)

    def test_of_a_known_digest_is_read(self, path, monkeypatch):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setattr(module, "openai_digests", lambda: frozenset({digest}))
        assert read_weights(path).keys() == {"layer.weight"}

    def test_the_digests_of_openai_are_known(self):
        of_vit_b_16 = "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
        assert of_vit_b_16 in openai_digests()
        assert len(openai_digests()) >= 8


@pytest.mark.skipif(os.name != "posix", reason="no pipes in folders")
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_pipe_is_refused(tmp_path, suffix):
    os.mkfifo(tmp_path / f"weights{suffix}")
    with pytest.raises(ValueError, match="is not a regular file"):
        read_weights(tmp_path / f"weights{suffix}")
