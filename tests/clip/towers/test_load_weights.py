import hashlib
import warnings
from argparse import Namespace

import open_clip
import pytest
import torch
from clip_files import save_as
from open_clip.model import convert_weights_to_fp16
from torch import nn
from torch.testing import assert_close

from clipreid_kit.clip import add_lora, merge_lora
from clipreid_kit.clip.towers import read_weights
from clipreid_kit.clip.towers.load_weights import LoadReport, load_weights

OPENAI_NUMBERS = {"input_resolution": 64, "context_length": 77, "vocab_size": 49408}


@pytest.fixture
def openai_state(configs):
    """Random weights in OpenAI's layout, in half precision and with its three numbers."""

    def make(kind):
        with torch.random.fork_rng():
            torch.manual_seed(11)
            model = open_clip.CLIP(**configs[kind], quick_gelu=True)
        convert_weights_to_fp16(model)
        numbers = {key: torch.tensor(number) for key, number in OPENAI_NUMBERS.items()}
        return model.state_dict() | numbers

    return make


def same_tensors(state, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in state.items())


@pytest.mark.parametrize("kind", ["vit", "resnet"])
@pytest.mark.parametrize("form", ["state dict", "TorchScript"])
@torch.no_grad()
def test_openai_files_equal_the_loading_of_open_clip(
    build, openai_state, tmp_path, monkeypatch, kind, form
):
    path = tmp_path / "openai.pt"
    save_as(form, openai_state(kind), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(read_weights, "openai_digests", lambda: frozenset({digest}))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = open_clip.load_openai_model(str(path), precision="fp32", device="cpu")

    towers = build(kind, path)

    assert towers.config["quick_gelu"] is True
    assert not towers.load_report.unexpected
    assert {parameter.dtype for parameter in towers.parameters()} == {torch.float32}

    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(towers.encode_image(images), reference.encode_image(images))

    tokens = torch.zeros(1, 77, dtype=torch.long)
    tokens[0, :4] = torch.tensor([49406, 320, 530, 49407])
    assert_close(towers.encode_text(tokens), reference.encode_text(tokens), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("vit", "state dict"),
        ("vit", "training checkpoint"),
        ("vit", "safetensors"),
        ("resnet", "training checkpoint"),
        ("timm", "safetensors"),
        ("siglip", "state dict"),
        ("eos", "training checkpoint"),
        ("coca", "safetensors"),
    ],
)
def test_files_of_open_clip(build, tmp_path, form, kind):
    there = build(kind, seed=1)
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    save_as(form, there.model.state_dict(), path)

    here = build(kind, path, seed=2)

    assert "quick_gelu" not in here.config
    assert here.load_report.summary() == f"{len(here.state_dict())} tensors loaded"
    assert same_tensors(there.state_dict(), here.state_dict())


class TestImageSizes:
    @pytest.fixture
    def saved(self, build, tmp_path):
        """Save the weights of a ViT at an image size, and return the towers and the file."""

        def save(image_size=None):
            towers = build("vit", image_size=image_size, seed=1)
            torch.save(towers.model.state_dict(), tmp_path / "weights.pt")
            return towers, tmp_path / "weights.pt"

        return save

    def test_native_weights_are_resized_after_loading(self, build, saved):
        """256 x 16 has as many patches as the native 64 x 64."""
        _, path = saved()
        here = build("vit", path, image_size=(256, 16), seed=2)
        expected = build("vit", seed=1, image_size=(256, 16))
        assert same_tensors(expected.state_dict(), here.state_dict())

    def test_weights_of_the_requested_size_load_unchanged(self, build, saved):
        there, path = saved((128, 64))
        here = build("vit", path, image_size=(128, 64), seed=2)
        assert same_tensors(there.state_dict(), here.state_dict())
        assert here.load_report.resized == ()

    def test_weights_of_another_size_are_refused_at_the_native_one(self, build, saved):
        _, path = saved((128, 64))
        with pytest.raises(
            ValueError,
            match=r"positional_embedding \(33, 128\) in the checkpoint, \(17, 128\) here",
        ):
            build("vit", path)

    def test_square_weights_of_a_third_size_are_resized_and_reported(self, build, saved):
        _, path = saved((96, 96))
        here = build("vit", path, image_size=(128, 64), seed=2)
        assert here.load_report.resized == ("model.visual.positional_embedding",)
        assert "1 resized: model.visual.positional_embedding" in here.load_report.summary()


class TestTowersInsideAModule:
    @pytest.fixture
    def wrap(self, build):
        def make(seed, num_classes, **options):
            with torch.random.fork_rng():
                head = nn.Linear(32, num_classes)
            return nn.ModuleDict({"towers": build("vit", seed=seed, **options), "head": head})

        return make

    def test_another_head_is_refused(self, wrap):
        there, here = wrap(1, 10), wrap(2, 7, image_size=(128, 64))
        with pytest.raises(
            ValueError, match=r"head\.weight \(10, 32\) in the checkpoint, \(7, 32\) here"
        ):
            load_weights(here, there.state_dict())

    def test_another_head_keeps_its_values_if_not_strict(self, wrap):
        there, here = wrap(1, 10), wrap(2, 7, image_size=(128, 64))
        head = here["head"].weight.clone()

        report = load_weights(here, {"model": there.state_dict()}, strict=False)

        assert report.resized == ("towers.model.visual.positional_embedding",)
        assert [name for name, *_ in report.mismatched] == ["head.weight", "head.bias"]
        assert torch.equal(here["head"].weight, head)
        there_text, here_text = (one["towers"].model.text_projection for one in (there, here))
        assert torch.equal(here_text, there_text)


def test_a_failure_changes_nothing(build):
    here = build("vit", seed=1)
    before = {name: tensor.clone() for name, tensor in here.state_dict().items()}
    state = build("vit", seed=2).model.state_dict()
    state["visual.proj"] = torch.zeros(2, 2)

    with pytest.raises(ValueError, match=r"visual\.proj"):
        load_weights(here, state)

    assert same_tensors(before, here.state_dict())


class TestDifferences:
    @pytest.fixture
    def state(self):
        return {"weight": torch.eye(2), "other": torch.zeros(1)}

    def test_are_refused(self, state):
        with pytest.raises(
            ValueError,
            match=r"1 tensors loaded; 1 missing: bias; 1 unexpected: other\. Pass strict",
        ):
            load_weights(nn.Linear(2, 2), state)

    def test_are_one_line_whatever_the_names_are(self):
        with pytest.raises(ValueError, match="got weights of") as error:
            load_weights(nn.Linear(2, 2), {"wei\nght": torch.eye(2), "bias": torch.zeros(2)})

        assert len(str(error.value).splitlines()) == 1

    def test_are_reported_if_not_strict(self, state):
        layer = nn.Linear(2, 2)
        report = load_weights(layer, state, strict=False)
        assert report == LoadReport(("weight",), missing=("bias",), unexpected=("other",))
        assert torch.equal(layer.weight, torch.eye(2))

    def test_in_all_tensors_are_refused_even_if_not_strict(self):
        with pytest.raises(ValueError, match=r"0 tensors loaded"):
            load_weights(nn.Linear(2, 2), {"else": torch.zeros(1)}, strict=False)

    def test_between_architectures_name_both(self, build):
        with pytest.raises(ValueError, match="expected weights of") as error:
            load_weights(build("vit"), build("resnet").model.state_dict())

        message = str(error.value)
        assert "expected weights of a ViT with patches of 16, width 128 and 2 blocks" in message
        assert "got weights of a ResNet with 1-1-1-1 blocks and width 8 and text" in message
        assert "visual.conv1.weight (4, 3, 3, 3) in the checkpoint, (128, 3, 16, 16)" in message

    def test_within_one_architecture_are_not_said_to_be_between_two(self, build):
        state = build("vit").model.state_dict()
        del state["visual.ln_post.bias"]
        with pytest.raises(ValueError, match=r"both hold a ViT .*names or shapes differ") as error:
            load_weights(build("vit"), state)
        assert "expected" not in str(error.value)

    @pytest.mark.parametrize(
        ("kind", "image_size"),
        [
            ("vit", None),
            ("vit", (128, 64)),
            ("resnet", None),
            ("resnet", (128, 64)),
            ("timm", None),
            ("timm", (160, 320)),
        ],
    )
    def test_in_all_shapes_are_an_error_of_this_kind(self, build, tmp_path, kind, image_size):
        state = {name: torch.zeros(3) for name in build(kind).model.state_dict()}
        torch.save(state, tmp_path / "odd.pt")
        with pytest.raises(ValueError, match=r"expected weights of .* got weights of "):
            build(kind, tmp_path / "odd.pt", image_size=image_size)


def test_prefixes_of_wrappers_are_dropped():
    layer = nn.Linear(2, 2)
    state = {f"module.{name}": tensor + 1 for name, tensor in layer.state_dict().items()}
    assert load_weights(layer, state) == LoadReport(("weight", "bias"))


def test_the_module_keeps_its_dtype():
    layer = nn.Linear(2, 2)
    load_weights(layer, {"weight": torch.eye(2).half(), "bias": torch.ones(2).half()})
    assert layer.weight.dtype == torch.float32


class TestCheckpointsOfPipelines:
    def test_arguments_beside_the_weights(self, build, tmp_path):
        """As StyleFinder saves them."""
        towers = build("vit", seed=3)
        saved = {"model_state_dict": towers.model.state_dict(), "model_name": "ViT-B/16"}
        torch.save(saved | {"train_args": Namespace(lr=5e-5, p=16)}, tmp_path / "BEST.pth")

        twin = build("vit", path=tmp_path / "BEST.pth")

        assert same_tensors(towers.state_dict(), twin.state_dict())

    def test_several_modules(self, build):
        """As the third stage of the hands pipeline saves them."""
        towers = build("vit", seed=3)
        saved = {
            "epoch": 4,
            "clip_state_dict": towers.model.state_dict(),
            "inversion_state_dict": {"fc.weight": torch.ones(2)},
            "optimizer": {"state": {}, "param_groups": [{"lr": 1e-5}]},
        }
        twin = build("vit")
        report = load_weights(twin, saved, strict=False)

        assert same_tensors(towers.state_dict(), twin.state_dict())
        assert report.unexpected == ("model.inversion.fc.weight",)
        with pytest.raises(ValueError, match=r"1 unexpected: model\.inversion\.fc\.weight"):
            load_weights(twin, saved)


class TestLora:
    @pytest.fixture
    def adapted(self, build):
        pytest.importorskip("peft", reason="an extra")
        towers = build("vit")
        add_lora(towers, 2)
        return towers

    def test_unmerged_layers_are_named(self, adapted, build):
        with pytest.raises(
            ValueError, match=r"holds unmerged LoRA layers\. .*call `merge_lora` before saving"
        ):
            load_weights(build("vit"), adapted.state_dict())

    def test_they_load_into_towers_with_the_same_adapters(self, adapted, build):
        with torch.no_grad():
            for parameter in adapted.image_parameters():
                parameter.add_(0.01)
        twin = build("vit")
        add_lora(twin, 2, seed=1)

        load_weights(twin, adapted.state_dict())

        assert same_tensors(adapted.state_dict(), twin.state_dict())

    def test_merged_layers_load(self, adapted, build):
        merge_lora(adapted)
        report = load_weights(build("vit"), adapted.state_dict())
        assert report.is_complete


class TestLoadReport:
    report = LoadReport(
        ("w",), unexpected=tuple("abcdefg"), mismatched=(("x", (1,), (2, 2)),), resized=("w",)
    )

    def test_the_summary_names_five_of_a_kind(self):
        assert self.report.summary().splitlines() == [
            "1 tensors loaded",
            "1 resized: w",
            "1 mismatched: x (1,) in the checkpoint, (2, 2) here",
            "7 unexpected: a, b, c, d, e, ...",
        ]

    def test_the_counts_are_shown(self):
        assert repr(self.report) == (
            "LoadReport(loaded: 1, missing: 0, unexpected: 7, resized: 1, mismatched: 1)"
        )

    def test_resized_tensors_do_not_make_it_incomplete(self):
        assert LoadReport(("w",), resized=("w",)).is_complete
        assert not LoadReport(("w",), missing=("b",)).is_complete


class TestValues:
    """Tensors whose values would change, or make the module useless, are refused."""

    @pytest.mark.parametrize(
        ("tensor", "problem"),
        [
            (torch.ones(2, 2, dtype=torch.complex64), "is torch.complex64, and the module's is"),
            (torch.ones(2, 2, dtype=torch.bool), "is torch.bool, and the module's is"),
            (torch.ones(2, 2, dtype=torch.int64), "is torch.int64, and the module's is"),
            (torch.full((2, 2), torch.nan), "holds NaN or infinite values"),
            (torch.full((2, 2), torch.inf), "holds NaN or infinite values"),
            (torch.full((2, 2), 1e39, dtype=torch.float64), "overflows torch.float32"),
            (torch.ones(2, 2).to_sparse(), "is not a dense tensor with values"),
            (torch.ones(2, 2, device="meta"), "is not a dense tensor with values"),
        ],
    )
    @pytest.mark.parametrize("strict", [True, False])
    def test_are_refused_and_nothing_is_loaded(self, tensor, problem, strict):
        layer = nn.Linear(2, 2)
        before = {name: value.clone() for name, value in layer.state_dict().items()}

        with pytest.raises(ValueError, match=rf"weight of the checkpoint {problem}.*Nothing was"):
            load_weights(layer, {"weight": tensor, "bias": torch.zeros(2)}, strict=strict)
        assert same_tensors(before, layer.state_dict())

    def test_of_another_floating_type_are_converted(self):
        layer = nn.Linear(2, 2)
        load_weights(layer, {"weight": torch.eye(2).half(), "bias": torch.zeros(2).double()})
        assert layer.weight.dtype == torch.float32
        assert torch.equal(layer.weight, torch.eye(2))

    def test_that_overflow_half_precision_are_refused(self):
        with pytest.raises(ValueError, match=r"overflows torch\.float16, the module's dtype"):
            load_weights(nn.Linear(2, 2).half(), {"weight": torch.full((2, 2), 1e6)}, strict=False)

    def test_of_buffers_may_be_infinite(self):
        module = nn.Module()
        module.register_buffer("mask", torch.zeros(2))
        mask = torch.tensor([0.0, -torch.inf])
        load_weights(module, {"mask": mask})
        assert torch.equal(module.mask, mask)


class TestOtherProjects:
    def test_names_of_wrappers_are_dropped_in_any_order_and_depth(self, build, tmp_path):
        there = build("vit", seed=1)
        for prefix in ("_orig_mod.module.", "module._orig_mod.towers.model.", "towers.model."):
            state = {prefix + name: value for name, value in there.model.state_dict().items()}
            torch.save({"state_dict_ema": state}, tmp_path / "weights.pt")
            here = build("vit", tmp_path / "weights.pt", seed=2)
            assert same_tensors(there.state_dict(), here.state_dict())

    def test_the_towers_of_clip_reid_are_loaded_and_the_rest_is_reported(self, build, tmp_path):
        there = build("vit", seed=1)
        state = {"classifier.weight": torch.zeros(3, 2)}
        for name, tensor in there.model.state_dict().items():
            if name.startswith("visual."):
                state["image_encoder." + name.removeprefix("visual.")] = tensor
            elif name.startswith(("transformer.", "ln_final.", "positional_", "text_projection")):
                state["text_encoder." + name] = tensor
        torch.save(state, tmp_path / "weights.pt")

        here = build("vit", seed=2)
        report = load_weights(here, tmp_path / "weights.pt", strict=False)

        assert set(report.missing) == {"model.token_embedding.weight", "model.logit_scale"}
        assert report.unexpected == ("model.classifier.weight",)
        assert torch.equal(here.model.visual.proj, there.model.visual.proj)
        assert torch.equal(here.model.text_projection, there.model.text_projection)
