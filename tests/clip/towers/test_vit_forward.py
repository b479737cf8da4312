import pytest
import torch
from oracles.clip_towers import vit_levels
from torch.testing import assert_close

from clipreid_kit.clip import CameraEmbedding
from clipreid_kit.clip.towers.levels import LEVELS

GEOMETRIES = [
    {"image_size": (64, 64)},
    {"image_size": (64, 32)},
    {"image_size": (50, 40), "patch_stride": (12, 7)},
]


def oracle(towers, image, **rows):
    visual = towers.model.visual
    state = {name: tensor.detach() for name, tensor in visual.state_dict().items()}
    num_heads = visual.transformer.resblocks[0].attn.num_heads
    return vit_levels(state, image, num_heads, visual.conv1.stride, **rows)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_level_equals_the_oracle(build_randomized, geometry):
    towers = build_randomized("vit", **geometry)
    images = torch.randn(2, 3, *geometry["image_size"])

    with torch.no_grad():
        levels = towers.encode_image_levels(images, LEVELS)

    for row, image in enumerate(images):
        expected = oracle(towers, image)
        for level in LEVELS:
            assert_close(getattr(levels, level)[row], expected[level], atol=2e-5, rtol=2e-5)

    assert levels.grid == towers.grid
    assert levels.patches.shape[1] == towers.grid[0] * towers.grid[1]


class TestCameraRows:
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    cameras = torch.tensor([2, 0])
    views = torch.tensor([1, 0])

    @pytest.fixture(params=["class", "all"])
    def tokens(self, request):
        return request.param

    @pytest.fixture
    def towers(self, build_randomized, tokens):
        towers = build_randomized("vit", image_size=(64, 32))
        embedding = CameraEmbedding(128, num_cameras=3, num_views=2, scale=3.0, tokens=tokens)
        torch.nn.init.normal_(embedding.table)
        towers.camera_embedding = embedding
        return towers.eval()

    @torch.no_grad()
    def test_are_added_where_the_papers_add_them(self, towers, tokens):
        levels = towers.encode_image_levels(
            self.images, LEVELS, cameras=self.cameras, views=self.views
        )

        pairs = self.cameras * 2 + self.views
        rows = 3.0 * towers.camera_embedding.table[pairs]
        argument = "class_rows" if tokens == "class" else "all_rows"
        for row, image in enumerate(self.images):
            expected = oracle(towers, image, **{argument: rows[row]})
            for level in LEVELS:
                assert_close(getattr(levels, level)[row], expected[level], atol=2e-5, rtol=2e-5)

    @torch.no_grad()
    def test_reach_every_way_to_the_embedding(self, towers):
        ids = {"cameras": self.cameras, "views": self.views}
        embeddings = towers.encode_image(self.images, **ids)
        levels = towers.encode_image_levels(self.images, ["projected"], **ids)

        assert_close(embeddings, levels.projected, atol=1e-5, rtol=1e-5)
        assert torch.equal(towers(self.images, **ids).image, embeddings)
        assert not torch.allclose(embeddings, towers.encode_image(self.images), atol=1e-3)


def test_the_last_block_runs_only_as_far_as_requested(build):
    towers = build("vit")
    shapes = []
    last_mlp = towers.model.visual.transformer.resblocks[-1].mlp
    last_mlp.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    images = torch.randn(2, 3, 64, 64)

    towers.encode_image_levels(images, ["previous"])
    assert shapes == []

    towers.encode_image_levels(images, ["previous", "unprojected", "projected"])
    assert shapes == [(2, 1, 128)]  # the class token alone

    towers.encode_image_levels(images, ["patches"])
    assert shapes == [(2, 1, 128), (2, 17, 128)]


def test_dropped_patches_have_no_grid(build, configs):
    configs["vit"]["vision_cfg"]["patch_dropout"] = 0.5
    towers = build("vit")
    images = torch.zeros(1, 3, 64, 64)

    towers.encode_image_levels(images, ["patches"])  # evaluation mode drops none
    with pytest.raises(ValueError, match=r"Patch dropout of 0\.5 leaves no complete grid"):
        towers.train().encode_image_levels(images, ["patches"])
