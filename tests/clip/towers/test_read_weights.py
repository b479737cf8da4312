import pytest
import torch
from clip_files import save_as

from clipreid_kit.clip.towers.read_weights import find_tensors, read_weights


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


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_nested_state_dict_is_found(key):
    tensor = torch.ones(2)
    assert find_tensors({"epoch": 3, key: {"weight": tensor}}) == {"weight": tensor}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_dropped(prefix):
    state = {f"{prefix}weight": torch.ones(2), f"{prefix}bias": torch.zeros(2)}
    assert find_tensors(state).keys() == {"weight", "bias"}


def test_a_prefix_of_some_names_is_kept():
    state = {"module.weight": torch.ones(2), "bias": torch.zeros(2)}
    assert find_tensors(state).keys() == state.keys()
