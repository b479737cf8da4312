import pytest
import torch
from oracles import clip_reid as oracle
from torch.nn import functional as F

from clipreid_kit.clip import ClipReIDPromptStage, import_clip_reid, load_towers, save_towers

NUM_IDENTITIES = 5


@pytest.fixture(scope="module")
def token_table():
    """Word embeddings of all tokens; float16 values, as OpenAI's."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(49408, 64, generator=generator).half().float()


@pytest.fixture
def official(token_table):
    """Build the official model with random weights, in evaluation mode."""

    def build(kind="vit", *, with_text=True, num_cameras=0, scale=1.0, **geometry):
        torch.manual_seed(0)
        table = token_table if with_text else None
        if kind == "vit":
            tower = oracle.VisionTransformer(**({"grid": (16, 8), "stride": 16} | geometry))
            widths = (64, 32)
        else:
            tower = oracle.ResNet(**({"grid": (16, 8)} | geometry))
            widths = (256, 32)
        model = oracle.OfficialModel(tower, widths, NUM_IDENTITIES, table, num_cameras, scale)
        return randomized(model).eval()

    return build


def randomized(model):
    """Move vectors and running statistics away from the 0 and 1 that initialisation leaves."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(torch.rand(tensor.shape) / 4)
    return model


@pytest.mark.parametrize("kind", ["vit", "resnet"])
class TestWholeModel:
    @pytest.fixture
    def pair(self, official, kind):
        model = official(kind)
        imported = import_clip_reid(model.state_dict())
        imported.method.eval()
        return model, imported

    @torch.no_grad()
    def test_outputs_are_those_of_the_official_model(self, pair):
        model, imported = pair
        images = torch.randn(3, 3, 256, 128)

        expected = model.levels(images)
        found = imported.towers.encode_image_levels(
            images, ["previous", "unprojected", "projected"]
        )
        for theirs, ours in zip(expected, found[:3], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

        output = imported.method(images, torch.tensor([0, 1, 1]))
        descriptor = F.normalize(model.descriptor(images), dim=1)
        torch.testing.assert_close(output.embedding, descriptor, rtol=1e-4, atol=1e-5)
        for theirs, ours in zip(model.logits(images), output.logits, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

    @torch.no_grad()
    def test_texts_are_those_of_the_official_model(self, pair):
        model, imported = pair
        labels = torch.arange(NUM_IDENTITIES)

        expected = model.texts(labels)
        stage = ClipReIDPromptStage(imported.towers, imported.prompts)

        assert expected.std(dim=0).min() > 1e-4  # the identities differ
        torch.testing.assert_close(imported.method.text_embeddings, expected, rtol=1e-4, atol=1e-5)
        texts = stage.prompts.encode(stage.towers, labels)
        torch.testing.assert_close(texts, expected, rtol=1e-4, atol=1e-5)

    def test_every_tensor_is_reported_as_loaded(self, pair):
        model, imported = pair
        report = imported.report

        assert report.loaded.keys() == model.state_dict().keys()
        assert (report.unexpected, report.dropped) == ((), {})
        # the official checkpoints have neither all words nor the scale of the logits
        assert report.missing == (
            "towers.model.logit_scale",
            "towers.model.token_embedding.weight",
        )
        own = {name.removeprefix("prompts.") for name in report.loaded.values()}
        assert own <= imported.method.state_dict().keys() | {"identity_words"}

    def test_colours_and_weights_are_those_of_the_configurations(self, pair, kind):
        _, imported = pair
        mean, weight = (0.5, 0.25) if kind == "vit" else (0.485, 1.0)
        assert imported.towers.image_mean[0] == mean
        assert imported.method.weighted_sum.weights["id"] == weight

    def test_the_towers_can_be_saved(self, pair, tmp_path):
        _, imported = pair
        save_towers(imported.towers, tmp_path)
        again = load_towers(tmp_path).eval()
        images = torch.randn(1, 3, 256, 128)
        with torch.no_grad():
            expected = imported.towers.encode_image(images)
            assert torch.equal(again.encode_image(images), expected)


class TestGeometry:
    @pytest.mark.parametrize(
        ("grid", "stride", "image_size"),
        [((21, 10), 12, (256, 128)), ((16, 16), 16, (256, 256)), ((21, 21), 12, (256, 256))],
    )
    @torch.no_grad()
    def test_of_a_vit_is_found_by_the_number_of_patches(self, official, grid, stride, image_size):
        model = official(grid=grid, stride=stride, with_text=False)
        towers = import_clip_reid(model.state_dict()).towers.eval()

        assert (towers.image_size, towers.grid) == (image_size, grid)
        images = torch.randn(1, 3, *image_size)
        expected = model.levels(images)[2]
        torch.testing.assert_close(towers.encode_image(images), expected, rtol=1e-4, atol=1e-4)

    def test_of_a_resnet_is_found(self, official):
        model = official("resnet", grid=(16, 16), with_text=False)
        towers = import_clip_reid(model.state_dict()).towers
        assert (towers.image_size, towers.grid) == ((256, 256), (16, 16))

    def test_of_another_size_has_to_be_passed(self, official):
        state = official(grid=(6, 3), stride=16, with_text=False).state_dict()
        with pytest.raises(ValueError, match=r"import_clip_reid: .* 18 patches, .*Pass image_size"):
            import_clip_reid(state)
        assert import_clip_reid(state, image_size=(96, 48)).towers.grid == (6, 3)

    def test_that_contradicts_the_table_is_an_error(self, official):
        state = official(with_text=False).state_dict()
        with pytest.raises(ValueError, match="128 patches, which fit none"):
            import_clip_reid(state, image_size=(256, 256))


class TestCameras:
    @torch.no_grad()
    def test_rows_are_added_as_in_the_official_model(self, official):
        model = official(num_cameras=6, scale=3.0, with_text=False)
        imported = import_clip_reid(model.state_dict(), camera_scale=3.0)
        images, cameras = torch.randn(3, 3, 256, 128), torch.tensor([0, 5, 2])

        found = imported.method.eval()(images, cameras=cameras).embedding

        expected = F.normalize(model.descriptor(images, cameras), dim=1)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert imported.report.loaded["cv_embed"] == "towers.camera_embedding.table"

    @pytest.mark.parametrize(("num_views", "expected"), [(0, (6, 0)), (2, (3, 2)), (6, (0, 6))])
    def test_views_are_told_from_cameras_by_the_argument(self, official, num_views, expected):
        state = official(num_cameras=6, with_text=False).state_dict()
        cameras = import_clip_reid(state, num_views=num_views).towers.camera_embedding
        assert (cameras.num_cameras, cameras.num_views) == expected

    def test_views_that_do_not_divide_the_rows_are_an_error(self, official):
        state = official(num_cameras=6, with_text=False).state_dict()
        with pytest.raises(
            ValueError, match="num_views that divides the 6 rows of cv_embed, got 4"
        ):
            import_clip_reid(state, num_views=4)

    def test_of_a_resnet_are_dropped_with_the_reason(self, official):
        state = official("resnet", num_cameras=6, with_text=False).state_dict()
        imported = import_clip_reid(state)
        assert imported.report.dropped == {"cv_embed": "CLIP-ReID adds it to a ViT only"}
        assert imported.towers.camera_embedding is None


class TestOtherCheckpoints:
    def test_of_the_baseline_have_no_texts(self, official):
        imported = import_clip_reid(official(with_text=False).state_dict())

        assert imported.prompts is None
        assert set(imported.method.weighted_sum.weights) == {"id", "triplet"}
        assert "towers.model.ln_final.weight" in imported.report.missing

    def test_prompts_without_the_text_tower_are_dropped(self, official):
        state = official().state_dict()
        state = {name: value for name, value in state.items() if "text_encoder" not in name}
        dropped = import_clip_reid(state).report.dropped
        assert dropped.keys() == {name for name in state if name.startswith("prompt_learner.")}

    def test_a_file_with_wrapped_names(self, official, tmp_path):
        state = official(with_text=False).state_dict()
        wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"state_dict": wrapped, "epoch": 60}, tmp_path / "ViT-B-16_60.pth")

        imported = import_clip_reid(tmp_path / "ViT-B-16_60.pth")

        assert imported.report.loaded.keys() == state.keys()

    def test_unknown_tensors_are_reported(self, official):
        state = official(with_text=False).state_dict() | {"jpm.weight": torch.ones(2)}
        assert import_clip_reid(state).report.unexpected == ("jpm.weight",)

    def test_of_other_projects_are_refused(self):
        with pytest.raises(ValueError, match=r"no image tower of CLIP .* tensors like base\.x"):
            import_clip_reid({"base.x": torch.ones(2)})

    def test_that_disagree_on_the_number_of_identities_are_refused(self, official):
        state = official(with_text=False).state_dict()
        state["classifier.weight"] = state["classifier.weight"][:-1]
        with pytest.raises(ValueError, match=r"classifier\.weight has 4, classifier_proj.* has 5"):
            import_clip_reid(state)

    def test_without_classifiers_and_prompts_are_refused(self, official):
        state = official(with_text=False).state_dict()
        state = {name: value for name, value in state.items() if "classifier" not in name}
        with pytest.raises(ValueError, match="it has neither classifiers nor prompts"):
            import_clip_reid(state)

    def test_shapes_that_disagree_are_refused(self, official):
        state = official(with_text=False).state_dict()
        state["bottleneck.weight"] = torch.ones(7)
        with pytest.raises(ValueError, match=r"checkpoint disagree: .*; 1 mismatched: .*norm"):
            import_clip_reid(state)


class TestTemplate:
    def test_another_structure_is_refused(self, official):
        state = official().state_dict()
        with pytest.raises(ValueError, match="does not hold the words of the template"):
            import_clip_reid(state, template="A {tokens} person.")

    @pytest.fixture
    def pretrained(self, token_table, tmp_path):
        state = {"token_embedding.weight": token_table, "logit_scale": torch.tensor(4.6)}
        torch.save(state, tmp_path / "clip.pt")
        return tmp_path / "clip.pt"

    def test_the_words_of_the_first_model_are_loaded(self, official, pretrained, token_table):
        imported = import_clip_reid(official().state_dict(), pretrained=pretrained)
        assert imported.report.is_complete
        assert torch.equal(imported.towers.model.token_embedding.weight, token_table)

    def test_a_template_with_other_words_is_refused(self, official, pretrained):
        state = official().state_dict()
        with pytest.raises(ValueError, match=r"template 'A photo of a \{tokens\} vehicle"):
            import_clip_reid(
                state, template="A photo of a {tokens} vehicle.", pretrained=pretrained
            )

    def test_without_them_the_words_of_the_template_are_those_of_the_checkpoint(
        self, official, token_table
    ):
        table = import_clip_reid(official().state_dict()).towers.model.token_embedding.weight
        assert torch.equal(table[oracle.TEMPLATE[-3:]], token_table[oracle.TEMPLATE[-3:]])
        assert not torch.equal(table[5], token_table[5])
