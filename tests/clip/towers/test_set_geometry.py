import pytest
import torch
from torch import nn
from torch.testing import assert_close

from clipreid_kit.clip.towers.geometry import Geometry, image_size_of
from clipreid_kit.clip.towers.position_embedding import resize_position_embedding
from clipreid_kit.clip.towers.position_table import position_table
from clipreid_kit.clip.towers.set_geometry import set_geometry

# patches of 16 at a native 64, of 32 at 64, of 16 at 160
SIZES = {
    "vit": [(128, 64), (256, 16), (32, 32), (64, 64)],
    "resnet": [(128, 64), (256, 32), (32, 32)],
    "timm": [(256, 128), (80, 320)],
    "siglip": [(256, 128), (400, 64)],
    "convnext": [(256, 128), (96, 64)],
}
CASES = [(kind, size) for kind, sizes in SIZES.items() for size in sizes]


@pytest.mark.parametrize(("kind", "size"), CASES)
def test_every_tower_runs_at_another_size(build, kind, size):
    towers = build(kind, image_size=size)
    visual = towers.model.visual
    assert towers.image_size == size
    assert image_size_of(visual) == size

    table = position_table(visual)
    assert (table is None) == (kind == "convnext")
    if table is not None:
        num_rows = visual.get_parameter(table.key).shape[-2]
        assert num_rows == table.num_prefix + table.grid[0] * table.grid[1]

    embeddings = towers.encode_image(torch.randn(2, 3, *size))
    embeddings.sum().backward()
    assert embeddings.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "size", "grids"),
    [
        ("vit", (256, 16), ((4, 4), (16, 1))),
        ("resnet", (128, 32), ((2, 2), (4, 1))),
        ("timm", (80, 320), ((10, 10), (5, 20))),
        ("siglip", (320, 80), ((10, 10), (20, 5))),
    ],
)
def test_as_many_patches_in_another_shape_need_another_table(build, kind, size, grids):
    native = build(kind).model.visual
    other = build(kind, image_size=size).model.visual
    old, new = position_table(native), position_table(other)
    assert (old.grid, new.grid) == grids

    before, after = native.get_parameter(old.key), other.get_parameter(new.key)
    assert before.shape == after.shape
    assert not torch.equal(before, after)

    rows = before.detach().reshape(-1, before.shape[-1])
    expected = resize_position_embedding(rows, old.grid, new.grid, num_prefix=old.num_prefix)
    assert_close(after.detach().reshape(rows.shape), expected)


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_only_the_table_changes(build, kind):
    native = build(kind).model.state_dict()
    other = build(kind, image_size=(320, 64)).model.state_dict()
    assert native.keys() == other.keys()

    changed = [name for name in native if not torch.equal(native[name], other[name])]
    assert len(changed) == 1
    assert "pos" in changed[0]


def test_a_frozen_table_stays_frozen(build):
    towers = build("vit").requires_grad_(requires_grad=False)
    set_geometry(towers.model.visual, Geometry((128, 64)))
    assert not any(parameter.requires_grad for parameter in towers.parameters())


def test_columns_stay_columns(build):
    visual = build("vit").model.visual
    with torch.no_grad():  # values grow to the right
        visual.positional_embedding[1:] = torch.arange(4.0).repeat(4)[:, None]

    set_geometry(visual, Geometry((64, 128)))

    grid = visual.positional_embedding[1:, 0].reshape(4, 8)
    assert (grid.diff(dim=1) > 0).all()
    assert_close(grid, grid[:1].expand(4, 8))


@pytest.mark.parametrize(
    ("kind", "size", "match"),
    [
        (
            "vit",
            (250, 128),
            r"patches of 16 x 16 \(stride 16 x 16\) cover, got 250 x 128\. "
            r"The nearest is 256 x 128",
        ),
        ("vit", (8, 64), r"got 8 x 64\. The nearest is 16 x 64"),
        ("resnet", (128, 40), r"patches of 32 x 32 .* got 128 x 40\. The nearest is 128 x 32"),
        ("timm", (250, 128), r"patches of 16 x 16 .* got 250 x 128\. The nearest is 256 x 128"),
    ],
)
def test_sizes_that_the_patches_do_not_cover(build, kind, size, match):
    with pytest.raises(ValueError, match=match):
        build(kind, image_size=size)


def test_a_trunk_of_fixed_size(build, configs):
    configs["convnext"]["vision_cfg"] |= {"timm_model_name": "gmlp_ti16_224", "image_size": 224}
    with pytest.raises(
        ValueError, match=r"that MlpMixer takes, got 256 x 128 .*fixed to its native 224 x 224"
    ):
        build("convnext", image_size=(256, 128))


def test_an_unknown_image_tower_is_refused():
    tower = nn.Linear(1, 1)
    tower.image_size = 32
    with pytest.raises(ValueError, match=r"an image tower whose size can change, got Linear"):
        set_geometry(tower, Geometry((64, 64)))
