import pytest
import torch
import torchvision
from oracles.trans_reid import TransReID
from torch import nn
from torch.testing import assert_close

from clipreid_kit.clip import ClipBaseline, import_reid_backbone, load_towers, save_towers

SIZE = (64, 32)


def randomized(model):
    torch.manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(torch.rand(tensor.shape) / 4)
    return model.eval()


def resnet(last_stride, pool=None):
    """The ResNet-18 that both projects have, as the mean of its last feature map."""
    model = randomized(torchvision.models.resnet18())
    model.fc = nn.Identity()
    if last_stride == 1:
        model.layer4[0].conv1.stride = (1, 1)
        model.layer4[0].downsample[0].stride = (1, 1)
    if pool is not None:
        model.maxpool = pool
    return model


@torch.no_grad()
def assert_same(towers, model, *rows):
    images = torch.randn(2, 3, *towers.image_size)
    assert_close(towers.eval().encode_image(images), model(images, *rows), rtol=1e-4, atol=1e-4)


class TestFastReid:
    @pytest.fixture
    def model(self):
        return resnet(last_stride=1, pool=nn.MaxPool2d(3, stride=2, ceil_mode=True))

    @pytest.fixture
    def state(self, model):
        state = {f"backbone.{name}": value for name, value in model.state_dict().items()}
        heads = {"heads.weight": torch.ones(5, 512), "heads.bottleneck.0.bias": torch.ones(512)}
        return state | heads

    def test_embeddings_are_those_of_the_backbone(self, state, model, tmp_path):
        torch.save({"model": state, "iteration": 9}, tmp_path / "model_final.pth")
        towers, project, report = import_reid_backbone(
            tmp_path / "model_final.pth", image_size=SIZE
        )

        assert project == "fast-reid"
        assert_same(towers, model)
        assert not report.unexpected
        assert not report.missing
        assert report.dropped.keys() == {"heads.weight", "heads.bottleneck.0.bias"}
        assert report.loaded["backbone.conv1.weight"] == "model.visual.trunk.conv1.weight"

    def test_the_first_pooling_is_saved(self, state, model, tmp_path):
        save_towers(import_reid_backbone(state, image_size=SIZE).towers, tmp_path)
        assert_same(load_towers(tmp_path), model)

    def test_colours_and_pooling_are_reported(self, state):
        state["pixel_mean"] = torch.tensor([51.0, 102.0, 127.5]).view(1, 3, 1, 1)
        state["pixel_std"] = torch.full((1, 3, 1, 1), 25.5)
        state["heads.pool_layer.p"] = torch.tensor([3.0])
        towers, _, report = import_reid_backbone(state)

        assert towers.image_size == (256, 128)
        assert towers.image_mean == pytest.approx((0.2, 0.4, 0.5))
        assert towers.image_std == pytest.approx((0.1, 0.1, 0.1))
        assert report.dropped["pixel_mean"] == "in image_mean and image_std"
        assert "GeM" in report.dropped["heads.pool_layer.p"]

    @pytest.mark.parametrize(
        ("name", "layer"),
        [
            ("backbone.layer1.0.bn1.IN.weight", "instance normalisation"),
            ("backbone.layer1.0.se.fc.0.weight", "squeeze-and-excitation"),
            ("backbone.NL_2.0.g.weight", "non-local"),
        ],
    )
    def test_other_layers_are_refused(self, state, name, layer):
        with pytest.raises(ValueError, match=f"This ResNet has {layer}.*cannot be imported"):
            import_reid_backbone(state | {name: torch.ones(2)})


class TestTorchreid:
    @pytest.mark.parametrize("last_stride", [2, 1])
    def test_embeddings_are_those_of_the_backbone(self, last_stride):
        model = resnet(last_stride)
        heads = {"classifier.weight": torch.ones(5, 512)}
        if last_stride == 1:
            heads |= {"fc.0.weight": torch.ones(512, 512)}
        wrapped = {f"module.{name}": v for name, v in (model.state_dict() | heads).items()}

        towers, project, report = import_reid_backbone({"state_dict": wrapped}, image_size=SIZE)

        assert project == "torchreid"
        assert_same(towers, model)
        assert report.is_complete
        assert report.dropped.keys() == heads.keys()

    def test_another_number_of_blocks_is_refused(self):
        state = resnet(2).state_dict()
        state = {name: value for name, value in state.items() if "layer2.1" not in name}
        with pytest.raises(ValueError, match=r"no ResNet with \[2, 1, 2, 2\] blocks"):
            import_reid_backbone(state)

    def test_unknown_tensors_are_reported(self):
        state = resnet(2).state_dict() | {"extra": torch.ones(2)}
        assert import_reid_backbone(state).report.unexpected == ("extra",)

    @pytest.mark.parametrize("name", ["conv1.conv.weight", "conv2.0.conv2a.conv1.weight"])
    def test_osnet_is_refused(self, name):
        with pytest.raises(
            ValueError, match="This is an OSNet, which neither torchvision nor timm"
        ):
            import_reid_backbone({name: torch.ones(2)})


class TestTransReID:
    @pytest.mark.parametrize("jigsaw", [False, True])
    def test_embeddings_are_those_of_the_global_branch(self, jigsaw):
        model = randomized(TransReID(128, jigsaw=jigsaw))
        towers, project, report = import_reid_backbone(model.state_dict())

        assert project == "TransReID"
        assert (towers.image_size, towers.grid) == ((256, 128), (16, 8))
        assert towers.image_mean == (0.5, 0.5, 0.5)
        assert_same(towers, model)
        assert report.is_complete
        assert "base.fc.weight" in report.dropped
        assert ("base.blocks.1.norm1.weight" in report.dropped) == jigsaw

    def test_unknown_cameras_get_the_mean_row(self):
        model = randomized(TransReID(128, num_cameras=6))
        towers, _, report = import_reid_backbone(model.state_dict(), camera_scale=2.0)
        assert_same(towers, model, 2.0 * model.base.sie_embed.mean(dim=0))
        assert "position table" in report.dropped["base.sie_embed"]

    def test_overlapping_patches_are_refused(self):
        with pytest.raises(ValueError, match=r"210 patches.*overlapping patches"):
            import_reid_backbone(TransReID(210).state_dict())

    def test_another_size_is_passed(self):
        model = randomized(TransReID(8))
        assert_same(import_reid_backbone(model.state_dict(), image_size=SIZE).towers, model)

    def test_attention_without_biases_is_refused(self):
        state = TransReID(128).state_dict()
        state = {name: value for name, value in state.items() if "qkv.bias" not in name}
        with pytest.raises(ValueError, match="has no biases, as in TransReID's vit_small"):
            import_reid_backbone(state)


def test_a_method_trains_on_an_imported_backbone():
    towers = import_reid_backbone(TransReID(8).state_dict(), image_size=SIZE).towers
    method = ClipBaseline(towers, 3, weights={"id": 1.0})
    method(torch.randn(4, 3, *SIZE), torch.tensor([0, 0, 1, 2])).loss.backward()
    assert towers.model.visual.trunk.patch_embed.proj.weight.grad.abs().sum() > 0


def test_other_checkpoints_are_refused():
    with pytest.raises(ValueError, match=r"No ResNet of fast-reid .* the first base\.layer1\.x"):
        import_reid_backbone({"base.layer1.x": torch.ones(2)})
