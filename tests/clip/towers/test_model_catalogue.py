import open_clip
import pytest
import torch
from open_clip.constants import INCEPTION_MEAN, OPENAI_DATASET_MEAN

from clipreid_kit.clip.towers.model_catalogue import build_model, find_weights, model_config


class TestModelConfig:
    def test_names_of_open_clip_and_of_small_models(self):
        name, config = model_config("ViT-B/16")
        assert name == "ViT-B-16"
        assert config == open_clip.get_model_config("ViT-B-16")
        assert model_config("reid-tiny-vit")[1]["embed_dim"] == 128

    def test_the_configuration_is_new_each_time(self):
        model_config("ViT-B-32")[1]["vision_cfg"]["width"] = 1
        assert model_config("ViT-B-32")[1]["vision_cfg"]["width"] == 768

    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            ("ViT-B16", "ViT-B-16"),
            ("vit-l-14-336x", "ViT-L-14-336"),
            ("reid-tiny", "reid-tiny-vit"),
        ],
    )
    def test_an_unknown_name_lists_the_nearest(self, name, nearest):
        with pytest.raises(ValueError, match=rf"got '{name}'\. The nearest: .*{nearest}"):
            model_config(name)


class TestFindWeights:
    def test_no_weights(self):
        source = find_weights("reid-tiny-vit", None)
        assert source.path is None
        assert not source.quick_gelu
        assert source.image_mean == OPENAI_DATASET_MEAN

    def test_colours_without_a_tag_are_those_that_all_tags_share(self):
        assert find_weights("ViT-B-16-SigLIP", None).image_mean == INCEPTION_MEAN
        assert find_weights("ViT-L-14", None).image_mean == OPENAI_DATASET_MEAN  # its tags differ

    @pytest.mark.parametrize(
        ("name", "tag", "quick_gelu", "mean"),
        [
            ("ViT-B-16", "openai", True, OPENAI_DATASET_MEAN),
            ("ViT-B-16", "laion2b_s34b_b88k", False, OPENAI_DATASET_MEAN),
            ("ViT-B-16", "laion2b-s34b-b88k", False, OPENAI_DATASET_MEAN),
            ("ViT-L-14", "laion2b_s32b_b82k", False, INCEPTION_MEAN),
        ],
    )
    def test_a_tag_brings_its_activation_and_colours(
        self, monkeypatch, tmp_path, name, tag, quick_gelu, mean
    ):
        path = tmp_path / "weights.bin"
        monkeypatch.setattr(open_clip, "download_pretrained", lambda config: str(path))

        source = find_weights(name, tag)

        assert source.path == path
        assert source.quick_gelu == quick_gelu
        assert source.image_mean == mean

    def test_a_failed_download_has_a_remedy(self, monkeypatch):
        def refuse(config):
            raise FileNotFoundError("offline")

        monkeypatch.setattr(open_clip, "download_pretrained", refuse)
        with pytest.raises(
            ValueError,
            match=r"The weights 'openai' of RN50 could not be downloaded "
            r"\(FileNotFoundError: offline\)\. Check the network",
        ):
            find_weights("RN50", "openai")

    @pytest.mark.parametrize(
        ("name", "tag", "match"),
        [
            (
                "ViT-B-16",
                "opnai",
                r"a tag of ViT-B-16, or a file, got 'opnai'\. The nearest of its tags: openai",
            ),
            (
                "reid-tiny-vit",
                "openai",
                r"a tag of reid-tiny-vit, or a file, got 'openai'\. It has no tags",
            ),
        ],
    )
    def test_an_unknown_tag_lists_the_nearest(self, name, tag, match):
        with pytest.raises(ValueError, match=match):
            find_weights(name, tag)

    @pytest.mark.parametrize("as_path", [str, lambda path: path])
    def test_a_missing_path(self, tmp_path, as_path):
        with pytest.raises(
            ValueError, match=r"pretrained as a file that exists, got .*gone\.pt\. Check the path"
        ):
            find_weights("ViT-B-16", as_path(tmp_path / "gone.pt"))

    def test_a_missing_file_name(self):
        with pytest.raises(ValueError, match=r"a file that exists, got gone\.safetensors"):
            find_weights("ViT-B-16", "gone.safetensors")

    def test_a_folder(self, tmp_path):
        with pytest.raises(ValueError, match=r"a file with weights, got the folder [^ ]*$"):
            find_weights("ViT-B-16", tmp_path)

    def test_a_folder_of_save_towers(self, tmp_path):
        (tmp_path / "card.json").touch()
        with pytest.raises(
            ValueError, match=r"Load a folder written by save_towers with load_towers"
        ):
            find_weights("ViT-B-16", tmp_path)


class TestBuildModel:
    @pytest.mark.parametrize("kind", ["vit", "resnet", "siglip"])
    def test_the_seed_decides_and_the_global_generator_is_unchanged(self, configs, kind):
        before = torch.random.get_rng_state()
        first = build_model(configs[kind], 3).state_dict()
        assert torch.equal(torch.random.get_rng_state(), before)

        torch.rand(1)
        again = build_model(configs[kind], 3).state_dict()
        other = build_model(configs[kind], 4).state_dict()

        assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
        assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())

    def test_random_weights_are_those_of_open_clip(self, configs):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            expected = open_clip.CLIP(**configs["vit"]).state_dict()

        found = build_model(configs["vit"], seed=5).state_dict()

        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())

    @pytest.mark.parametrize("kind", ["vit", "resnet", "timm", "siglip", "coca"])
    def test_is_float32_on_the_cpu_whatever_the_defaults(self, configs, kind):
        torch.set_default_dtype(torch.float64)
        try:
            with torch.device("meta"):
                model = build_model(configs[kind], seed=0)
        finally:
            torch.set_default_dtype(torch.float32)

        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}

    def test_the_configuration_is_unchanged(self, configs):
        before = repr(configs["siglip"])
        build_model(configs["siglip"], seed=0)
        assert repr(configs["siglip"]) == before

    @pytest.mark.parametrize(
        "change", [{"vision_cfg": {"timm_model_name": "no_such_trunk"}}, {"no_such_option": 1}]
    )
    def test_a_configuration_that_cannot_be_built(self, configs, change):
        with pytest.raises(
            ValueError,
            match=r"expected a configuration that open_clip can build here, got .*no_such",
        ):
            build_model({**configs["vit"], **change}, seed=0)

    def test_base_weights_are_not_downloaded(self, configs, monkeypatch):
        built = []

        def record(**options):
            built.append(options)
            return torch.nn.Linear(1, 1)

        monkeypatch.setattr(open_clip, "CustomTextCLIP", record)
        configs["timm"]["vision_cfg"]["timm_model_pretrained"] = True
        configs["timm"]["text_cfg"] = {"hf_model_name": "roberta-base"}

        build_model(configs["timm"], seed=0)

        assert built[0]["vision_cfg"]["timm_model_pretrained"] is False
        assert built[0]["text_cfg"]["hf_model_pretrained"] is False
