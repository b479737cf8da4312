import warnings

import open_clip
import pytest
import torch
from open_clip.model import convert_weights_to_fp16
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from clipreid_kit.clip.towers.architecture_check import describe_architecture
from clipreid_kit.clip.towers.load_weights import LoadReport, load_weights
from clipreid_kit.clip.towers.read_weights import read_weights

OPENAI_NUMBERS = {"input_resolution": 64, "context_length": 77, "vocab_size": 49408}


@pytest.fixture
def openai_state(configs):
    """Random weights in OpenAI's layout: half precision where OpenAI's are, and its three numbers."""

    def make(kind):
        with torch.random.fork_rng():
            torch.manual_seed(11)
            model = open_clip.CLIP(**configs[kind], quick_gelu=True)
        convert_weights_to_fp16(model)
        return model.state_dict() | {
            key: torch.tensor(number) for key, number in OPENAI_NUMBERS.items()
        }

    return make


class _Node(nn.Module):
    def forward(self, x):
        return x


def save_torchscript(state, path):
    root = _Node()
    for name, tensor in state.items():
        *parents, leaf = name.split(".")
        node = root
        for parent in parents:
            if not hasattr(node, parent):
                node.add_module(parent, _Node())
            node = getattr(node, parent)
        node.register_buffer(leaf, tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(root, torch.zeros(1)), path)


def save_as(form, state, path):
    match form:
        case "state dict":
            torch.save(state, path)
        case "TorchScript":
            save_torchscript(state, path)
        case "training checkpoint":
            wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
            torch.save(
                {"epoch": 3, "name": "run", "state_dict": wrapped, "optimizer": {"state": {}}}, path
            )
        case "safetensors":
            save_file(state, path)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
@pytest.mark.parametrize("form", ["state dict", "TorchScript"])
def test_openai_files_equal_open_clips_own_loading(build, openai_state, tmp_path, kind, form):
    path = tmp_path / "openai.pt"
    save_as(form, openai_state(kind), path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = open_clip.load_openai_model(str(path), precision="fp32", device="cpu")
    towers = build(kind, path)
    images = torch.randn(2, 3, 64, 64)
    tokens = torch.nn.functional.pad(torch.tensor([[49406, 320, 530, 49407]]), (0, 73))
    assert towers.config["quick_gelu"] is True
    assert towers.load_report is not None
    assert not towers.load_report.unexpected
    with torch.no_grad():
        assert torch.equal(towers.encode_image(images), theirs.encode_image(images))
        assert_close(towers.encode_text(tokens), theirs.encode_text(tokens), atol=1e-6, rtol=1e-5)
    assert {parameter.dtype for parameter in towers.parameters()} == {torch.float32}


@pytest.mark.parametrize("form", ["state dict", "training checkpoint", "safetensors"])
@pytest.mark.parametrize("kind", ["vit", "resnet", "timm", "siglip", "eos", "coca"])
def test_open_clip_files(build, tmp_path, form, kind):
    there = build(kind, seed=1)
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    save_as(form, there.model.state_dict(), path)
    here = build(kind, path, seed=2)
    assert "quick_gelu" not in here.config
    assert here.load_report.summary() == f"{len(here.state_dict())} tensors loaded"
    ours = here.model.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in there.model.state_dict().items())


def test_resized_only_after_loading(build, tmp_path):
    # 256 x 16 has as many patches as 64 x 64: loaded as native, then resized
    there = build("vit", seed=1)
    torch.save(there.model.state_dict(), tmp_path / "weights.pt")
    here = build("vit", tmp_path / "weights.pt", image_size=(256, 16), seed=2)
    expected = build("vit", seed=1, image_size=(256, 16))
    assert_close(here.state_dict(), expected.state_dict(), atol=0, rtol=0)


def test_weights_of_the_wanted_size_load_as_they_are(build, tmp_path):
    there = build("vit", image_size=(128, 64), seed=1)
    torch.save(there.model.state_dict(), tmp_path / "weights.pt")
    here = build("vit", tmp_path / "weights.pt", image_size=(128, 64), seed=2)
    assert_close(here.state_dict(), there.state_dict(), atol=0, rtol=0)
    assert here.load_report.resized == ()
    with pytest.raises(
        ValueError, match=r"positional_embedding \(33, 128\) in the checkpoint, \(17, 128\) here"
    ):
        build("vit", tmp_path / "weights.pt")


def test_square_weights_of_a_third_size_are_resized_and_reported(build, tmp_path):
    torch.save(
        build("vit", image_size=(96, 96), seed=1).model.state_dict(), tmp_path / "weights.pt"
    )
    here = build("vit", tmp_path / "weights.pt", image_size=(128, 64), seed=2)
    assert here.load_report.resized == ("model.visual.positional_embedding",)
    assert "1 resized: model.visual.positional_embedding" in here.load_report.summary()


class TestLoadWeights:
    def test_a_module_around_towers(self, build):
        def wrap(seed, classes, **options):
            with torch.random.fork_rng():
                return nn.ModuleDict(
                    {"towers": build("vit", seed=seed, **options), "head": nn.Linear(32, classes)}
                )

        there, here = wrap(1, 10), wrap(2, 7, image_size=(128, 64))
        old_head = here["head"].weight.clone()
        with pytest.raises(
            ValueError, match=r"head\.weight \(10, 32\) in the checkpoint, \(7, 32\) here"
        ):
            load_weights(here, there.state_dict())
        report = load_weights(here, {"model": there.state_dict()}, strict=False)
        assert report.resized == ("towers.model.visual.positional_embedding",)
        assert [name for name, *_ in report.mismatched] == ["head.weight", "head.bias"]
        assert torch.equal(here["head"].weight, old_head)
        assert torch.equal(
            here["towers"].model.text_projection, there["towers"].model.text_projection
        )

    def test_a_failure_changes_nothing(self, build):
        here, there = build("vit", seed=1), build("vit", seed=2).model.state_dict()
        before = {name: tensor.clone() for name, tensor in here.state_dict().items()}
        there["visual.proj"] = torch.zeros(2, 2)
        with pytest.raises(ValueError, match=r"visual\.proj"):
            load_weights(here, there)
        assert_close(here.state_dict(), before, atol=0, rtol=0)

    def test_what_is_missing_or_too_much(self):
        layer = nn.Linear(2, 2)
        state = {"weight": torch.eye(2), "other": torch.zeros(1)}
        with pytest.raises(
            ValueError, match=r"1 tensors loaded\n1 missing: bias\n1 unexpected: other\n"
        ):
            load_weights(layer, state)
        report = load_weights(layer, state, strict=False)
        assert report == LoadReport(("weight",), missing=("bias",), unexpected=("other",))
        assert torch.equal(layer.weight, torch.eye(2))

    def test_nothing_in_common_is_an_error_even_if_not_strict(self):
        with pytest.raises(ValueError, match=r"0 tensors loaded"):
            load_weights(nn.Linear(2, 2), {"else": torch.zeros(1)}, strict=False)

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
    def test_wrappers_are_dropped(self, prefix):
        layer = nn.Linear(2, 2)
        state = {prefix + name: tensor + 1 for name, tensor in layer.state_dict().items()}
        assert load_weights(layer, state) == LoadReport(("weight", "bias"))

    def test_keeps_the_dtype_of_the_module(self):
        layer = nn.Linear(2, 2)
        load_weights(layer, {"weight": torch.eye(2).half(), "bias": torch.ones(2).half()})
        assert layer.weight.dtype == torch.float32

    def test_two_architectures_are_both_named(self, build):
        with pytest.raises(ValueError, match="expected weights of") as error:
            load_weights(build("vit"), build("resnet").model.state_dict())
        text = str(error.value)
        assert (
            "expected weights of a ViT with patches of 16, width 128 and 2 blocks and text of width 64"
            in text
        )
        assert "got weights of a ResNet with 1-1-1-1 blocks and width 8 and text" in text
        assert "visual.conv1.weight (4, 3, 3, 3) in the checkpoint, (128, 3, 16, 16) here" in text

    @pytest.mark.parametrize("source", [{}, {"epoch": 3}, {"state_dict": {"a": 1}}])
    def test_without_tensors(self, source):
        with pytest.raises(
            ValueError, match=r"expected a mapping of names to tensors, got dict without any"
        ):
            load_weights(nn.Linear(2, 2), source)


def test_summary_shows_five_of_a_kind():
    report = LoadReport((), unexpected=tuple("abcdefg"), mismatched=(("x", (1,), (2, 2)),))
    assert report.summary().splitlines() == [
        "0 tensors loaded",
        "1 mismatched: x (1,) in the checkpoint, (2, 2) here",
        "7 unexpected: a, b, c, d, e, ...",
    ]


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
@pytest.mark.parametrize("image_size", [None, (128, 64)])
def test_tensors_of_odd_shapes_end_in_the_same_error(build, tmp_path, kind, image_size):
    state = {name: torch.zeros(3) for name in build(kind).model.state_dict()}
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=r"expected weights of .* got weights of "):
        build(
            kind,
            tmp_path / "odd.pt",
            image_size=(160, 320) if image_size and kind == "timm" else image_size,
        )


def test_a_trunk_of_timm_is_described(build):
    assert describe_architecture(build("timm").state_dict()).startswith("a timm trunk with 3")
    assert describe_architecture({"a": torch.zeros(1)}) == "1 tensors, the first a"


class _Evil:
    def __reduce__(self):
        return (print, ("executed",))


class TestDamagedFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(
            ValueError, match=r"a file that exists, got .*none\.pt\. Check the path"
        ):
            read_weights(tmp_path / "none.pt")

    @pytest.mark.parametrize("form", ["state dict", "TorchScript", "safetensors"])
    @pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.99])
    def test_cut_off(self, build, tmp_path, form, keep):
        path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
        save_as(form, {"layer.weight": torch.randn(50, 50)}, path)
        data = path.read_bytes()
        path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
        with pytest.raises(
            ValueError, match=r"load_weights: expected .* got \d+ bytes that cannot be read"
        ):
            read_weights(path)

    @pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors", ".npz"])
    @pytest.mark.parametrize(
        "data", [b"{}", b"\xff" * 400, b"PK\x03\x04 no archive", b"\x80\x05K\x01."]
    )
    def test_of_another_kind(self, tmp_path, suffix, data):
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(data)
        with pytest.raises(ValueError, match="load_weights: expected"):
            read_weights(path)

    def test_code_in_a_pickle_is_not_run(self, tmp_path, capsys):
        torch.save({"weights": _Evil()}, tmp_path / "evil.pt")
        with pytest.raises(ValueError, match="cannot be read"):
            read_weights(tmp_path / "evil.pt")
        assert "executed" not in capsys.readouterr().out

    def test_the_reader_s_own_traceback_is_not_shown(self, tmp_path):
        (tmp_path / "w.safetensors").write_bytes(b"short")
        with pytest.raises(ValueError, match="cannot be read") as error:
            read_weights(tmp_path / "w.safetensors")
        assert error.value.__suppress_context__
